"""Engines on a log in memory, and a shelf in memory that fails as it is told: the real directories, readers and
snapshots stand between."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, cast

from libs.kafka.consumer import Batch, Partition, Record
from services.propagation.conformance.harness import SETTINGS
from services.propagation.sharded.directory import ShardDirectory
from services.propagation.sharded.following import Following
from services.propagation.sharded.snapshots.snapshots import Snapshots
from services.propagation.sharded.topic import LogTopic
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.logged.memory_log import MemoryLog
from services.propagation.store.logged.place import KIND
from services.propagation.store.logged.records import Position
from services.propagation.store.logged.store import LoggedStore, NumberedStore

PARTITION = ("log", 0)
TOPIC = LogTopic("log", b"cluster/7")
HOUR_S = 3600.0


class Killed(BaseException):
    """The process ends here."""


class Hands:
    """Counts what is done to shelf and log, and is told when to fail."""

    def __init__(self) -> None:
        self.done = 0
        self.ends_at: int | None = None
        self.failure: BaseException = Killed()

    def move(self) -> None:
        """Raises before the step at which all ends."""
        if self.ends_at is not None and self.done >= self.ends_at:
            raise self.failure
        self.done += 1


class MemoryShelf:
    """See `Shelf`."""

    place = "the shelf"

    def __init__(self, hands: Hands) -> None:
        self.hands = hands
        self.kept: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}

    async def entries(self) -> dict[str, bytes]:
        """See `Shelf.entries`."""
        await self._move()
        return dict(sorted(self.kept.items()))

    async def put_entry(self, name: str, content: bytes) -> None:
        """See `Shelf.put_entry`."""
        await self._move()
        self.kept[name] = content

    async def remove_entry(self, name: str) -> None:
        """See `Shelf.remove_entry`."""
        await self._move()
        self.kept.pop(name, None)

    async def put_part(self, name: str, at: int, content: bytes) -> None:
        """See `Shelf.put_part`."""
        await self._move()
        self.parts[name, at] = content

    async def part(self, name: str, at: int) -> bytes | None:
        """See `Shelf.part`."""
        await self._move()
        return self.parts.get((name, at))

    async def remove_part(self, name: str, at: int) -> None:
        """See `Shelf.remove_part`."""
        await self._move()
        self.parts.pop((name, at), None)

    async def _move(self) -> None:
        self.hands.move()
        await asyncio.sleep(0)


class MemoryConsumer:
    """A consumer of the log; the options of those who make one are the log."""

    def __init__(self, log: Any, *, start: bool, uncommitted: bool) -> None:
        self._log: MemoryLog = log
        self._next = 0
        self._partition: Partition = PARTITION

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """See `Consumer.bounds`."""
        return self._log.begins_at, len(self._log.records)

    async def assign(self, positions: dict[Partition, int]) -> None:
        """See `Consumer.assign`."""
        [(self._partition, self._next)] = positions.items()

    async def batch(self) -> Batch:
        """See `Consumer.batch`."""
        if self._next < self._log.begins_at:
            return Batch(lost=[self._partition])
        found = self._log.records[self._next : self._next + 3]
        if not found:
            await asyncio.get_running_loop().create_future()  # who waits looks again after a while
        records = [Record(*PARTITION, self._next + at, None, one, 0) for at, one in enumerate(found)]
        self._next += len(records)
        return Batch(records)

    async def close(self) -> None:
        """See `Consumer.close`."""


class ManualClock:
    """Wall time by hand."""

    def __init__(self) -> None:
        self.now_s = 1e9

    def time_ns(self) -> int:
        """See `Clock.time_ns`."""
        return int(self.now_s * 1e9)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Lets others go on."""
        await asyncio.sleep(0.001)


class World:
    """A log, a shelf, and engines by the names of their directories."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = MemoryLog()
        self.hands = Hands()
        self.shelf: Any = MemoryShelf(self.hands)
        self.clock = ManualClock()
        self.trimmed: list[int] = []

    def snapshots(self, topic: LogTopic = TOPIC) -> Snapshots:
        """As an engine that begins makes them."""

        async def trim(offset: int) -> None:
            self.hands.move()
            self.log.trim(offset)
            self.trimmed.append(offset)

        rng = Random(len(self.trimmed))  # noqa: S311  a test
        return Snapshots(self.shelf, topic.identity.decode(), HOUR_S, trim, self.clock, rng)

    def directory(self, name: str, snapshots: Snapshots | None) -> ShardDirectory:
        """Of an engine."""
        place = self.path / name / "shard-0"
        return ShardDirectory(place, lambda at: EmbeddedStore.open(at, settings=SETTINGS), TOPIC, snapshots)

    async def following(self, name: str, snapshots: Snapshots | None = None) -> Following:
        """An engine that follows the log."""
        options: Any = self.log
        return await Following.open(options, PARTITION, self.directory(name, snapshots or self.snapshots()))

    async def leading(self, name: str, snapshots: Snapshots | None = None) -> tuple[LoggedStore, EmbeddedStore]:
        """An engine that has taken over."""
        following = await self.following(name, snapshots)
        last = await following.catch_up()
        embedded = await following.release()
        position = Position(last.epoch + 1, last.number)
        return LoggedStore(cast("NumberedStore", embedded), self.log.take_over(position), position), embedded

    async def read(self, name: str, snapshots: Snapshots | None = None) -> dict[bytes, bytes]:
        """What an engine on that directory has when it has read the log, then ends."""
        following = await self.following(name, snapshots)
        try:
            await following.catch_up()
            return kept(following.embedded)
        finally:
            await following.close()


def put(store: LoggedStore, key: int) -> Awaitable[None]:
    """A commit."""
    commit = store.begin()
    commit.put_record("kind", b"%06d" % key, b"x" * 100)
    commit.intern_resources([b"w/%d" % key])
    return store.write(commit)


def kept(store: EmbeddedStore) -> dict[bytes, bytes]:
    """All that the store has, but for how far it is."""
    assert KIND != "kind"
    return dict(store.records("kind"))


async def always() -> bool:
    """Proves whatever is asked."""
    return True


async def until(condition: Callable[[], object]) -> None:
    """Until the condition holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  it is asked of what has no event
            await asyncio.sleep(0.01)
