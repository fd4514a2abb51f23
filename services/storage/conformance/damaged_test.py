"""Items whose bytes are damaged on the only replica: told by name to who reads them and to nobody else, and replaced
and deleted as others. What was written before there were checksums is read as ever."""

import asyncio
from typing import Any

import pytest

from libs.cassandra.session import LOCAL_ONE, LOCAL_QUORUM
from services.storage.cassandra.partition import HEAD, HISTORY, ITEMS
from services.storage.cassandra.wanted import token_row
from services.storage.conformance.cassandra_faults_test import play
from services.storage.conformance.damage import Stored
from services.storage.conformance.kit import Case, etag, keys, older_than, rendered
from services.storage.domain.errors import ChecksumMismatch, ConditionFailed
from services.storage.domain.model import Mode, Receipt, Selection
from services.storage.domain.namespace import Namespace, Retention
from services.storage.store import layout
from services.storage.store.interface import Page, Read, Write

MODES = pytest.mark.parametrize("mode", [Mode.LWW, Mode.CAS])


async def told(case: Case, space: Namespace, record: bytes, key: bytes) -> None:
    """Who reads the item is told which one is damaged."""
    with pytest.raises(ChecksumMismatch) as error:
        await case.items(space, record, keys(key))
    assert error.value.metadata == {"record": record.hex(), "item": key.hex()}
    with pytest.raises(ChecksumMismatch):
        await case.contents(space)


@MODES
def test_a_damaged_item_is_told_and_its_neighbours_are_read(mode: Mode) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(mode)
        await second.store.namespaces()
        await first.put(space, b"r", {b"a": b"1", b"b": b"2", b"c": b"3"})
        await first.put(space, b"s", {b"": b"flat"})
        await Stored(space, b"r", ITEMS, b"b").damage(first)
        for case in (first, second):
            await told(case, space, b"r", b"b")
            assert await case.items(space, b"r", keys(b"a", b"c")) == {b"a": b"1", b"c": b"3"}
        reads = [Read(space, record, keys(key), None, 1 << 20, 10) for record, key in ((b"r", b"b"), (b"s", b""))]
        broken, whole = await second.store.read_many(reads, 1 << 20)
        assert isinstance(broken, ChecksumMismatch) and isinstance(whole, Page) and whole.items[0].value == b"flat"
        await second.put(space, b"r", {b"a": b"1b"})
        await second.put(space, b"r", {b"b": b"2b"})
        assert await first.items(space, b"r") == {b"a": b"1b", b"b": b"2b", b"c": b"3"}

    play(story)


@MODES
def test_a_damaged_item_is_deleted_and_does_not_come_back(mode: Mode) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(mode)
        await second.store.namespaces()
        await first.put(space, b"r", {b"a": b"1", b"b": b"2"})
        await Stored(space, b"r", ITEMS, b"b").damage(first)
        await second.delete(space, b"r", keys(b"b"))
        assert await first.items(space, b"r") == {b"a": b"1"}
        await Stored(space, b"r", ITEMS, b"a").damage(first)
        await second.delete(space, b"r")
        assert await first.contents(space) == {}
        await first.put(space, b"r", {b"a": b"again"})
        assert await second.contents(space) == {b"r": {b"a": b"again"}}

    play(story)


def test_a_damaged_flat_item_and_a_damaged_render() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        await second.store.namespaces()
        await first.put(space, b"flat", {b"": b"x" * 100})
        await Stored(space, b"flat", ITEMS, b"").damage(first)
        await told(second, space, b"flat", b"")
        await second.put(space, b"flat", {b"": b"y"})
        await first.put(space, b"page", {b"": b"one"}, condition=older_than(1))
        await Stored(space, b"page", ITEMS, b"", rendered(1)).damage(first)
        await told(second, space, b"page", b"")
        await second.put(space, b"page", {b"": b"two"}, condition=older_than(2))
        assert await first.contents(space) == {b"flat": {b"": b"y"}, b"page": {b"": b"two"}}

    play(story)


