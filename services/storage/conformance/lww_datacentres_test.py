"""An LWW namespace in two data centres: each goes on while the other is away, and in the end both have all of it, told
in both. Nothing is kept for a node that is away (``node.py``): what its data centre missed it has to ask for.
"""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

from libs.cassandra.session import LOCAL_ONE, Row
from libs.errors.errors import Unavailable
from services.storage.cassandra.layout import chunk_part
from services.storage.cassandra.lww.spreading import WAIT_US
from services.storage.cassandra.partition import HEAD, ITEMS
from services.storage.cassandra.store import CassandraStore
from services.storage.conformance.damage import Stored
from services.storage.conformance.kit import Case, Clock, keys
from services.storage.conformance.node import DATACENTRES, PATIENT, SMALL, cluster, fresh, options
from services.storage.conformance.past_test import download, upload
from services.storage.domain.errors import ChecksumMismatch
from services.storage.domain.feed import ChangeEvent, change_id
from services.storage.domain.model import ALL, Mode, Outcome, Receipt
from services.storage.domain.namespace import Consistency, Namespace
from services.storage.publishing.publication import Note
from services.storage.publishing.rig import MemoryTopic, publishing
from services.storage.store.interface import Page, Read
from tools.dev.servers.cassandra import Node

T = TypeVar("T")
PATIENCE_S = 300


@contextlib.asynccontextmanager
async def opened(clock: Clock, datacentre: str, seed: int) -> AsyncIterator[Case]:
    """A store in a data centre, on the clock of all."""
    given = dataclasses.replace(options(datacentre), request_timeout_s=6.0, reconnect_s=(0.2, 1.0))
    store = await CassandraStore.open(given, clock, timing=PATIENT, bucket_size=SMALL)
    case = Case(store, clock, lambda: None)
    case._random.seed(seed)
    try:
        yield case
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def both() -> AsyncIterator[tuple[Case, Case]]:
    """A store in each."""
    clock = Clock()
    async with opened(clock, DATACENTRES[0], 1) as first, opened(clock, DATACENTRES[1], 2) as second:
        yield first, second


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, asked for again while there is none."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await ask()
            except Unavailable:
                await asyncio.sleep(0.2)


class Watcher:
    """Follows a feed from its beginning."""

    def __init__(self, case: Case, space: Namespace) -> None:
        self._case = case
        self._space = space
        self._cursor = b""
        self.told: dict[bytes, ChangeEvent] = {}

    async def until(self, versions: list[bytes]) -> None:
        """Follows until these were told."""
        async with asyncio.timeout(PATIENCE_S):
            while not set(versions) <= set(self.told):
                await patiently(self._follow)

    async def _follow(self) -> None:
        store, space = self._case.store, self._space
        self._cursor = self._cursor or await store.feed_start(space, from_beginning=True)
        page = await store.feed(space, self._cursor, 100)
        self._cursor = page.cursor
        self.told.update({event.version: event for event in page.events})
        if not page.events:
            await store.feed_grown(space, self._cursor, 0.5)


def asked_everywhere(case: Case, space: Namespace) -> Awaitable[Page]:
    """The record as a reader has it who asks every data centre."""
    return case.store.read(Read(space, b"r", ALL, None, 1 << 20, 1000, consistency=Consistency.STRONG_GLOBAL))


async def shown(case: Case, space: Namespace) -> dict[bytes, bytes]:
    """The same, once every data centre answers."""
    page = await patiently(lambda: asked_everywhere(case, space))
    return {item.key: item.value for item in page.items}


async def written(case: Case, space: Namespace, puts: dict[bytes, bytes]) -> Receipt:
    """One write, sent again while it is not answered."""
    return await patiently(functools.partial(case.write, space, case.command(b"r", puts)))


async def written_alone(case: Case, space: Namespace, why: bytes) -> list[bytes]:
    """The versions of some writes, all applied while the other data centre is away."""
    receipts: list[Receipt] = []
    for number in range(5):
        receipts.append(await written(case, space, {b"alone": why, b"%s %d" % (why, number): b"x"}))
    assert {receipt.outcome for receipt in receipts} <= {Outcome.APPLIED, Outcome.REPEATED}
    assert (await patiently(functools.partial(case.items, space, b"r")))[b"alone"] == why
    with pytest.raises(Unavailable):
        await asked_everywhere(case, space)
    return [receipt.version for receipt in receipts]


def ids(space: Namespace, versions: list[bytes]) -> list[str]:
    """Of the changes of the record, as they are published."""
    return [change_id(space.name, version, b"r") for version in versions]


