"""Conformance: the change feed, and what is remembered of mutations."""

import asyncio
from typing import Any

import pytest

from libs.embedded.failures import DiskFull
from services.storage.conformance.kit import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    Bench,
    Case,
    Clock,
    etag,
    keys,
    older_than,
)
from services.storage.domain.errors import ConditionFailed, ResumeTokenExpired
from services.storage.domain.feed import EXPIRED_ANNOTATION, ItemChange, change_id
from services.storage.domain.model import Mode, Put
from services.storage.domain.namespace import Namespace, Retention
from services.storage.store.interface import Write
from services.storage.store.local import LocalStore
from services.storage.store.memory import MemoryKv

BOTH = pytest.mark.parametrize("mode", list(Mode))


@BOTH
def test_the_feed_says_what_happened(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        first = await case.put(
            space, b"r", (Put(b"", b"12345", "text/plain"), Put(b"a", b"")), annotations={"who": "ä", "": "why"}
        )
        await case.put(space, b"r", {b"a": b"2"})
        await case.delete(space, b"r", keys(b"a"))
        await case.delete(space, b"nothing", keys(b"a"))
        last = await case.delete(space, b"r")
        await case.put(space, b"r", {b"%03d" % number: b"" for number in range(150)})
        events = await case.events(space)
        assert [(event.created, event.deleted) for event in events] == [
            (True, False),
            (False, False),
            (False, False),
            (False, True),
            (True, False),
        ]
        assert events[0].items == (ItemChange(b"", False, "text/plain", 5), ItemChange(b"a", False, "", 0))
        assert events[0].annotations == (("", "why"), ("who", "ä")) and events[0].version == first.version
        assert events[2].items == (ItemChange(b"a", True, "", 0),)
        assert events[3].version == last.version and events[3].time_us == case.clock() - 2
        assert len(events[4].items) == 100 and events[4].item_count == 150
        ids = {change_id(space.name, event.version, event.record) for event in events}
        assert len(ids) == len(events)

    bench.run(story)


@BOTH
def test_a_record_deleted_between_its_expiry_and_the_sweep_ends_once(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        await case.put(space, b"r", (Put(b"", b"1", expire_us=case.clock() + SECOND_US),))
        await case.pass_time(2 * SECOND_US, sweep=False)
        await case.delete(space, b"r")
        await case.pass_time(HOUR_US)
        assert [(event.created, event.deleted) for event in await case.events(space)] == [(True, False), (False, True)]

    bench.run(story)


@BOTH
@pytest.mark.parametrize("sweep", [False, True])
def test_an_item_that_has_expired_when_it_comes_begins_and_ends_nothing(bench: Bench, mode: Mode, sweep: bool) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)

        async def told(case: Case, space: Namespace) -> list[tuple[bool, bool]]:
            events = [event for event in await case.events(space) if EXPIRED_ANNOTATION not in event.annotations]
            return [(event.created, event.deleted) for event in events]

        async def put_expired(late_us: int) -> None:
            token = case.token(-late_us)
            await case.put(space, b"r", (Put(b"", b"1", expire_us=token.time_us + 1),), token=token)

        await put_expired(3 * SECOND_US)
        await case.pass_time(0, sweep=sweep)
        await case.delete(space, b"r", keys(b""))
        assert set(await told(case, space)) == {(False, False)} and not await case.items(space, b"r")
        await case.pass_time(SECOND_US)
        await case.put(space, b"r", {b"": b"2"})
        await case.pass_time(2 * SECOND_US)
        await put_expired(SECOND_US)
        await case.pass_time(0, sweep=sweep)
        await case.reopen()
        await case.delete(space, b"r", keys(b""))
        await case.pass_time(HOUR_US)
        await case.put(space, b"r", {b"": b"3"})
        assert [pair for pair in await told(case, space) if any(pair)] == [(True, False), (False, True), (True, False)]

    bench.run(story)


def test_a_watcher_misses_nothing_and_resumes_anywhere(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS)
        start = await case.store.feed_start(space, from_beginning=False)
        seen: list[tuple[bytes, bytes]] = []

        async def watch() -> None:
            cursor = start
            while len(seen) < 200:
                page = await case.store.feed(space, cursor, 9)
                seen.extend((event.record, event.version) for event in page.events)
                cursor = page.cursor
                if not page.more and len(seen) < 200:
                    assert await case.store.feed_grown(space, cursor, 30)

        async def write(number: int) -> None:
            for _ in range(20):
                await case.put(space, b"r%d" % (number % 5), {b"": b"x"})

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch())
            for number in range(10):
                tasks.create_task(write(number))
        assert len(set(seen)) == 200
        for record in {record for record, _ in seen}:
            versions = [version for name, version in seen if name == record]
            assert versions == sorted(versions)
        await case.reopen()
        assert [(event.record, event.version) for event in await case.events(space, start)] == seen
        page = await case.store.feed(space, start, 50)
        await case.reopen()
        rest = await case.events(space, page.cursor)
        assert [(event.record, event.version) for event in rest] == seen[50:]

    bench.run(story)


