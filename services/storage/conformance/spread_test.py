"""Wide records of an LWW namespace are spread over buckets while they are read and written: nothing is missed, nothing
comes back, whoever dies half way, and however many do it at once. A mutation never spans the buckets."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from libs.cassandra.errors import OutcomeUnknown
from libs.errors.errors import Unavailable
from services.storage.cassandra.lww import spreading
from services.storage.cassandra.lww.buckets import Note
from services.storage.cassandra.lww.spreading import BucketSize, Spreading, _Copy
from services.storage.cassandra.lww.steps import LwwSteps
from services.storage.cassandra.partition import Loaded
from services.storage.cassandra.store import CassandraStore
from services.storage.conformance.cassandra_faults_test import IMPATIENT, dying
from services.storage.conformance.kit import HOUR_US, MINUTE_US, Case, Clock, between, keys, older_than
from services.storage.conformance.node import fresh
from services.storage.domain.errors import ChecksumMismatch
from services.storage.domain.model import ALL, Delete, Mode, Put, Selection
from services.storage.domain.namespace import Namespace, Retention

LATE = 1 << 60
"""An epoch of renders that are newer than what was put plainly."""
WAIT_US = spreading.WAIT_US + MINUTE_US
TEN = BucketSize(items=10)


def play(story: Callable[[Case, Case], Awaitable[None]]) -> None:
    """Two servers to which ten items are a bucket."""
    given = fresh()

    async def run() -> None:
        clock = Clock()
        stores = [await CassandraStore.open(given, clock, None, IMPATIENT, TEN) for _ in range(2)]
        cases = [Case(store, clock, lambda: None) for store in stores]
        cases[1]._random.seed(2)
        try:
            await story(*cases)
        finally:
            for store in stores:
                await store.close()

    asyncio.run(run())


def items_of(*numbers: int, value: bytes = b"x") -> dict[bytes, bytes]:
    return {b"%03d" % number: value + b" %d" % number for number in numbers}


async def wide(case: Case, other: Case, many: int = 50, **settings: Any) -> tuple[Namespace, dict[bytes, bytes]]:
    """A namespace with a record of so many items, and these."""
    space = await case.space(Mode.LWW, **settings)
    await other.store.namespaces()
    there = items_of(*range(many)) | {b"": b"flat"}
    await case.put(space, b"r", there)
    return space, there


async def note_of(case: Case, space: Namespace) -> Note | None:
    """Where the record's items are."""
    store: Any = case.store
    steps: LwwSteps = store._lww
    loaded = Loaded()
    await steps.loader.rows((space.number, b"r"), (), loaded, 6)
    return steps.loader.partition((space.number, b"r"), loaded).note


async def held(case: Case, space: Namespace) -> dict[str, int]:
    """Rows of items by place: of kinds of rows of its own partition, and in buckets of runs."""
    store: Any = case.store
    session, found = store._session, {}
    for kind in (1, *range(16, 20)):
        rows = await session.execute(
            store._statements.read["lww_kind"], (space.number, b"r", kind, b"", kind + 1, b""), 6
        )
        found[f"kind {kind}"] = len(rows)
    note = await note_of(case, space)
    runs = {} if note is None else {"run": note.run, "before": note.before}
    for name, run in runs.items():
        for bucket in run.starts if run else ():
            assert run is not None
            values = (space.number, b"r", run.name, bucket)
            rows = await session.execute(store._statements.read["spread_bucket"], values, 6)
            found[name] = found.get(name, 0) + len(rows)
    return {place: count for place, count in found.items() if count}


async def reads_agree(case: Case, space: Namespace, there: dict[bytes, bytes]) -> None:
    """By all ways of reading."""
    for selection in (ALL, between(b"01", b"04"), keys(b"000", b"031", b"")):
        for reverse in (False, True):
            some = selection._replace(reverse=reverse)
            wanted = {key: value for key, value in there.items() if _selected(selection, key)}
            page = await case.items(space, b"r", some, max_items=17)
            assert page == wanted and list(page) == sorted(wanted, reverse=reverse)
    assert await case.contents(space) == ({b"r": there} if there else {})


def _selected(selection: Selection, key: bytes) -> bool:
    if selection.keys is not None:
        return key in selection.keys
    return selection.start <= key and (selection.end is None or key < selection.end)


def test_items_move_into_buckets_and_every_read_stays_as_it_was() -> None:
    async def story(first: Case, second: Case) -> None:
        space, there = await wide(first, second)
        assert await first.store.rebucket(space, b"r") == (1, 5)
        for places in ({"kind 1": 51}, {"kind 1": 51, "run": 51}, {"run": 51}):
            assert await held(first, space) == places
            for case in (first, second):
                await reads_agree(case, space, there)
            await second.pass_time(WAIT_US)
        assert await second.store.rebucket(space, b"r") == (5, 5)
        more = items_of(*range(100, 130), *range(0, 50, 7), value=b"y")
        for key, value in more.items():
            await second.put(space, b"r", {key: value})
        there |= more
        await reads_agree(first, space, there)
        assert await second.store.rebucket(space, b"r") == (5, 8)
        for _ in range(4):
            await reads_agree(first, space, there)
            await first.pass_time(WAIT_US)
        assert await held(second, space) == {"run": 81}
        (profile,) = await first.store.profile(space, b"", 10)
        assert profile.items == 81

    play(story)


