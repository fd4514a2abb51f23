"""What records of an LWW namespace on Cassandra go through when their writers do not see each other: equal times,
clocks that differ, writes that come late or twice, answers that are lost, writers that stop half way.

Two stores on one keyspace stand for two servers, each with a clock of its own where it matters.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from libs.cassandra.errors import OutcomeUnknown
from libs.errors.errors import Unavailable
from services.storage.cassandra.lanes import Lane
from services.storage.cassandra.lww.steps import LwwSteps
from services.storage.cassandra.store import CassandraStore
from services.storage.conformance.cassandra_faults_test import IMPATIENT, dying, play
from services.storage.conformance.kit import HOUR_US, SECOND_US, Case, Clock, between, keys, older_than
from services.storage.conformance.node import fresh
from services.storage.domain.feed import ChangeEvent
from services.storage.domain.model import ALL, Mode, Outcome, Put, WriteToken
from services.storage.domain.namespace import Namespace

Until = Callable[[list[ChangeEvent]], bool]


async def told(case: Case, space: Namespace, until: Until) -> list[ChangeEvent]:
    """What a watcher is told from the beginning, until it is enough; what it is told again is left out."""
    cursor = await case.store.feed_start(space, from_beginning=True)
    return (await told_behind(case, space, cursor, until))[0]


async def told_behind(case: Case, space: Namespace, cursor: bytes, until: Until) -> tuple[list[ChangeEvent], bytes]:
    """The same behind a cursor, with the cursor of the end."""
    found: dict[bytes, ChangeEvent] = {}
    async with asyncio.timeout(300):
        while not until(list(found.values())):
            page = await case.store.feed(space, cursor, 3)
            for event in page.events:
                found.setdefault(event.version, event)
            cursor = page.cursor
            if not page.events:
                await case.store.feed_grown(space, cursor, 0.2)
    return list(found.values()), cursor


def versions_of(count: int) -> Until:
    """Enough are so many different changes."""
    return lambda events: len({event.version for event in events}) >= count


def test_writes_of_two_servers_at_once_all_count() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        commands = [
            (case, case.command(b"r", {b"own%d" % number: b"%d" % index, b"shared": b"%d %d" % (index, number)}))
            for number, case in enumerate((first, second))
            for index in range(10)
        ]
        receipts = await asyncio.gather(*(case.write(space, command) for case, command in commands))
        assert {receipt.outcome for receipt in receipts} <= {Outcome.APPLIED, Outcome.SUPERSEDED}
        newest = max((command for _, command in commands), key=lambda one: (one.token.time_us, one.token.nonce))
        for case in (first, second):
            found = await case.items(space, b"r")
            assert found == {b"own0": b"9", b"own1": b"9", b"shared": newest.puts[1].value}
        applied = {receipt.version for receipt in receipts if receipt.sequence}
        events = await told(second, space, lambda some: applied <= {event.version for event in some})
        assert not any(event.in_doubt for event in events)

    play(story)


@pytest.mark.parametrize("later", [False, True])
def test_of_equal_times_the_greater_nonce_stays(later: bool) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        now_us = first.clock()
        low, high = WriteToken(now_us, b"\x01" * 16), WriteToken(now_us, b"\xfe" * 16)
        order = [(first, low, b"zzz low"), (second, high, b"aaa high")]
        for case, token, value in order if later else order[::-1]:
            await case.put(space, b"r", {b"": value, b"k": value}, token=token)
        for case in (first, second):
            assert set((await case.items(space, b"r")).values()) == {b"aaa high"}
        # A delete of that time with a nonce between takes nothing; one with a greater nonce does.
        between_both = WriteToken(now_us, b"\x80" * 16)
        assert (await first.delete(space, b"r", keys(b"k"), token=between_both)).deleted_items == 0
        greatest = WriteToken(now_us, b"\xff" * 16)
        assert (await second.delete(space, b"r", keys(b"k"), token=greatest)).deleted_items == 1
        assert await first.items(space, b"r") == {b"": b"aaa high"}

    play(story)


def test_late_writes_do_not_come_through_the_delete_of_another_server() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        early, earlier = second.token(), second.token()
        await first.put(space, b"r", {b"a": b"1", b"b": b"1", b"z": b"1"})
        await first.delete(space, b"r", keys(b"a", b"never"))
        await first.delete(space, b"r", between(b"b", b"c"))
        for token in (early, earlier):
            late = await second.put(space, b"r", {b"a": b"late", b"b": b"late", b"never": b"late"}, token=token)
            assert late.outcome is Outcome.SUPERSEDED
        assert await first.items(space, b"r") == {b"z": b"1"}
        await second.put(space, b"r", {b"a": b"new"})
        assert await first.items(space, b"r") == {b"a": b"new", b"z": b"1"}

    play(story)


def apart(skew_us: int, story: Callable[[Case, Case], Awaitable[None]]) -> None:
    """As ``play``, with the second server's clock ``skew_us`` off."""
    options = fresh()

    async def run() -> None:
        clocks = (Clock(), Clock())
        clocks[1].now_us += skew_us
        stores = [await CassandraStore.open(options, clock, timing=IMPATIENT) for clock in clocks]
        cases = [Case(store, clock, lambda: None) for store, clock in zip(stores, clocks, strict=True)]
        cases[1]._random.seed(2)
        try:
            await story(*cases)
        finally:
            for store in stores:
                await store.close()

    asyncio.run(run())


