"""Conformance: what reads show, page by page, scan by scan, while others write."""

import asyncio
import random

import pytest

from services.storage.conformance.kit import HOUR_US, MINUTE_US, Bench, Case, between, keys
from services.storage.domain.errors import BatchBudgetSpent
from services.storage.domain.model import ALL, Delete, Mode, Put, Selection
from services.storage.store.interface import Page, Read, Scan

BOTH = pytest.mark.parametrize("mode", list(Mode))
MANY = {b"": b"flat", **{b"k%03d" % number: b"v" * (number % 7) for number in range(120)}}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("max_items", [1, 7, 1000])
def test_pages_show_each_item_once_in_order(bench: Bench, reverse: bool, max_items: int) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        await case.put(space, b"r", MANY)
        await case.put(space, b"r\0", {b"": b"neighbour", b"a": b"x"})
        await case.put(space, b"q\xff", {b"": b"neighbour", b"z": b"x"})
        some = keys(b"", b"k005", b"k119", b"none", *(b"k%03d" % number for number in range(50, 90)))
        for selection, wanted in (
            (ALL, list(MANY)),
            (between(b"", None), list(MANY)),
            (between(b"k010", b"k020"), [b"k%03d" % number for number in range(10, 20)]),
            (between(b"\0", b"k001"), [b"k000"]),
            (between(b"z", None), []),
            (some, [key for key in sorted(some.keys or ()) if key in MANY]),
        ):
            found = await case.items(space, b"r", selection._replace(reverse=reverse), max_items=max_items)
            assert found == {key: MANY[key] for key in wanted}
            assert list(found) == (wanted[::-1] if reverse else wanted)

    bench.run(story)


def test_a_page_keeps_to_its_bytes_yet_always_shows_one_item(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS)
        await case.put(space, b"r", {b"%d" % number: b"x" * 1000 for number in range(9)})
        page = await case.page(space, b"r", max_bytes=4000)
        assert len(page.items) == 3 and page.resume == b"2"
        page = await case.page(space, b"r", max_bytes=1)
        assert len(page.items) == 1 and page.resume == b"0"
        page = await case.page(space, b"r", max_bytes=4000, omit_values=True)
        assert len(page.items) == 9 and page.resume is None
        assert [(item.value, item.size) for item in page.items] == [(b"", 1000)] * 9

    bench.run(story)


def test_pages_under_concurrent_writes(bench: Bench) -> None:
    """Items that are there throughout come exactly once, in order; others come at most once."""

    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        chance = random.Random(7)
        lasting = {b"k%04d" % number: b"1" for number in range(0, 400, 2)}
        await case.put(space, b"r", lasting)

        async def disturb() -> None:
            for _ in range(200):
                key = b"k%04d" % chance.randrange(1, 400, 2)
                if chance.random() < 0.5:
                    await case.put(space, b"r", {key: b"passing", b"k%04d" % chance.randrange(0, 400, 2): b"2"})
                else:
                    await case.delete(space, b"r", keys(key))

        async def read(reverse: bool) -> None:
            for _ in range(5):
                found = await case.items(space, b"r", Selection(reverse=reverse), max_items=13)
                assert set(found) >= set(lasting)
                assert list(found) == sorted(found, reverse=reverse)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(disturb())
            tasks.create_task(read(False))
            tasks.create_task(read(True))

    bench.run(story)


