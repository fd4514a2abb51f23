"""What the suite stands on: stores by name, a clock that stands still until moved, and short words for requests.

Another backend joins by an entry in ``STORES``: a function that opens it on a directory, again and again on the same
one.
"""

import asyncio
import contextlib
import inspect
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from libs.embedded.settings import Settings as EmbeddedSettings
from libs.errors.errors import WellspringError
from services.storage.domain.commands import body_digest
from services.storage.domain.feed import ChangeEvent
from services.storage.domain.model import (
    ALL,
    Command,
    Condition,
    ConditionKind,
    Delete,
    Mode,
    Put,
    Receipt,
    Selection,
    WriteToken,
)
from services.storage.domain.namespace import Namespace, Settings
from services.storage.store.embedded import open_store
from services.storage.store.interface import Page, Read, Scan, ScannedRecord, Store, Write
from services.storage.store.local import LocalOptions, LocalStore
from services.storage.store.memory import MemoryKv

START_US: Final = 1_700_000_000_000_000
SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
SMALL: Final = EmbeddedSettings(cache_bytes=1 << 20, write_buffer_bytes=1 << 20, reserve_bytes=0)


class Clock:
    """Microseconds since 1970; stands still until moved."""

    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us


class MemoryDisk:
    """A 'disk' that keeps what a memory store held, so that it can be opened again."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._kv = MemoryKv()

    def open(self) -> Store:
        return LocalStore(self._kv, self._clock, LocalOptions())


class EmbeddedDisk:
    """A data directory."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path / "data"
        self._clock = clock

    def open(self) -> Store:
        return open_store(self._path, self._clock, LocalOptions(), SMALL)


def _stores() -> dict[str, Callable[[Path, Clock], Any]]:
    # What starts a server is there in the tests that want one only.
    kind = os.environ.get("WELLSPRING_CONFORMANCE", "")
    if kind == "cassandra":
        from services.storage.conformance.node import CassandraDisk

        return {kind: CassandraDisk}
    if kind == "redis":
        from services.storage.conformance.cached import CachedDisk

        return {"embedded+redis": lambda path, clock: CachedDisk(EmbeddedDisk(path, clock), clock)}
    if kind == "cassandra+redis":
        from services.storage.conformance.cached import CachedDisk
        from services.storage.conformance.node import CassandraDisk

        return {kind: lambda path, clock: CachedDisk(CassandraDisk(path, clock), clock)}
    return {"memory": MemoryDisk, "embedded": EmbeddedDisk}


STORES: Final[Mapping[str, Callable[[Path, Clock], Any]]] = _stores()
"""The stores of this run: those of one machine, Cassandra, or one behind a cache. ``open`` may have to be awaited."""

_CLUSTER: Final = {
    "test_a_copy_is_one_moment": "no moment is common to several partitions: each record is copied as it is then",
}
EXCEPTIONS: Final[Mapping[str, Mapping[str, str]]] = {"cassandra": _CLUSTER, "cassandra+redis": _CLUSTER}
"""Tests of the suite that a store is not held to, with the reason."""


async def opened(opener: Callable[[], Any]) -> Store:
    """The store that ``opener`` opens, at once or when it is awaited."""
    store = opener()
    ready: Store = await store if inspect.isawaitable(store) else store
    return ready