@pytest.mark.parametrize("skew_us", [-30 * SECOND_US, 30 * SECOND_US])
def test_servers_whose_clocks_differ(skew_us: int) -> None:
    """The token's time decides, made by whoever writes; a record's changes are told in the order of its writes."""

    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        versions, now_us = [], first.clock()
        for number in range(6):
            case = (first, second)[number % 2]
            token = WriteToken(now_us + number, b"%016d" % number)
            receipt = await case.put(space, b"r", {b"": b"%d" % number}, token=token)
            assert receipt.outcome is Outcome.APPLIED
            versions.append(receipt.version)
        for number in (7, 6):
            case = (first, second)[number % 2]
            render = Put(b"html", b"%d" % number, condition=older_than(number))
            outcome = (await case.put(space, b"r", (render,), token=WriteToken(now_us, b"%016d" % number))).outcome
            assert outcome is (Outcome.APPLIED if number == 7 else Outcome.SUPERSEDED)
        for case in (first, second):
            assert await case.items(space, b"r") == {b"": b"5", b"html": b"7"}
            events = await told(case, space, versions_of(7))
            assert [event.version for event in events][:6] == versions
        assert (await second.delete(space, b"r", token=WriteToken(now_us + 9, b"d" * 16))).deleted_items == 2
        assert await first.items(space, b"r") == {}
        gone = await first.put(space, b"r", (Put(b"html", b"7", condition=older_than(7)),), token=first.token())
        assert gone.outcome is Outcome.SUPERSEDED
        came = await first.put(space, b"r", (Put(b"html", b"8", condition=older_than(8)),), token=first.token())
        assert came.outcome is Outcome.APPLIED and await second.items(space, b"r") == {b"html": b"8"}

    apart(skew_us, story)


def losing(case: Case, times: int, *, done: bool) -> list[tuple[Any, ...]]:
    """From now on the answers to so many batches of records are lost, which were written or (not ``done``) were not.
    What was not is in the list."""
    session: Any = case.store._session  # type: ignore[attr-defined]
    batch, kept = session.batch, []

    async def lose(writes: Any, *args: Any, **rest: Any) -> Any:
        nonlocal times
        if times and any(" lww " in statement.prepared.query_string for statement, _ in writes):
            times -= 1
            if done:
                await batch(writes, *args, **rest)
            else:
                kept.append((writes, *args))
            raise OutcomeUnknown("the answer is lost")
        return await batch(writes, *args, **rest)

    session.batch = lose
    return kept


@pytest.mark.parametrize("done", [False, True])
def test_a_lost_answer_is_asked_for_again(done: bool) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        losing(first, 1, done=done)
        receipt = await first.put(space, b"r", {b"": b"1"})
        assert receipt.outcome is Outcome.APPLIED
        losing(first, 2, done=done)
        command = first.command(b"r", {b"": b"2"})
        with pytest.raises(OutcomeUnknown):
            await first.write(space, command)
        again = await second.write(space, command)
        assert again.outcome is (Outcome.REPEATED if done else Outcome.APPLIED)
        assert await first.items(space, b"r") == {b"": b"2"}
        found = await second.store.outcome(space, b"r", command.token)
        assert found is not None and found.current
        wanted = {receipt.version, again.version}
        events = await told(second, space, lambda some: wanted <= {event.version for event in some})
        assert all(event.version in wanted or event.in_doubt for event in events)

    play(story)