def test_who_reads_and_writes_at_once_with_others_has_nothing_of_their_damage() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        await second.store.namespaces()
        records = [b"r%d" % number for number in range(5)]
        await asyncio.gather(*(first.put(space, record, {b"": record}) for record in records))
        await Stored(space, records[2], ITEMS, b"").damage(first)
        found = await asyncio.gather(*(second.page(space, record) for record in records), return_exceptions=True)
        assert isinstance(found.pop(2), ChecksumMismatch)
        assert [page.items[0].value for page in found if isinstance(page, Page)] == [*records[:2], *records[3:]]
        await asyncio.gather(*(second.put(space, record, {b"": record + b"!"}) for record in records))
        assert await first.contents(space) == {record: {b"": record + b"!"} for record in records}

    play(story)


def test_a_damaged_record_of_conditional_writes_is_told_and_not_decided_on() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.CAS)
        await second.store.namespaces()
        receipt = await first.put(space, b"r", {b"": b"flat"})
        cell = Stored(space, b"r", HEAD, b"")
        whole, _ = await cell.held(first)
        await cell.damage(first)
        for work in (
            second.items(space, b"r"),
            second.put(space, b"r", {b"": b"new"}, condition=etag(receipt.version)),
        ):
            with pytest.raises(ChecksumMismatch) as error:
                await work
            assert error.value.metadata == {"record": b"r".hex()}
        await cell.put(first, whole)
        await second.put(space, b"r", {b"": b"new"}, condition=etag(receipt.version))
        with pytest.raises(ConditionFailed):
            await first.put(space, b"r", {b"": b"late"}, condition=etag(receipt.version))
        assert await first.items(space, b"r") == {b"": b"new"}

    play(story)


@MODES
def test_a_damaged_earlier_version_is_told(mode: Mode) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(mode, retention=Retention(max_versions=5))
        await second.store.namespaces()
        receipt = await first.put(space, b"r", {b"a": b"1"})
        await first.put(space, b"r", {b"a": b"2"})
        key = layout.escaped(b"a") + layout.inverted(receipt.version)
        await Stored(space, b"r", HISTORY, key).damage(first)
        with pytest.raises(ChecksumMismatch):
            await second.store.versions(space, b"r", b"a", None, 10, omit_values=False)
        assert await second.items(space, b"r") == {b"a": b"2"}

    play(story)


@MODES
def test_what_lies_in_the_place_of_another_is_noticed(mode: Mode) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(mode)
        await second.store.namespaces()
        for record in (b"r", b"s"):
            await first.put(space, record, {b"a": b"1", b"b": b"2"})
        mine = Stored(space, b"r", ITEMS, b"a")
        whole, _ = await mine.held(first)
        for other in (Stored(space, b"s", ITEMS, b"a"), Stored(space, b"r", ITEMS, b"b")):
            await mine.put(first, (await other.held(first))[0])
            await told(second, space, b"r", b"a")
            await mine.put(first, whole)
            assert await second.items(space, b"r") == {b"a": b"1", b"b": b"2"}

    play(story)


@MODES
def test_what_was_written_before_there_were_checksums_is_read_and_written(mode: Mode) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(mode)
        await second.store.namespaces()
        receipt = await first.put(space, b"r", {b"a": b"1", b"b": b"2", b"": b"flat"})
        cells = [Stored(space, b"r", ITEMS, key) for key in (b"a", b"b")]
        cells.append(Stored(space, b"r", ITEMS if space.stamped else HEAD, b""))
        for cell in cells:
            found, _ = await cell.held(first)
            await cell.put(first, found[: cell.at] + found[cell.at + 5 :])
        assert await second.items(space, b"r") == {b"": b"flat", b"a": b"1", b"b": b"2"}
        await second.put(space, b"r", {b"a": b"1b"}, condition=etag(receipt.version) if mode is Mode.CAS else None)
        assert await first.items(space, b"r") == {b"": b"flat", b"a": b"1b", b"b": b"2"}
        at = cells[0].at
        assert (await cells[0].held(first))[0][at] >= 0xC0 and (await cells[1].held(first))[0][at] < 0x10

    play(story)


