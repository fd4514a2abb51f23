"""A process that commits until it is killed, and says after each acknowledgement which it was: for crash_test.py.

Commit n gives 40 dependents new sets, by a seed that n alone decides, completes them at sequence n and records n.
"""

import asyncio
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from services.propagation.conformance.harness import SETTINGS
from services.propagation.store import embedded_recent
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.interface import Numbers

RESOURCES, INPUTS = 3_000, 200
_TOGETHER = 20


def sets_of(number: int) -> dict[int, list[int]]:
    """What commit `number` declares."""
    rng = np.random.default_rng(number)
    owners = rng.permutation(RESOURCES)[:40].tolist()
    # Input 7 is a hub; the others have a few dependents each.
    return {owner: [7, *rng.integers(0, INPUTS, 3).tolist()] for owner in owners}


def arrays(sets: dict[int, list[int]]) -> tuple[Numbers, Numbers, Numbers]:
    """The sets as a commit takes them."""
    owners = sorted(sets)
    counts = np.array([len(sets[owner]) for owner in owners], np.uint32)
    return np.array(owners, np.uint32), counts, np.array([one for o in owners for one in sets[o]], np.uint32)


async def commit_one(store: Any, number: int) -> None:
    """Writes commit `number` and says so when it is durable."""
    commit = store.begin()
    owners, counts, inputs = arrays(sets_of(number))
    commit.replace_dependencies(0, owners, counts, inputs)
    hashes = np.frombuffer(number.to_bytes(16, "big") * len(owners), "V16")
    commit.complete(0, owners, number, hashes, np.ones(len(owners), np.bool_), number + 1)
    commit.intern_resources([b"made in %d" % number])
    commit.put_record("commits", number.to_bytes(8, "big"), b"")
    durable = store.write(commit)
    if number % 7 == 0:
        store.compact(300)
    await durable
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def small_pieces() -> None:
    """Has recent edges spilled early and in many slices, so that kills find spills half done."""
    embedded_recent._DUE, embedded_recent._SLICE = 1_500, 100


async def main(directory: Path) -> None:
    """Opens the store and goes on where the last process was killed."""
    small_pieces()
    store = EmbeddedStore.open(directory, settings=SETTINGS)
    if not store.resource_count:
        commit = store.begin()
        commit.intern_views(["html"])
        commit.intern_inputs(commit.intern_resources([b"r%d" % at for at in range(RESOURCES)])[:INPUTS], "content")
        await store.write(commit)
    [(last, _)] = list(store.records("commits", reverse=True, limit=1)) or [(b"\0", b"")]
    for first in itertools.count(int.from_bytes(last, "big") + 1, _TOGETHER):
        async with asyncio.TaskGroup() as group:
            for number in range(first, first + _TOGETHER):
                group.create_task(commit_one(store, number))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