@pytest.mark.parametrize("steps", [1, 3])
def test_what_is_written_and_deleted_at_any_time_is_all_there_is(steps: int) -> None:
    async def story(first: Case, second: Case) -> None:
        space, there = await wide(first, second, retention=Retention(max_versions=3))
        await first.store.rebucket(space, b"r")
        for _ in range(steps):
            await first.pass_time(WAIT_US)
        await second.put(space, b"r", {b"005": b"new", b"045": b"new", b"": b"new", b"200": b"new"})
        there |= {b"005": b"new", b"045": b"new", b"": b"new", b"200": b"new"}
        await second.delete(space, b"r", keys(b"006", b"046"))
        await second.delete(space, b"r", between(b"01", b"03"))
        for key in [b"006", b"046", *(b"%03d" % number for number in range(10, 30))]:
            del there[key]
        await first.write(space, first.command(b"r", {b"017": b"back"}, (Delete(between(b"04", b"045")),)))
        there = {key: value for key, value in there.items() if not b"04" <= key < b"045"} | {b"017": b"back"}
        for _ in range(4):
            for case in (first, second):
                await reads_agree(case, space, there)
            await second.pass_time(WAIT_US)
        # The undelete window and every grace are over: what hid the deleted ones goes, and they do not come back.
        await second.pass_time(30 * 24 * HOUR_US)
        await second.pass_time(30 * 24 * HOUR_US)
        await reads_agree(first, space, there)
        await first.delete(space, b"r")
        await first.pass_time(30 * 24 * HOUR_US)
        await first.pass_time(30 * 24 * HOUR_US)
        await reads_agree(second, space, {})
        await first.put(space, b"r", {b"010": b"again"})
        await reads_agree(second, space, {b"010": b"again"})

    play(story)


def test_items_that_expire_in_buckets_are_gone_and_stay_so() -> None:
    async def story(first: Case, second: Case) -> None:
        space, there = await wide(first, second)
        expire_us = first.clock() + 3 * WAIT_US
        await first.put(space, b"r", tuple(Put(b"%03d" % number, b"short", "", (), expire_us) for number in range(20)))
        await first.store.rebucket(space, b"r")
        for _ in range(2):
            await first.pass_time(WAIT_US)
        there = {key: value for key, value in there.items() if not b"000" <= key < b"020"}
        await second.pass_time(2 * WAIT_US, sweep=False)
        await reads_agree(second, space, there)
        await second.pass_time(WAIT_US)
        await second.pass_time(30 * 24 * HOUR_US)
        await reads_agree(first, space, there)
        assert await held(first, space) == {"run": 31}

    play(story)


@pytest.mark.parametrize(
    ("name", "after"), [("_note", True), ("flush", True), ("_copied", True), ("_leave", False), ("_leave", True)]
)
def test_whoever_dies_half_way_leaves_all_of_it_and_another_goes_on(
    monkeypatch: pytest.MonkeyPatch, name: str, after: bool
) -> None:
    async def story(first: Case, second: Case) -> None:
        space, there = await wide(first, second)
        try:
            with monkeypatch.context() as patch:
                dying(patch, _Copy if name == "flush" else Spreading, name, after=after)
                await first.store.rebucket(space, b"r")
                for _ in range(3):
                    await first.pass_time(WAIT_US)
        except Exception as error:
            assert isinstance(error, (Unavailable, OutcomeUnknown, RuntimeError)), error
        await reads_agree(second, space, there)
        await second.put(space, b"r", {b"005": b"new"})
        there[b"005"] = b"new"
        await second.store.rebucket(space, b"r")
        for _ in range(5):
            await second.pass_time(WAIT_US)
            await reads_agree(first, space, there)
        assert (await held(second, space))["run"] == 51

    play(story)


def test_two_that_spread_it_at_once_end_with_one_run() -> None:
    async def story(first: Case, second: Case) -> None:
        space, there = await wide(first, second)
        await asyncio.gather(*(case.store.rebucket(space, b"r") for case in (first, second)))
        for _ in range(4):
            first.clock.now_us += WAIT_US
            await asyncio.gather(*(case.store.sweep(first.clock(), 1000) for case in (first, second)))
            await reads_agree(first, space, there)
        assert await held(first, space) == {"run": 51}

    play(story)