async def noted(case: Case, space: Namespace) -> None:
    """Waits until the store says of every change told so far that it is published."""

    async def all_of_it() -> bool:
        body = await case.store.document("publication", "ns/t")
        return body is not None and not (await case.store.feed(space, Note.decode(body).cursor, 1)).events

    async with asyncio.timeout(PATIENCE_S):
        while not await patiently(all_of_it):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


class BigValue:
    """One of two pieces, of which the second is damaged where its writer is, and whole in the other data centre."""

    def __init__(self, here: Case, there: Case, space: Namespace) -> None:
        self._here = here
        self._there = there
        self._space = space
        self._pieces = (b"a" * 100_000, b"b" * 50_000)
        self._place: tuple[Any, ...] = ()
        self._whole: Row = ()

    async def is_sent(self) -> None:
        """Uploads it, and waits until both have it."""
        manifest = await patiently(functools.partial(upload, self._here, self._space, *self._pieces))
        self._place = (self._space.number, manifest.upload, chunk_part(1), 1)
        async with asyncio.timeout(PATIENCE_S):
            while not await self._held(self._there):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        (self._whole,) = await self._held(self._here)

    async def is_damaged(self) -> None:
        """While the other data centre is away. Of one timestamp the greater bytes win."""
        value, stamp = self._whole
        store: Any = self._here.store
        damaged = (*self._place, b"\xff" * len(value), stamp)
        write = store._statements.write["mend_chunk"]
        await patiently(functools.partial(store._session.execute, write, damaged, LOCAL_ONE))
        with pytest.raises(ChecksumMismatch):
            await patiently(functools.partial(download, self._here, self._space))

    async def is_mended(self) -> None:
        """When the other data centre is back: read by whoever asks, and whole again where it was damaged."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self._held(self._here))[0][0] != self._whole[0]:
                with contextlib.suppress(ChecksumMismatch):  # as long as the other one is not reached
                    found = await patiently(functools.partial(download, self._here, self._space))
                    assert found == b"".join(self._pieces)
        for case in (self._here, self._there):
            assert await patiently(functools.partial(download, case, self._space)) == b"".join(self._pieces)

    async def _held(self, case: Case) -> list[Row]:
        """The second piece as the case's data centre has it."""
        store: Any = case.store
        read = store._statements.read["stamped_chunk"]
        found: list[Row] = await patiently(functools.partial(store._session.execute, read, self._place, LOCAL_ONE))
        return found


class Items:
    """Items of both modes, damaged where their writer is, and whole in the other data centre."""

    def __init__(self, here: Case, there: Case, spaces: list[Namespace]) -> None:
        self._here = here
        self._there = there
        self._cells = [Stored(space, b"r", ITEMS, key) for space in spaces for key in (b"a", b"b")]
        self._cells += [Stored(space, b"r", HEAD, b"") for space in spaces if not space.stamped]
        self._whole: list[bytes] = []

    async def are_written(self) -> None:
        """And both have them."""
        for space in {cell.space.number: cell.space for cell in self._cells}.values():
            command = self._here.command(b"r", {b"": b"flat", b"a": b"a", b"b": b"b"})
            await patiently(functools.partial(self._here.write, space, command))
        for cell in self._cells:
            async with asyncio.timeout(PATIENCE_S):
                while not await cell.held_by(self._there):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.05)
            self._whole.append((await patiently(functools.partial(cell.held, self._here)))[0])

    async def are_damaged(self) -> None:
        """While the other data centre is away."""
        for cell in self._cells:
            await patiently(functools.partial(cell.damage, self._here))
            with pytest.raises(ChecksumMismatch):
                await patiently(functools.partial(self._read, self._here, cell))

    async def are_mended(self) -> None:
        """When it is back: each is read by whoever asks, and whole where it was damaged."""
        for cell, whole in zip(self._cells, self._whole, strict=True):
            mended = whole[: cell.at] + bytes([whole[cell.at] + 1]) + whole[cell.at + 1 :]
            async with asyncio.timeout(PATIENCE_S):
                while (await patiently(functools.partial(cell.held, self._here)))[0] != mended:
                    with contextlib.suppress(ChecksumMismatch):  # as long as the other one is not reached
                        await patiently(functools.partial(self._read, self._here, cell))
        for case in (self._here, self._there):
            for cell in self._cells:
                assert await patiently(functools.partial(self._read, case, cell)) == {cell.key: cell.key or b"flat"}

    async def _read(self, case: Case, cell: Stored) -> dict[bytes, bytes]:
        return await case.items(cell.space, cell.record, keys(cell.key))


def node_of(datacentre: str) -> Node:
    (node,) = cluster().in_datacenter(datacentre)
    return node