class Bench:
    """One test's store. ``run`` takes a coroutine function of a ``Case``."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.clock = Clock()
        self._disk = STORES[kind](path, self.clock)

    def run(self, story: Callable[["Case"], Awaitable[None]]) -> None:
        """Opens the store, plays the story, closes the store."""
        asyncio.run(self._run(story))

    async def _run(self, story: Callable[["Case"], Awaitable[None]]) -> None:
        async with self.opened() as case:
            await story(case)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Case"]:
        """The store, opened."""
        case = Case(await opened(self._disk.open), self.clock, self._disk.open)
        try:
            yield case
        finally:
            await case.store.close()


class Case:
    """An open store and short words for what tests do with it."""

    def __init__(self, store: Store, clock: Clock, opener: Callable[[], Any]) -> None:
        self.store = store
        self.clock = clock
        self._opener = opener
        self._random = random.Random(1)  # noqa: S311  # tests repeat themselves

    async def reopen(self) -> None:
        """Closes the store and opens it again."""
        await self.store.close()
        self.store = await opened(self._opener)

    async def space(self, mode: Mode, name: str = "", **settings: Any) -> Namespace:
        """A new namespace."""
        return await self.store.create_namespace(
            Settings(name or f"ns{self._random.getrandbits(40):x}", mode, **settings), self.clock()
        )

    def token(self, offset_us: int = 0) -> WriteToken:
        """A new token; each moves the clock by 2 microseconds, so that one comes after the other."""
        self.clock.now_us += 2
        return WriteToken(self.clock() + offset_us, self._random.randbytes(16))

    def command(
        self,
        record: bytes,
        puts: Mapping[bytes, bytes] | tuple[Put, ...] = (),
        deletes: tuple[Delete, ...] = (),
        *,
        token: WriteToken | None = None,
        condition: Condition | None = None,
        **rest: Any,
    ) -> Command:
        """A command; ``puts`` may be {item key: value}, ``condition`` is the record's."""
        if isinstance(puts, Mapping):
            puts = tuple(Put(key, value) for key, value in puts.items())
        positions = tuple(range(len(puts) + len(deletes)))
        body = body_digest(puts, deletes, condition, rest.get("annotations"))
        return Command(record, token or self.token(), puts, deletes, positions, body, condition, **rest)

    async def write(self, space: Namespace, command: Command) -> Receipt:
        """One mutation; raises what it was refused with."""
        (result,) = await self.store.mutate([Write(space, command)])
        if isinstance(result, WellspringError):
            raise result
        return result

    async def put(self, space: Namespace, record: bytes, puts: Any, **rest: Any) -> Receipt:
        """Puts items, {key: value} or a tuple of ``Put``."""
        return await self.write(space, self.command(record, puts, **rest))

    async def delete(self, space: Namespace, record: bytes, selection: Selection = ALL, **rest: Any) -> Receipt:
        """Deletes items."""
        return await self.write(space, self.command(record, (), (Delete(selection, rest.pop("item", None)),), **rest))

    async def page(self, space: Namespace, record: bytes, selection: Selection = ALL, **rest: Any) -> Page:
        """One page of a record."""
        read = Read(space, record, selection, None, 1 << 20, 1000)
        return await self.store.read(read._replace(**rest))

    async def items(
        self, space: Namespace, record: bytes, selection: Selection = ALL, **rest: Any
    ) -> dict[bytes, bytes]:
        """All items selected, by pages."""
        found: dict[bytes, bytes] = {}
        after = None
        while True:
            page = await self.page(space, record, selection, after=after, **rest)
            for item in page.items:
                assert item.key not in found, "an item came twice"
                found[item.key] = item.value
            after = page.resume
            if after is None:
                return found

    async def scan(self, space: Namespace, selection: Selection = ALL, **rest: Any) -> list[ScannedRecord]:
        """A namespace by pages, the pieces of a record put together."""
        scan = Scan(space, b"", None, None, selection, False, 100, 1 << 20)._replace(**rest)
        found: list[ScannedRecord] = []
        partial = False
        while True:
            page = await self.store.scan(scan)
            for one in page.records:
                if partial:
                    assert found[-1].record == one.record
                    found[-1].items.extend(one.items)
                else:
                    found.append(one)
                partial = one.partial
            if page.position is None:
                return found
            scan = scan._replace(position=page.position)

    async def contents(self, space: Namespace) -> dict[bytes, dict[bytes, bytes]]:
        """The whole namespace, as a scan shows it."""
        return {one.record: {item.key: item.value for item in one.items} for one in await self.scan(space)}

    async def events(self, space: Namespace, cursor: bytes | None = None) -> list[ChangeEvent]:
        """The feed from ``cursor`` (None: the beginning) to its end."""
        cursor = cursor or await self.store.feed_start(space, from_beginning=True)
        found: list[ChangeEvent] = []
        while True:
            page = await self.store.feed(space, cursor, 7)
            found += page.events
            cursor = page.cursor
            if not page.more:
                return found

    async def pass_time(self, by_us: int, *, sweep: bool = True) -> None:
        """Moves the clock, then sweeps until nothing is due."""
        self.clock.now_us += by_us
        while sweep and await self.store.sweep(self.clock(), 1000):
            pass


def absent() -> Condition:
    """Nothing is there."""
    return Condition(ConditionKind.ABSENT)


def etag(version: bytes) -> Condition:
    """What is there has this version."""
    return Condition(ConditionKind.ETAG, version)


def older_than(sequence: int, epoch: int = 1) -> Condition:
    """What is there is older than a render's version."""
    return Condition(ConditionKind.OLDER_THAN, rendered(sequence, epoch))


def rendered(sequence: int, epoch: int = 1) -> bytes:
    """The version of a render: its engine's epoch and sequence."""
    return epoch.to_bytes(8, "big") + sequence.to_bytes(8, "big")


def keys(*some: bytes) -> Selection:
    """Single items."""
    return Selection(tuple(sorted(some)))


def between(start: bytes, end: bytes | None) -> Selection:
    """A range of items."""
    return Selection(None, start, end)
