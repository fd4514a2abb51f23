"""kill -9 while commits are written: every acknowledged one is there, whole, and both directions agree."""

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from services.propagation.conformance.crash_writer import INPUTS, RESOURCES, sets_of
from services.propagation.conformance.harness import SETTINGS, fold_all, forward_edges, reverse_edges
from services.propagation.store.embedded import EmbeddedStore

_KILLS = 4
_SEED = 20


def _write_until_killed(directory: Path, acknowledged: int) -> int:
    """Runs a writer, kills it after so many acknowledgements; answers the number of the last one."""
    command = [sys.executable, "-m", "services.propagation.conformance.crash_writer", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        last = 0
        for at, line in enumerate(writer.stdout):
            if line.endswith("\n"):
                last = max(last, int(line))
            if at == acknowledged:
                writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL, "the writer ended by itself"
    return last


def test_kills_lose_nothing_acknowledged_and_leave_nothing_half_done(tmp_path):
    rng = random.Random(_SEED)
    print(f"seed {_SEED}")
    for round_number in range(_KILLS):
        last = _write_until_killed(tmp_path / "shard", rng.randint(1, 300))
        asyncio.run(_check(tmp_path / "shard", last, 2 * round_number + 2))


async def _check(directory: Path, acknowledged: int, epoch: int) -> None:
    store = EmbeddedStore.open(directory, settings=SETTINGS)
    assert store.epoch == epoch
    commits = [int.from_bytes(key, "big") for key, _ in store.records("commits")]
    assert commits == list(range(1, len(commits) + 1)), "a commit is missing before one that is there"
    assert len(commits) >= acknowledged, "an acknowledged commit is lost"
    sets: dict[int, tuple[int, set[int]]] = {}
    for number in commits:
        sets.update({owner: (number, set(inputs)) for owner, inputs in sets_of(number).items()})
    edges = {(owner, one) for owner, (_, inputs) in sets.items() for one in inputs}
    assert forward_edges(store, 0) == edges and store.edge_count == len(edges)
    assert reverse_edges(store, 0, INPUTS) == edges
    every = np.arange(RESOURCES, dtype=np.uint32)
    rendered = [sets[owner][0] if owner in sets else 0 for owner in range(RESOURCES)]
    assert store.rendered_at(0, every).tolist() == rendered
    assert store.output_changed_at(0, every).tolist() == [number + 1 if number else 0 for number in rendered]
    assert store.hashes(0, every).tobytes() == b"".join(number.to_bytes(16, "big") for number in rendered)
    names = [b"made in %d" % number for number in commits]
    made = store.find_resources(names)
    assert store.resource_names(made.astype(np.uint32)) == names and len(set(made.tolist())) == len(names)
    if epoch % 4 == 0:
        fold_all(store)
        assert reverse_edges(store, 0, INPUTS) == edges
    await store.close()