def test_many_reads_share_a_budget(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        for number in range(100):
            await case.put(space, b"%02d" % number, {b"": b"x" * 1000})
        reads = [Read(space, b"%02d" % number, ALL, None, 1 << 20, 1000) for number in range(100)]
        reads.insert(3, reads[0]._replace(record=b"none"))
        pages = await case.store.read_many(reads, 1 << 20)
        assert [page.found for page in pages if isinstance(page, Page)] == [True] * 3 + [False] + [True] * 97
        pages = await case.store.read_many(reads, 10_000)
        answered = [page for page in pages if isinstance(page, Page)]
        assert 5 <= len(answered) <= 12 and all(isinstance(one, BatchBudgetSpent) for one in pages[len(answered) :])

    bench.run(story)


@BOTH
def test_a_scan_shows_every_record_once_and_resumes_anywhere(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space, other = await case.space(mode), await case.space(mode)
        model: dict[bytes, dict[bytes, bytes]] = {}
        for number in range(60):
            record = [b"r%03d", b"r%03d\0", b"r\0%03d", b"\xff%03d"][number % 4] % number
            model[record] = {b"": b"f"} if number % 3 else {b"i%02d" % item: b"v" * 50 for item in range(30)}
            await case.put(space, record, model[record])
        await case.put(other, b"r", {b"": b"foreign"})
        for gone in list(model)[::9]:
            await case.delete(space, gone)
            del model[gone]
        for records, size in ((100, 1 << 20), (1, 1 << 20), (7, 600), (1000, 100)):
            found = await case.scan(space, max_records=records, max_bytes=size)
            assert [one.record for one in found] == sorted(model)
            assert {one.record: {item.key: item.value for item in one.items} for one in found} == model
        low, high = sorted(model)[10], sorted(model)[30]
        found = await case.scan(space, start=low, end=high, max_records=3)
        assert [one.record for one in found] == sorted(model)[10:30]
        found = await case.scan(space, selection=keys(b"i01", b"i02"), max_bytes=200)
        assert {one.record: [item.key for item in one.items] for one in found} == {
            record: [key for key in (b"i01", b"i02") if key in items] for record, items in model.items()
        }
        found = await case.scan(space, selection=Selection(reverse=True), max_bytes=500, omit_values=True)
        assert [item.key for item in found[0].items] == sorted(model[found[0].record], reverse=True)

    bench.run(story)


def test_a_scan_goes_on_after_its_record_was_deleted(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS)
        for record in (b"a", b"b", b"c"):
            await case.put(space, record, {b"%d" % number: b"x" * 100 for number in range(20)})
        scan = Scan(space, b"", None, None, ALL, False, 100, 700)
        first = await case.store.scan(scan)
        assert first.records[-1].partial and first.records[-1].record == b"a"
        await case.delete(space, b"a")
        await case.put(space, b"0", {b"": b"behind the scan"})
        rest = await case.scan(space, position=first.position)
        assert [one.record for one in rest] == [b"b", b"c"] and len(rest[0].items) == 20

    bench.run(story)


@pytest.mark.parametrize("records", [0, 1, 10, 500])
def test_split_ranges_cover_the_namespace(bench: Bench, records: int) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        for number in range(records):
            await case.put(space, b"%05d" % number, {b"": b""})
        for parts in (1, 2, 4, 13):
            cuts = await case.store.split(space, parts)
            assert cuts == sorted(set(cuts)) and len(cuts) < parts
            bounds = [b"", *cuts, None]
            pieces = [
                await case.scan(space, start=start, end=end) for start, end in zip(bounds[:-1], bounds[1:], strict=True)
            ]
            assert [one.record for piece in pieces for one in piece] == [b"%05d" % n for n in range(records)]
            if records == 500:
                assert len(pieces) == parts and max(map(len, pieces)) <= 2 * min(map(len, pieces)) + 1

    bench.run(story)


@BOTH
def test_expired_items_are_gone_before_they_are_swept(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        soon, later = case.clock() + MINUTE_US, case.clock() + HOUR_US
        await case.put(space, b"r", (Put(b"", b"0", expire_us=soon), Put(b"a", b"1", expire_us=later)))
        await case.put(space, b"flat", (Put(b"", b"0", expire_us=soon),))
        await case.put(space, b"items", (Put(b"x", b"0", expire_us=soon), Put(b"y", b"0", expire_us=soon)))
        await case.pass_time(MINUTE_US, sweep=False)
        assert await case.items(space, b"r") == {b"a": b"1"}
        assert await case.contents(space) == {b"r": {b"a": b"1"}}
        for record in (b"flat", b"items"):
            page = await case.page(space, record)
            assert not page.found and page.items == []
        # A put onto what has expired brings the record into being anew.
        await case.put(space, b"flat", {b"": b"again"})
        assert (await case.events(space))[-1].created

    bench.run(story)


def test_a_delete_of_expired_items_counts_none(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS)
        await case.put(space, b"r", (Put(b"a", b"1", expire_us=case.clock() + MINUTE_US), Put(b"b", b"2")))
        await case.pass_time(HOUR_US, sweep=False)
        receipt = await case.write(space, case.command(b"r", (), (Delete(ALL),)))
        assert receipt.deleted_items == 1
        await case.pass_time(HOUR_US)
        assert (await case.store.usage(space))[:3] == (0, 0, 0)

    bench.run(story)