def test_puts_of_one_call_are_read_with_their_checksums_too() -> None:
    """Puts of one call are read by a statement of their own."""

    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        await second.store.namespaces()
        records = [b"%d" % number for number in range(20)]
        await asyncio.gather(*(first.put(space, record, {b"": b"1"}) for record in records))
        await Stored(space, b"7", ITEMS, b"").damage(first)
        token = second.token()
        results = await second.store.mutate(
            [Write(space, second.command(record, {b"": b"2"}, token=token)) for record in records]
        )
        assert all(isinstance(result, Receipt) for result in results)
        assert await first.contents(space) == {record: {b"": b"2"} for record in records}

    play(story)


def test_the_own_row_of_an_lww_record_is_told_where_it_can_never_have_been_written() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        await second.store.namespaces()
        store: Any = first.store
        await first.put(space, b"r", {b"a": b"1", b"b": b"2"})
        await first.delete(space, b"r", Selection(start=b"b", end=b"c"))
        own = Stored(space, b"r", HEAD, b"")
        place = (space.number, b"r", HEAD, b"")
        read = store._statements.read["lww_stamped"]
        ((_, _, more, (stamp, *_)),) = await store._session.execute(read, place, LOCAL_ONE)
        ((name, tomb),) = more.items()
        ranged = Stored(space, b"r", HEAD, b"", name)
        whole, _ = await own.held(first)
        for cell, was, damaged in ((own, whole, whole[:8] + b"\xff" + whole[9:]), (ranged, tomb, tomb[:-1] + b"\xff")):
            await cell.put(first, damaged)
            for work in (second.items(space, b"r"), second.put(space, b"r", {b"a": b"new"})):
                with pytest.raises(ChecksumMismatch) as error:
                    await work
                assert error.value.metadata == {"record": b"r".hex()}
            # The same again, a microsecond later, as its stamp says.
            await cell.put(first, (stamp + 1).to_bytes(8, "big") + was[8:])
        assert await second.items(space, b"r") == {b"a": b"1"}

    play(story)


@MODES
def test_what_is_remembered_of_a_mutation_is_told_where_it_can_never_have_been_written(mode: Mode) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(mode)
        await second.store.namespaces()
        store: Any = first.store
        command = first.command(b"r", {b"a": b"1"})
        (receipt,) = await first.store.mutate([Write(space, command)])
        assert isinstance(receipt, Receipt)
        place = token_row(command)
        cell, stamp = await Stored(space, b"r", *place).held(first)
        write = store._statements.write["lww_put" if space.stamped else "mend_row"]
        # Later, for of two cells with one timestamp the one that ends by itself stays.
        values = (stamp + 1, cell[:16] + b"\xff" + cell[17:], space.number, b"r", *place)
        await store._session.execute(write, values, LOCAL_QUORUM)
        (again,) = await second.store.mutate([Write(space, command)])
        assert isinstance(again, ChecksumMismatch) and again.metadata == {"record": b"r".hex()}
        assert await second.items(space, b"r") == {b"a": b"1"}
        await second.put(space, b"r", {b"a": b"2"})  # others go on

    play(story)


@MODES
def test_a_damaged_change_of_the_feed_is_told_in_doubt_and_nobody_waits_behind_it(mode: Mode) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(mode)
        await second.store.namespaces()
        store: Any = first.store
        for record in (b"r1", b"r2", b"r3"):
            await first.put(space, record, {b"a": b"1"})
        start = await first.store.feed_start(space, from_beginning=True)
        page = await first.store.feed(space, start, 10)  # settles them
        assert [event.record for event in page.events] == [b"r1", b"r2", b"r3"]
        rows = await store._session.run(
            f"SELECT lane, slot, seq, event FROM {store._session.options.keyspace}.feed"
            f" WHERE space = {space.number} ALLOW FILTERING"
        )
        lane, slot, sequence, event = next(row for row in rows if row[3] and b"r2" in row[3])
        for damaged in (event[:-3], event.replace(b"r2", b"r9"), b"\xff" * 40):
            write = store._statements.write["settle"]
            await store._session.execute(write, (damaged, space.number, lane, slot, sequence), LOCAL_QUORUM)
            page = await second.store.feed(space, start, 10)
            assert [(one.record, one.in_doubt) for one in page.events] == [
                (b"r1", False),
                (b"r2", True),
                (b"r3", False),
            ]

    play(story)
