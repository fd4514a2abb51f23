"""The stores under test, each as a shard that can be opened again, and short ways to say what a test commits."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from libs.embedded.settings import Settings
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.interface import Bytes16, Commit, InputChange, Numbers
from services.propagation.store.logged.memory_log import MemoryLog
from services.propagation.store.logged.records import Position
from services.propagation.store.logged.replica import Replica
from services.propagation.store.logged.store import LoggedStore, NumberedStore
from services.propagation.store.memory import MemoryDisk, MemoryStore

KINDS = ("memory", "embedded", "logged")
"""`logged`: the embedded store under a log in memory; each second time it is opened, it is made anew from the log."""

# Small buffers, so that tests reach files, not only memory tables.
SETTINGS = Settings(cache_bytes=1 << 20, write_buffer_bytes=1 << 20, reserve_bytes=0)


class Shard:
    """One shard of a kind of store, in a directory of its own or in memory."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._disk = MemoryDisk()
        self._log = MemoryLog()
        self._opened = 0
        self._directory = tempfile.TemporaryDirectory(prefix="conformance-")

    def open(self) -> Any:
        """The shard's store; the one opened before must be closed."""
        if self._kind == "memory":
            return MemoryStore(self._disk)
        if self._kind == "logged":
            return self._open_logged()
        return self._open_embedded("shard")

    def _open_embedded(self, name: str) -> EmbeddedStore:
        # A cache of a few names, so that most are looked up on disk.
        return EmbeddedStore.open(Path(self._directory.name) / name, settings=SETTINGS, cache_bytes=4_096)

    def _open_logged(self) -> LoggedStore:
        self._opened += 1
        below = cast("NumberedStore", self._open_embedded(f"shard{self._opened // 2}"))
        return open_on(below, self._log)

    async def reopen(self, store: Any) -> Any:
        """Closes and opens."""
        await store.close()
        return self.open()

    def remove(self) -> None:
        """Removes the directory."""
        self._directory.cleanup()


def open_on(below: NumberedStore, log: MemoryLog) -> LoggedStore:
    """A store on the log for a new owner: `below` is brought up to its end."""
    replica = Replica(below)
    for offset in range(replica.begins_at, len(log.records)):
        replica.take(offset, log.records[offset])
    last = replica.caught_up()
    position = Position(last.epoch + 1, last.number)
    return LoggedStore(below, log.take_over(position), position)


def run(kind: str, body: Callable[[Shard, Any], Coroutine[Any, Any, None]]) -> None:
    """Runs a test's body on a new shard and its open store."""

    async def whole() -> None:
        shard = Shard(kind)
        store = shard.open()
        try:
            await body(shard, store)
        finally:
            await store.close()
            shard.remove()

    asyncio.run(whole())


def u32(*values: int) -> Numbers:
    """An array of numbers."""
    return np.array(values, np.uint32)


def bytes16(values: Iterable[bytes]) -> Bytes16:
    """An array of 16-byte values."""
    return np.frombuffer(b"".join(values), "V16")


def version(number: int) -> bytes:
    """A version."""
    return number.to_bytes(16, "big")


def change(at: int, root: int = 0) -> InputChange:
    """A change."""
    return InputChange(at, version(at), root or at)


def csr(sets: Mapping[int, Iterable[int]]) -> tuple[Numbers, Numbers, Numbers]:
    """(dependents, counts, inputs) of sets by dependent."""
    ordered = [(dependent, list(inputs)) for dependent, inputs in sorted(sets.items())]
    return (
        u32(*[dependent for dependent, _ in ordered]),
        u32(*[len(inputs) for _, inputs in ordered]),
        u32(*[one for _, inputs in ordered for one in inputs]),
    )


def edges_of(dependents: Numbers, inputs: Numbers) -> set[tuple[int, int]]:
    """Parallel arrays as a set of pairs; fails when a pair stands there twice."""
    pairs = list(zip(dependents.tolist(), inputs.tolist(), strict=True))
    assert len(pairs) == len(set(pairs)), "an edge is named twice"
    return set(pairs)


def forward_edges(store: Any, view: int) -> set[tuple[int, int]]:
    """All (dependent, input) of a view, as the forward direction has them."""
    resources = np.arange(store.resource_count, dtype=np.uint32)
    counts, inputs = store.dependencies(view, resources)
    return edges_of(np.repeat(resources, counts), inputs)


def reverse_edges(store: Any, view: int, inputs: int) -> set[tuple[int, int]]:
    """All (dependent, input) of a view and the first `inputs` inputs, as the reverse direction has them."""
    return {(dependent, number) for number in range(inputs) for dependent in store.dependents(number).get(view, ())}


def fold_all(store: Any, budget: int = 100) -> int:
    """Compacts until nothing is left; answers how many edges were folded."""
    total = 0
    while folded := store.compact(budget):
        total += folded
    return total


async def numbered(store: Any, resources: int, inputs: int = 0, views: Iterable[str] = ("html",)) -> None:
    """Commits views, resources r0.., and the content of the first of them as inputs: input i is resource i's."""
    commit: Commit = store.begin()
    commit.intern_views(list(views))
    commit.intern_resources([b"r%d" % number for number in range(resources)])
    commit.intern_inputs(np.arange(inputs, dtype=np.uint32), "content")
    durable: Awaitable[None] = store.write(commit)
    await durable
