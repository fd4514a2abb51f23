"""N29: a change with ten million dependents is fanned out, leased, rendered and listed in 64 MiB above idle.

The graph is put into the store's families in bulk, as loading and folding would leave it. The engine is a process of
its own, so that the kernel tells its peak.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import cast

import numpy as np

from libs.clock.clock import SystemClock
from libs.embedded.settings import MIB, Settings
from libs.embedded.store import EmbeddedStore as Database
from services.propagation.domain import listing
from services.propagation.domain.change import Cause, Change
from services.propagation.domain.completion import Completion
from services.propagation.domain.engine import Engine
from services.propagation.domain.shard import Settings as EngineSettings
from services.propagation.domain.views import View
from services.propagation.store import embedded_arrivals as arrivals
from services.propagation.store import hub_sets
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.embedded_layout import FAMILIES, SCHEMA, VERSION, u16, u32, u64
from services.propagation.store.interface import Store

MEMBERS = 10_000_000
PAGES = 12_000_000
_SEED = 29
HUB = b"template/hub"
_NAMES = 128
_BATCH = 16_384
_COMPLETED = 40
_MOST_KIB = 64 << 10


async def numbers(path: Path) -> None:
    """The view, the hub (resource 0, input 0), and how many resources there will be."""
    store = EmbeddedStore.open(path)
    commit = store.begin()
    commit.intern_views(["html"])
    commit.intern_named_inputs([HUB], "content")
    await store.write(commit)
    await store.close()


def fill(path: Path) -> None:
    """Pages, resources 1 and on, ten million of which, by the seed, depend on the hub."""
    members = np.ones(PAGES + 1, np.bool_)
    members[0] = False
    members[1 + np.random.default_rng(_SEED).choice(PAGES, PAGES - MEMBERS, replace=False)] = False
    chosen = np.flatnonzero(members).astype(np.uint32)
    with Database.open(path, schema=SCHEMA, version=VERSION, families=FAMILIES) as database:
        last = PAGES + 1

        def blocks():
            for block in range((last + _NAMES - 1) // _NAMES):
                names = [
                    b"page/%09d" % number if number else HUB
                    for number in range(block * _NAMES, min(last, (block + 1) * _NAMES))
                ]
                yield u32(block), b"\0".join(names)

        def parts():
            size = 1 << hub_sets.BITS
            for part in range((last + size - 1) // size):
                low, high = np.searchsorted(chosen, [part * size, (part + 1) * size])
                yield arrivals.hub_prefix(0) + u16(0) + u16(part), hub_sets.encode(chosen[low:high])

        database.ingest("name_blocks", blocks())
        database.ingest("reverse", parts())
        batch = database.batch()
        batch.put(database.family("meta"), b"resources", u64(last))
        database.write_through(batch)


def memory_kib(name: str) -> int:
    """VmRSS or VmHWM of this process (proc(5), status)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def forget_peak() -> None:
    """The peak is counted from now on (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


async def enumerate_hub(path: Path) -> dict[str, int]:
    """Publishes, leases and completes some batches, lists every dependent; what it counted, and its memory."""
    # The defaults of the service's configuration.
    store = EmbeddedStore.open(path, settings=Settings(cache_bytes=32 * MIB, write_buffer_bytes=32 * MIB))
    engine = Engine(cast("Store", store), SystemClock(), Random(1), EngineSettings(), [View("html", ("page/",))])
    idle = memory_kib("VmRSS")
    forget_peak()
    _, durable = engine.publish(Change("c", HUB.decode(), ("content",), bytes(15) + b"\1", Cause("edit")))
    assert durable is not None
    await durable
    (root,) = engine.shard.roots.values()
    peaks = [memory_kib("VmHWM")]
    completed = 0
    for _ in range(_COMPLETED):
        (grant,) = engine.lease("x", {"html": _BATCH})
        ids = grant.lease.ids
        assert grant.names.count(b"\0") == len(ids) - 1
        hashes = np.frombuffer(np.random.default_rng(len(ids)).bytes(16 * len(ids)), "V16")
        none = np.empty(0, np.uint32)
        done = Completion(grant.lease.id, grant.lease.fencing, ids, hashes, None, (), none, none, 1.0, completed)
        answer, durable = engine.complete(done)
        assert durable is not None
        await durable
        completed += answer.accepted
    peaks.append(memory_kib("VmHWM"))
    listed = 0
    for _, items in listing.dependents(engine.shard, 0, None):
        for page in listing.pages(items, 0, 5_000):
            listed += store.packed_names(page).count(b"\0") + 1
    told = {"total": root.total, "pending": root.pending, "completed": completed, "listed": listed}
    told |= {"idle_kib": idle, "peak_kib": memory_kib("VmHWM"), "published_kib": peaks[0], "completed_kib": peaks[1]}
    await store.close()
    return told


def test_n29_a_hub_of_ten_million_edges_is_enumerated_in_64_mib(tmp_path):
    path = tmp_path / "data"
    asyncio.run(numbers(path))
    fill(path)
    paths = os.pathsep.join(os.path.abspath(one) for one in sys.path if one)
    done = subprocess.run(
        [sys.executable, __file__, str(path)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(_SEED, told)
    assert told["total"] == told["listed"] == MEMBERS
    assert told["completed"] == _COMPLETED * _BATCH
    assert told["pending"] == MEMBERS - told["completed"]
    assert told["peak_kib"] - told["idle_kib"] <= _MOST_KIB


if __name__ == "__main__":
    print(json.dumps(asyncio.run(enumerate_hub(Path(sys.argv[1])))))