def test_what_surfaces_long_after_its_writer_died_is_told_then() -> None:
    """The intent is there, the write is not; a reader tells of it in doubt. Then the write appears after all."""

    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        session: Any = first.store._session  # type: ignore[attr-defined]
        batch = session.batch
        kept = losing(first, 2, done=False)
        command = first.command(b"r", {b"": b"late"})
        with pytest.raises(OutcomeUnknown):
            await first.write(space, command)
        behind = await second.put(space, b"s", {b"": b"1"})
        events = await told(second, space, versions_of(2))
        assert [(event.record, event.in_doubt) for event in events] == [(b"r", True), (b"s", False)]
        assert events[1].version == behind.version
        await batch(*kept[0])
        assert await second.items(space, b"r") == {b"": b"late"}
        second.clock.now_us += HOUR_US
        await second.store.sweep(second.clock(), 100)
        events = await told(second, space, versions_of(3))
        assert events[-1].version == (await second.page(space, b"r")).version and not events[-1].in_doubt

    play(story)


def test_a_writer_that_stops_for_long_tells_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        stopped, go_on = asyncio.Event(), asyncio.Event()
        send = LwwSteps.send

        async def slow(self: LwwSteps, *args: Any) -> None:
            if not stopped.is_set():
                stopped.set()
                await go_on.wait()
            await send(self, *args)

        monkeypatch.setattr(LwwSteps, "send", slow)
        writing = asyncio.create_task(first.put(space, b"r", {b"": b"late"}))
        await stopped.wait()
        start = await second.store.feed_start(space, from_beginning=True)
        (doubt,), behind = await told_behind(second, space, start, versions_of(1))
        assert doubt.in_doubt and doubt.record == b"r"
        go_on.set()
        receipt = await writing
        for case in (first, second):
            (event,), _ = await told_behind(case, space, behind, versions_of(1))
            assert event.version == receipt.version and not event.in_doubt

    play(story)


def test_a_change_that_its_writer_did_not_settle_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        dying(monkeypatch, Lane, "settle_some")
        receipts = [await first.put(space, b"r", {b"": b"%d" % number}) for number in range(3)]
        for case in (second, first):
            events = await told(case, space, versions_of(3))
            assert [event.version for event in events] == [receipt.version for receipt in receipts]
            assert [event.created for event in events] == [True, False, False]

    play(story)


def test_what_was_announced_and_not_written_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        with monkeypatch.context() as patch:
            dying(patch, LwwSteps, "send")
            with pytest.raises(Unavailable):
                await first.put(space, b"r", {b"": b"never"})
        receipt = await first.put(space, b"s", {b"": b"1"})
        events = await told(second, space, lambda some: any(event.version == receipt.version for event in some))
        assert [(event.record, event.in_doubt) for event in events] == [(b"r", True), (b"s", False)]
        assert await first.contents(space) == {b"s": {b"": b"1"}}

    play(story)


def test_a_record_that_ends_leaves_nothing_and_may_begin_again() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        await first.put(space, b"r", {b"": b"1", b"k": b"2"})
        await first.put(space, b"kept", {b"": b"1"})
        await first.delete(space, b"r")
        await first.delete(space, b"r", keys(b"other"))
        session: Any = first.store._session  # type: ignore[attr-defined]

        async def left() -> list[Any]:
            asked = f"SELECT record, kind, key, value, more FROM lww WHERE space = {space.number} AND record = 0x72"
            cells = await session.run(f"{asked} AND kind < 4")
            keys_of = await session.run("SELECT space, record FROM record_index")
            return [*cells, *(row for row in keys_of if row == (space.number, b"r"))]

        assert len(await left()) >= 2
        await first.pass_time(30 * HOUR_US)
        await first.pass_time(3 * HOUR_US)
        assert await left() == []
        await second.put(space, b"r", {b"k": b"new"}, token=first.token())
        assert await first.contents(space) == {b"kept": {b"": b"1"}, b"r": {b"k": b"new"}}
        assert (await first.delete(space, b"r", ALL)).deleted_items == 1

    play(story)