@pytest.mark.parametrize("seed", range(2))
def test_writers_throughout(seed: int) -> None:
    async def story(first: Case, second: Case) -> None:
        chance = random.Random(seed)
        space, there = await wide(first, second)

        async def spread(case: Case) -> None:
            await case.store.rebucket(space, b"r")
            for _ in range(3):
                await case.store.sweep(case.clock(), 1000)

        for _ in range(12):
            # Those at the same time write different items, or the model would have to know who was first.
            numbers = chance.sample(range(80), 8)
            work: list[Awaitable[Any]] = [spread(chance.choice((first, second)))]
            for number in numbers:
                case = chance.choice((first, second))
                key = b"%03d" % number
                if chance.random() < 0.3:
                    there.pop(key, None)
                    work.append(case.write(space, case.command(b"r", (), (Delete(keys(key)),))))
                else:
                    there[key] = b"%d" % case.clock()
                    work.append(case.put(space, b"r", {key: there[key]}))
            await asyncio.gather(*work)
            await reads_agree(second, space, there)
            first.clock.now_us += chance.choice((MINUTE_US, WAIT_US, WAIT_US))
        for _ in range(4):
            await first.pass_time(WAIT_US)
        await reads_agree(second, space, there)

    play(story)


def test_a_writer_that_has_not_seen_the_note_is_moved_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(first: Case, second: Case) -> None:
        space, there = await wide(first, second)
        sent, go = asyncio.Event(), asyncio.Event()
        send = LwwSteps.send

        async def waiting(self: LwwSteps, *rest: Any) -> None:
            if not sent.is_set():
                sent.set()
                await go.wait()
            await send(self, *rest)

        monkeypatch.setattr(LwwSteps, "send", waiting)
        late = asyncio.create_task(second.put(space, b"r", {b"007": b"late"}))
        await sent.wait()
        await first.store.rebucket(space, b"r")
        go.set()
        await late
        there[b"007"] = b"late"
        for _ in range(4):
            await reads_agree(first, space, there)
            await first.pass_time(WAIT_US)
        assert await held(first, space) == {"run": 51}

    play(story)


def test_records_that_stay_as_they_are() -> None:
    async def story(first: Case, second: Case) -> None:
        space, there = await wide(first, second, 15)
        assert await first.store.rebucket(space, b"r") == (1, 1)
        assert await first.store.rebucket(space, b"nothing") is None
        await first.put(space, b"r", items_of(*range(40)))
        await first.put(space, b"r", (Put(b"page", b"one", condition=older_than(1)),))
        assert await first.store.rebucket(space, b"r") == (1, 1)
        cas = await first.space(Mode.CAS)
        await second.store.namespaces()
        await first.put(cas, b"r", items_of(*range(40)))
        assert await second.store.rebucket(cas, b"r") == (1, 1)

    play(story)


def test_renders_come_into_a_record_that_was_spread() -> None:
    async def story(first: Case, second: Case) -> None:
        space, there = await wide(first, second)
        await first.store.rebucket(space, b"r")
        for _ in range(3):
            await first.pass_time(WAIT_US)
        for sequence in (1, 2):
            put = Put(b"005", b"render %d" % sequence, condition=older_than(sequence, LATE))
            await second.write(space, second.command(b"r", (put,)))
            there[b"005"] = b"render %d" % sequence
            await reads_agree(first, space, there)
        await first.pass_time(30 * 24 * HOUR_US)
        await first.pass_time(30 * 24 * HOUR_US)
        await reads_agree(second, space, there)

    play(story)


def test_what_is_damaged_in_a_bucket_is_told_and_replaced() -> None:
    async def story(first: Case, second: Case) -> None:
        space, there = await wide(first, second)
        await first.store.rebucket(space, b"r")
        for _ in range(3):
            await first.pass_time(WAIT_US)
        note = await note_of(first, space)
        assert note is not None and note.run is not None
        store: Any = first.store
        place = (space.number, b"r", note.run.name, note.run.of(b"023"), 1, b"023")
        ((value, stamp),) = await store._session.execute(store._statements.read["spread_stamped"], place)
        damaged = value[:-1] + bytes([value[-1] + 1])
        await store._session.execute(store._statements.write["spread_put"], (stamp, damaged, *place))
        with pytest.raises(ChecksumMismatch) as told:
            await second.items(space, b"r")
        assert told.value.metadata == {"record": b"r".hex(), "item": b"023".hex()}
        await second.put(space, b"r", {b"023": b"new"})
        await reads_agree(first, space, there | {b"023": b"new"})

    play(story)


def test_nothing_is_left_of_a_namespace_that_is_purged() -> None:
    async def story(first: Case, second: Case) -> None:
        space, _ = await wide(first, second)
        await first.store.rebucket(space, b"r")
        for _ in range(3):
            await first.pass_time(WAIT_US)
        note = await note_of(first, space)
        assert note is not None and note.run is not None
        await second.store.purge_namespace(space)
        store: Any = first.store
        for bucket in note.run.starts:
            values = (space.number, b"r", note.run.name, bucket)
            assert not await store._session.execute(store._statements.read["spread_bucket"], values)
        assert not await store._session.execute(store._statements.read["runs"], (space.number,))

    play(story)
