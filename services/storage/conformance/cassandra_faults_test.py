"""What only a store of several servers can go through: answers lost, writers that die half way, two that meet.

Two stores on one keyspace stand for two servers. A writer "dies" by never going on after some step of a commit.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from libs.cassandra.errors import OutcomeUnknown
from libs.cassandra.options import Options
from libs.errors.errors import Unavailable
from services.storage.cassandra.commit import Committer
from services.storage.cassandra.lanes import Lane
from services.storage.cassandra.store import CassandraStore, Timing
from services.storage.conformance.kit import Case, Clock, absent, etag
from services.storage.conformance.node import fresh
from services.storage.domain.errors import ConditionFailed, NamespaceChanged, NamespaceExists
from services.storage.domain.feed import ChangeEvent
from services.storage.domain.model import Mode, Outcome, Put
from services.storage.domain.namespace import Consistency, Namespace, Placement, Quota, Settings

IMPATIENT = Timing(patience_s=0.2)
Two = Callable[[Case, Case], Awaitable[None]]


@contextlib.asynccontextmanager
async def opened(options: Options, count: int) -> AsyncIterator[list[Case]]:
    """Servers of one keyspace, with one clock."""
    clock = Clock()

    async def another() -> CassandraStore:
        return await CassandraStore.open(options, clock, timing=IMPATIENT)

    cases = [Case(await another(), clock, another) for _ in range(count)]
    for number, case in enumerate(cases):
        case._random.seed(number)
    try:
        yield cases
    finally:
        for case in cases:
            await case.store.close()


def play(story: Two) -> None:
    options = fresh()

    async def run() -> None:
        async with opened(options, 2) as (first, second):
            await story(first, second)

    asyncio.run(run())


async def followed(case: Case, space: Namespace, count: int) -> list[ChangeEvent]:
    """The first ``count`` changes as a watcher gets them; waits for what is not settled."""
    cursor = await case.store.feed_start(space, from_beginning=True)
    found: list[ChangeEvent] = []
    async with asyncio.timeout(300):
        while len(found) < count:
            page = await case.store.feed(space, cursor, 3)
            found += page.events
            cursor = page.cursor
            if not page.more and len(found) < count:
                await case.store.feed_grown(space, cursor, 1)
    return found


def dying(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool = False) -> None:
    """From now on whoever calls the method fails, before or after having done it."""
    done = getattr(owner, name)

    async def die(*args: Any, **rest: Any) -> None:
        if after:
            await done(*args, **rest)
        raise Unavailable("the server died here")

    monkeypatch.setattr(owner, name, die)


def test_two_servers_lose_no_increment_and_the_feed_has_their_order() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.CAS)
        await first.put(space, b"counter", {b"": b"0"})

        async def increment(case: Case) -> None:
            for _ in range(10):
                while True:
                    item = (await case.page(space, b"counter")).items[0]
                    value = b"%d" % (int(item.value) + 1)
                    try:
                        await case.put(space, b"counter", (Put(b"", value, condition=etag(item.version)),))
                        break
                    except ConditionFailed:
                        continue

        await asyncio.gather(increment(first), increment(second))
        for case in (first, second):
            assert await case.items(space, b"counter") == {b"": b"20"}
            events = await followed(case, space, 21)
            versions = [event.version for event in events]
            assert versions == sorted(set(versions)) and [event.created for event in events] == [True] + [False] * 20

    play(story)


def test_a_cursor_resumes_in_every_lane() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.CAS)
        start = await first.store.feed_start(space, from_beginning=False)
        for number in range(12):
            await (first, second)[number % 2].put(space, b"%d" % (number % 3), {b"": b"%d" % number})
        await second.reopen()
        await second.put(space, b"0", {b"": b"last"})
        whole = await first.events(space, start)
        assert len(whole) == 13
        cursor, seen = start, []
        while True:
            page = await second.store.feed(space, cursor, 2)
            seen += page.events
            cursor = page.cursor
            if not page.events:
                break
            assert seen + await first.events(space, cursor) == whole
        assert seen == whole

    play(story)


def test_a_change_that_was_not_settled_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.CAS)
        with monkeypatch.context() as patch:
            dying(patch, Lane, "settle")
            receipt = await first.put(space, b"r", {b"": b"1"})
            other = await first.put(space, b"s", {b"": b"1"})
        assert receipt.outcome is Outcome.APPLIED
        # A writer that comes after settles what is in its way; a reader asks the record.
        later = await second.put(space, b"r", {b"": b"2"})
        for case in (second, first):
            events = await followed(case, space, 3)
            assert {(event.record, event.version) for event in events} == {
                (b"r", receipt.version),
                (b"r", later.version),
                (b"s", other.version),
            }
            assert [event.version for event in events if event.record == b"r"] == [receipt.version, later.version]

    play(story)


def test_what_was_announced_and_never_written_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.CAS)
        with monkeypatch.context() as patch:
            dying(patch, Committer, "_take")
            with pytest.raises(Unavailable):
                await first.put(space, b"r", {b"": b"never"})
            with pytest.raises(Unavailable):
                await first.put(space, b"nothing", {b"": b"never"})
        receipt = await first.put(space, b"s", {b"": b"1"})
        (event,) = await followed(second, space, 1)
        assert event.version == receipt.version
        assert not (await second.page(space, b"r")).found
        receipt = await second.put(space, b"r", {b"": b"now"}, condition=absent())
        assert (await followed(first, space, 2))[1].version == receipt.version
        assert await first.contents(space) == {b"r": {b"": b"now"}, b"s": {b"": b"1"}}

    play(story)


def test_a_writer_that_was_given_up_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops between its intent and its write for so long that a reader declares the change void, then goes on."""

    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.CAS)
        await first.put(space, b"r", {b"": b"0"})
        stopped, go_on = asyncio.Event(), asyncio.Event()
        take = Committer._take

        async def slow(self: Committer, *args: Any) -> bool:
            if not stopped.is_set():
                stopped.set()
                await go_on.wait()
            return await take(self, *args)

        monkeypatch.setattr(Committer, "_take", slow)
        writing = asyncio.create_task(first.put(space, b"r", {b"": b"late"}))
        await stopped.wait()
        behind = await second.put(space, b"s", {b"": b"1"})
        assert (await followed(second, space, 2))[1].version == behind.version
        first.clock.now_us += 1_000_000  # in one microsecond it is left to chance which of two servers is later
        go_on.set()
        receipt = await writing
        events = await followed(second, space, 3)
        assert [event.version for event in events] == [events[0].version, behind.version, receipt.version]
        assert await second.items(space, b"r") == {b"": b"late"}

    play(story)