def test_nothing_new_is_told_apart_from_something(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        cursor = await case.store.feed_start(space, from_beginning=True)
        assert not await case.store.feed_grown(space, cursor, 0.01)
        receipt = await case.put(space, b"r", {b"": b""})
        assert await case.store.feed_grown(space, cursor, 0.01)
        behind = case.store.feed_cursor(space, receipt)
        assert case.store.feed_reaches(space, behind)
        assert not case.store.feed_reaches(space, behind[:-1] + b"\xff")
        assert not case.store.feed_reaches(space, b"junk")
        assert await case.events(space, behind) == []

    bench.run(story)


def test_a_cursor_that_is_too_old_is_told(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS, retention=Retention(feed_window_us=HOUR_US))
        old = await case.store.feed_start(space, from_beginning=True)
        for number in range(10):
            await case.put(space, b"%d" % number, {b"": b""})
        middle = (await case.store.feed(space, old, 5)).cursor
        newest = (await case.store.feed(space, old, 10)).cursor
        await case.pass_time(2 * HOUR_US)
        for cursor in (old, middle):
            with pytest.raises(ResumeTokenExpired):
                await case.store.feed(space, cursor, 10)
        assert (await case.store.feed(space, newest, 10)).events == []
        await case.reopen()
        receipt = await case.put(space, b"later", {b"": b""})
        (event,) = (await case.store.feed(space, newest, 10)).events
        assert event.record == b"later" and event.version == receipt.version
        again = await case.space(Mode.CAS)
        with pytest.raises(ResumeTokenExpired):
            await case.store.feed(again, newest, 10)

    bench.run(story)


@BOTH
def test_an_expiry_is_a_change(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        soon = case.clock() + MINUTE_US
        await case.put(space, b"one", (Put(b"", b"0", expire_us=soon), Put(b"a", b"0", expire_us=soon)))
        await case.put(space, b"two", (Put(b"", b"0", expire_us=soon), Put(b"a", b"0")))
        await case.put(space, b"renewed", (Put(b"", b"0", expire_us=soon),))
        await case.put(space, b"renewed", (Put(b"", b"0"),))
        await case.pass_time(MINUTE_US)
        one, two = sorted((await case.events(space))[4:])  # only the changes of one record have an order
        assert (one.record, one.deleted, one.item_count) == (b"one", True, 2)
        assert (two.record, two.deleted, two.item_count) == (b"two", False, 1)
        assert one.annotations == two.annotations == (EXPIRED_ANNOTATION,)
        assert one.version > (await case.events(space))[0].version
        usage = await case.store.usage(space)
        assert (usage.records, usage.items) == (2, 2)

    bench.run(story)


@BOTH
def test_the_outcome_of_a_lost_answer(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        token, other = case.token(), case.token()
        assert await case.store.outcome(space, b"r", token) is None
        receipt = await case.put(space, b"r", {b"a": b"1"}, token=token)
        found = await case.store.outcome(space, b"r", token)
        assert found is not None and found.current and found.version == receipt.version
        await case.put(space, b"r", {b"b": b"1"}, token=other)
        found = await case.store.outcome(space, b"r", token)
        assert found is not None and found.current, "another item was written, this one is what readers see"
        await case.put(space, b"r", {b"a": b"2"})
        found = await case.store.outcome(space, b"r", token)
        assert found is not None and not found.current
        await case.delete(space, b"r", keys(b"b"))
        found = await case.store.outcome(space, b"r", other)
        assert found is not None and not found.current
        await case.pass_time(25 * HOUR_US)
        assert await case.store.outcome(space, b"r", token) is None

    bench.run(story)


def test_the_outcome_of_what_came_too_late(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        await case.put(space, b"r", (Put(b"", b"2", condition=older_than(2)),))
        token = case.token()
        await case.put(space, b"r", (Put(b"", b"1", condition=older_than(1)),), token=token)
        found = await case.store.outcome(space, b"r", token)
        assert found is not None and not found.current

    bench.run(story)


def test_nothing_is_shown_that_a_crash_could_take_back() -> None:
    """A write that waits for the disk is hidden: from reads, scans, the feed, refusals and retries alike."""

    async def story() -> None:
        kv, clock = MemoryKv(manual=True), Clock()
        case = Case(LocalStore(kv, clock), clock, lambda: LocalStore(kv, clock))

        async def synced(work: Any) -> Any:
            task = asyncio.ensure_future(work)
            await asyncio.sleep(0)
            kv.sync()
            return await task

        space = await synced(case.space(Mode.CAS))
        command = case.command(b"r", {b"": b"1"})
        cursor = await synced(case.store.feed_start(space, from_beginning=True))
        writing = asyncio.create_task(case.write(space, command))
        await asyncio.sleep(0)
        hidden: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(work)
            for work in (
                case.page(space, b"r"),
                case.scan(space),
                case.events(space, cursor),
                case.store.outcome(space, b"r", command.token),
                case.store.split(space, 2),
                case.items(space, b"r"),
                case.write(space, command),
            )
        ]
        refused = asyncio.create_task(case.put(space, b"r", {b"": b"2"}, condition=etag(b"x" * 16)))
        elsewhere = asyncio.create_task(case.page(space, b"another"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not writing.done() and not any(task.done() for task in (*hidden, refused))
        assert elsewhere.done(), "a record without writes under way is read at once"
        writing.cancel()
        await asyncio.sleep(0)
        assert not hidden[0].done(), "a caller that went away does not make its write durable"
        kv.sync()
        for _ in range(5):
            await asyncio.sleep(0)
            kv.sync()
        page = await hidden[0]
        assert page.found
        assert len(await hidden[2]) == 1
        with pytest.raises(ConditionFailed):
            await refused
        assert (await asyncio.gather(*hidden))[-1].version == page.version

    asyncio.run(story())


def test_a_write_that_the_store_refuses_leaves_no_trace() -> None:
    async def story() -> None:
        kv, clock = MemoryKv(), Clock()
        case = Case(LocalStore(kv, clock), clock, lambda: LocalStore(kv, clock))
        space = await case.space(Mode.LWW)
        await case.put(space, b"r", {b"": b"1"})
        kv.failure = DiskFull("the disk is full")
        commands = [Write(space, case.command(b"r%d" % number, {b"": b"2"})) for number in range(3)]
        assert all(isinstance(one, DiskFull) for one in await case.store.mutate(commands))
        assert await case.contents(space) == {b"r": {b"": b"1"}}
        kv.failure = None
        assert (await case.store.usage(space)).records == 1
        await case.put(space, b"s", {b"": b"1"})
        assert [event.record for event in await case.events(space)] == [b"r", b"s"]
        assert (await case.store.usage(space)).records == 2

    asyncio.run(story())


@BOTH
def test_the_past_is_forgotten_in_its_time(bench: Bench, mode: Mode) -> None:
    """Nothing but the live data and the feed's last change stays behind."""

    async def story(case: Case) -> None:
        space = await case.space(mode)
        for number in range(30):
            await case.put(space, b"%d" % number, (Put(b"", b"1"), Put(b"x", b"", expire_us=case.clock() + SECOND_US)))
            await case.delete(space, b"%d" % number, keys(b""))
        await case.put(space, b"kept", {b"": b"1"})
        await case.pass_time(2 * SECOND_US)
        await case.pass_time(8 * DAY_US)
        if bench.kind == "memory":
            kv = case.store._kv  # type: ignore[attr-defined]
            left = {name: len(family.keys) for name, family in kv._families.items() if family.keys}
            assert left == {"records": 1, "feed": 1, "meta": 3}
        assert await case.contents(space) == {b"kept": {b"": b"1"}}

    bench.run(story)