def test_a_stopped_data_centre_is_told_what_it_missed() -> None:
    async def story() -> None:
        async with both() as (first, second):
            space = await first.space(Mode.LWW)
            await second.store.namespaces()
            watchers = [Watcher(case, space) for case in (first, second)]
            begun = [(await written(case, space, {b"begun": b"x"})).version for case in (first, second)]
            for watcher in watchers:
                await watcher.until(begun)
            for here, there, away in ((first, second, DATACENTRES[1]), (second, first, DATACENTRES[0])):
                node = node_of(away)
                node.pause()
                try:
                    alone = await written_alone(here, space, away.encode())
                    await watchers[here is second].until(alone)
                finally:
                    node.resume()
                assert (await shown(there, space))[b"alone"] == away.encode()
                await watchers[there is second].until(alone)
            assert await shown(first, space) == await shown(second, space)
            assert not any(event.in_doubt for watcher in watchers for event in watcher.told.values())

    fresh()
    asyncio.run(story())


def test_a_killed_data_centre_is_told_what_servers_wrote_that_it_never_heard_of() -> None:
    async def story() -> None:
        async with both() as (first, second):
            space = await first.space(Mode.LWW)
            await second.store.namespaces()
            watchers = [Watcher(case, space) for case in (first, second)]
            topics = MemoryTopic(), MemoryTopic()
            big = BigValue(first, second, await first.space(Mode.LWW))
            items = Items(first, second, [await first.space(mode) for mode in (Mode.LWW, Mode.CAS)])
            await second.store.namespaces()
            await big.is_sent()
            await items.are_written()
            begun = [(await written(second, space, {b"begun": b"x"})).version]
            for watcher in watchers:
                await watcher.until(begun)
            node = node_of(DATACENTRES[1])
            node.kill()
            try:
                await big.is_damaged()
                await items.are_damaged()
                alone = await written_alone(first, space, b"killed")
                async with opened(first.clock, DATACENTRES[0], 3) as started:
                    alone += await written_alone(started, space, b"started meanwhile")
                    async with publishing(started.store, space, topics[0]):
                        await topics[0].has(ids(space, alone), PATIENCE_S)
                        await noted(started, space)
            finally:
                await asyncio.to_thread(node.restart)
            await big.is_mended()
            await items.are_mended()
            back = [(await written(second, space, {b"back": b"x"})).version]
            async with publishing(second.store, space, topics[1]):
                # It may begin where it last heard that the other one was: nothing is left out for that.
                await topics[1].has(ids(space, back), PATIENCE_S)
            assert set(ids(space, begun + alone + back)) <= {*topics[0].ids(), *topics[1].ids()}
            for watcher in (*watchers, Watcher(second, space)):
                await watcher.until(alone)
            assert (await shown(second, space))[b"alone"] == b"started meanwhile"
            assert await shown(first, space) == await shown(second, space)

    fresh()
    asyncio.run(story())


def test_a_wide_record_is_moved_once_both_data_centres_are_there() -> None:
    async def story() -> None:
        async with both() as (first, second):
            space = await first.space(Mode.LWW)
            await second.store.namespaces()
            there = {b"%d" % number: b"x" for number in range(9)}
            await written(first, space, there)
            assert await patiently(functools.partial(first.store.rebucket, space, b"r")) == (1, 9)
            node = node_of(DATACENTRES[1])
            node.pause()
            try:
                await first.pass_time(WAIT_US + 1)
                await written(first, space, {b"0": b"alone"})
                there[b"0"] = b"alone"
                assert await patiently(functools.partial(first.items, space, b"r")) == there
                assert await patiently(functools.partial(first.store.rebucket, space, b"r")) == (1, 9)
            finally:
                node.resume()
            for _ in range(3):
                await first.pass_time(WAIT_US + 1)
                assert await shown(second, space) == there
                assert await shown(first, space) == there
            assert await patiently(functools.partial(first.store.rebucket, space, b"r")) == (9, 9)

    fresh()
    asyncio.run(story())


def test_what_both_write_while_they_do_not_see_each_other_ends_alike() -> None:
    async def story() -> None:
        async with both() as (first, second):
            space = await first.space(Mode.LWW)
            await second.store.namespaces()
            receipts = await asyncio.gather(
                *(
                    written(case, space, {b"k": b"%d" % number, b"own": b"%d" % number})
                    for number in range(10)
                    for case in (first, second)
                )
            )
            newest = max(receipt.version for receipt in receipts)
            ends = [await shown(case, space) for case in (first, second)]
            assert ends[0] == ends[1] and ends[0][b"k"] == ends[0][b"own"]
            page = await patiently(lambda: asked_everywhere(first, space))
            assert {item.version for item in page.items} == {newest}
            applied = [receipt.version for receipt in receipts if receipt.sequence]
            for case in (first, second):
                await Watcher(case, space).until(applied)

    fresh()
    asyncio.run(story())