def test_an_answer_that_is_lost() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.CAS)
        session: Any = first.store._session  # type: ignore[attr-defined]
        batch = session.batch

        def losing(*, done: bool) -> Callable[..., Awaitable[Any]]:
            async def lose(*args: Any, **rest: Any) -> Any:
                if rest.get("serial") is None:
                    return await batch(*args, **rest)
                if done:
                    await batch(*args, **rest)
                raise OutcomeUnknown("the answer is lost")

            return lose

        session.batch = losing(done=True)
        receipt = await first.put(space, b"r", {b"": b"1"})
        assert receipt.outcome is Outcome.APPLIED, "the record says that it happened"
        session.batch = losing(done=False)
        command = first.command(b"r", {b"": b"2"})
        with pytest.raises(OutcomeUnknown):
            await first.write(space, command)
        session.batch = batch
        assert await first.store.outcome(space, b"r", command.token) is None
        again = await second.write(space, command)
        assert again.outcome is Outcome.APPLIED
        assert (await first.write(space, command)).outcome is Outcome.REPEATED
        assert [event.version for event in await followed(second, space, 2)] == [receipt.version, again.version]

    play(story)


def test_a_write_goes_on_when_its_caller_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.CAS)
        begun, prepare = asyncio.Event(), Committer._prepare

        async def begin(self: Committer, *args: Any) -> Any:
            begun.set()
            return await prepare(self, *args)

        monkeypatch.setattr(Committer, "_prepare", begin)
        writing = asyncio.create_task(first.put(space, b"r", {b"": b"1"}))
        await begun.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert len(await followed(second, space, 1)) == 1
        assert await second.items(space, b"r") == {b"": b"1"}

    play(story)


def test_servers_share_the_catalog() -> None:
    async def story(first: Case, second: Case) -> None:
        making = (case.space(Mode.CAS, f"ns{number}") for case in (first, second) for number in (1, 2))
        spaces = await asyncio.gather(*making, return_exceptions=True)
        made = [one for one in spaces if isinstance(one, Namespace)]
        assert len(made) == 2 and len({one.number for one in made}) == 2
        assert all(isinstance(one, NamespaceExists) for one in spaces if one not in made)
        assert [one.name for one in await second.store.namespaces()] == ["ns1", "ns2"]
        assert await first.store.signing_key() == await second.store.signing_key()
        await first.store.namespaces()
        changed = _described(made[0], "by the first")
        await first.store.replace_namespace(changed)
        with pytest.raises(NamespaceChanged):
            await second.store.replace_namespace(_described(made[0], "by the second"))
        assert changed in await second.store.namespaces()

    play(story)


def test_counts_of_several_servers_are_one_sum() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW, quota=Quota(max_records=1000))
        for number, case in enumerate((first, second, first)):
            await case.put(space, b"%d" % number, {b"a": b"x", b"b": b"y"})
        await second.delete(space, b"0")
        await asyncio.gather(*(case.store.sweep(case.clock(), 10) for case in (first, second)))
        await first.reopen()
        usage = await first.store.usage(space)
        assert (usage.records, usage.items, usage.exact) == (2, 4, False)

    play(story)


def test_writes_of_a_namespace_at_home_elsewhere_are_refused() -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.store.create_namespace(
            Settings("homed", Mode.CAS, placement=Placement((), "elsewhere")), first.clock()
        )
        with pytest.raises(Unavailable, match="home") as refused:
            await first.put(space, b"r", {b"": b"1"})
        assert refused.value.reason == "CONSISTENCY_UNAVAILABLE"
        local = await first.store.create_namespace(
            Settings("here", Mode.CAS, placement=Placement((), "dc1")), first.clock()
        )
        await first.put(local, b"r", {b"": b"1"}, condition=absent())
        assert await second.items(local, b"r") == {b"": b"1"}

    play(story)


@pytest.mark.parametrize("consistency", list(Consistency))
@pytest.mark.parametrize("home", ["", "dc1"])
def test_every_consistency_reads_what_was_written(consistency: Consistency, home: str) -> None:
    async def story(first: Case, second: Case) -> None:
        placement = Placement((), home)
        space = await first.space(Mode.CAS, default_consistency=consistency, placement=placement)
        written = {b"%03d" % number: b"x" * number for number in range(40)}
        await first.put(space, b"wide", written)
        await first.put(space, b"flat", {b"": b"1"})
        assert await second.items(space, b"wide", max_items=7) == written
        assert await second.contents(space) == {b"wide": written, b"flat": {b"": b"1"}}
        assert (await second.page(space, b"flat")).items[0].value == b"1"
        assert len(await second.events(space)) == 2

    play(story)


def _described(space: Namespace, text: str) -> Namespace:
    settings = dataclasses.replace(space.settings, description=text)
    return dataclasses.replace(space, settings=settings, revision=space.revision + 1)
