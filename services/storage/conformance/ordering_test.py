"""Conformance: how writes are ordered: by token, by render, by the store; and what conditions hold."""

import asyncio
import itertools

import pytest

from services.storage.conformance.kit import (
    HOUR_US,
    SECOND_US,
    Bench,
    Case,
    absent,
    between,
    etag,
    keys,
    older_than,
    rendered,
)
from services.storage.domain import limits
from services.storage.domain.errors import (
    ConditionFailed,
    ModeMismatch,
    RangeDeletesExhausted,
)
from services.storage.domain.model import ALL, Delete, Mode, Outcome, Put


def test_the_newest_write_wins_in_any_order(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        tokens = [case.token() for _ in range(4)]
        for number, order in enumerate(itertools.permutations(range(4))):
            record = b"%d" % number
            commands = [
                case.command(record, {b"k": b"old"}, token=tokens[0]),
                case.command(record, {b"k": b"newest"}, token=tokens[3]),
                case.command(record, (), (Delete(ALL),), token=tokens[1]),
                case.command(record, {b"k": b"mid", b"l": b"other"}, token=tokens[2]),
            ]
            for index in order:
                await case.write(space, commands[index])
            assert await case.items(space, record) == {b"k": b"newest", b"l": b"other"}, order

    bench.run(story)


def test_a_late_write_does_not_bring_a_deleted_item_back(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        early, late = case.token(), case.token()
        for record, selection in ((b"key", keys(b"a", b"")), (b"range", between(b"", b"b")), (b"all", ALL)):
            await case.delete(space, record, selection)
            receipt = await case.put(space, record, {b"a": b"late", b"": b"flat"}, token=early)
            assert receipt.outcome is Outcome.SUPERSEDED and receipt.sequence == 0
            assert not (await case.page(space, record)).found
            await case.pass_time(30 * SECOND_US)
            assert (await case.put(space, record, {b"a": b"later"}, token=late)).outcome is Outcome.SUPERSEDED
            assert (await case.put(space, record, {b"a": b"new"})).outcome is Outcome.APPLIED
            case.clock.now_us -= 30 * SECOND_US
        assert len(await case.events(space)) == 3

    bench.run(story)


def test_a_delete_and_a_put_of_one_mutation_do_not_fight(bench: Bench) -> None:
    async def story(case: Case) -> None:
        for mode in Mode:
            space = await case.space(mode)
            await case.put(space, b"r", {b"a": b"1", b"b": b"2", b"": b"0"})
            command = case.command(b"r", {b"a": b"new", b"c": b"3"}, (Delete(ALL),))
            receipt = await case.write(space, command)
            assert receipt.deleted_items == 3
            assert await case.items(space, b"r") == {b"a": b"new", b"c": b"3"}
            (last,) = (await case.events(space))[1:]
            assert not last.created and not last.deleted
            assert {(item.key, item.deleted) for item in last.items} == {
                (b"a", False),
                (b"b", True),
                (b"c", False),
                (b"", True),
            }
            assert (await case.write(space, command)).outcome is Outcome.REPEATED

    bench.run(story)


def test_the_other_modes_conditions_are_refused(bench: Bench) -> None:
    async def story(case: Case) -> None:
        lww, cas = await case.space(Mode.LWW), await case.space(Mode.CAS)
        for condition in (absent(), etag(b"x" * 16)):
            with pytest.raises(ModeMismatch):
                await case.put(lww, b"r", (Put(b"a", b"1", condition=condition),))
            with pytest.raises(ModeMismatch):
                await case.put(lww, b"r", {b"a": b""}, condition=condition)
        with pytest.raises(ModeMismatch):
            await case.put(cas, b"r", (Put(b"a", b"1", condition=older_than(1)),))

    bench.run(story)


def test_renders_are_ordered_by_their_version(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)

        async def render(sequence: int, value: bytes) -> Outcome:
            return (await case.put(space, b"r", (Put(b"", value, condition=older_than(sequence)),))).outcome

        assert await render(5, b"five") is Outcome.APPLIED
        assert (await case.page(space, b"r")).items[0].version == rendered(5)
        assert await render(4, b"four") is Outcome.SUPERSEDED
        assert await render(5, b"five again") is Outcome.SUPERSEDED
        assert await render(7, b"seven") is Outcome.APPLIED
        # Whoever deletes without a version removes what is there: older renders stay out, newer ones come through.
        assert (await case.delete(space, b"r")).deleted_items == 1
        assert await render(7, b"seven") is Outcome.SUPERSEDED
        assert await render(8, b"eight") is Outcome.APPLIED
        gone = await case.delete(space, b"r", keys(b""), item=older_than(9))
        assert gone.outcome is Outcome.APPLIED and gone.version == rendered(9)
        assert await render(9, b"nine") is Outcome.SUPERSEDED
        assert await render(10, b"ten") is Outcome.APPLIED
        late = await case.delete(space, b"r", keys(b""), item=older_than(9))
        assert late.outcome is Outcome.SUPERSEDED and late.deleted_items == 0
        assert await case.items(space, b"r") == {b"": b"ten"}
        assert [event.version for event in await case.events(space)][0] == rendered(5)

    bench.run(story)


def test_renders_ordered_by_the_record(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        await case.put(space, b"r", {b"html": b"1", b"meta": b"1"}, condition=older_than(1))
        three = case.command(b"r", {b"html": b"3"}, (Delete(ALL),), condition=older_than(3))
        assert (await case.write(space, three)).outcome is Outcome.APPLIED
        assert await case.items(space, b"r") == {b"html": b"3"}
        late = await case.put(space, b"r", {b"html": b"2", b"meta": b"2"}, condition=older_than(2))
        assert late.outcome is Outcome.SUPERSEDED
        # Put by item, an older version is held off by the delete of the whole too.
        old = await case.put(space, b"r", (Put(b"meta", b"2", condition=older_than(2)),))
        assert old.outcome is Outcome.SUPERSEDED
        assert await case.items(space, b"r") == {b"html": b"3"}
        await case.delete(space, b"r")
        assert (await case.put(space, b"r", {b"html": b"4"}, condition=older_than(4))).outcome is Outcome.APPLIED
        assert (await case.put(space, b"r", {b"html": b"5"}, condition=older_than(5))).outcome is Outcome.APPLIED

    bench.run(story)


def test_range_deletes_of_a_record_are_bounded(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        for number in range(200):
            # Each covers the one before: only the newest is remembered.
            await case.delete(space, b"growing", between(b"", b"%03d" % number))
        for number in range(limits.MAX_RANGE_TOMBS):
            await case.delete(space, b"r", between(b"%03d" % number, b"%03d+" % number))
        with pytest.raises(RangeDeletesExhausted):
            await case.delete(space, b"r", between(b"x", b"y"))
        await case.put(space, b"r", {b"a": b"1"})
        await case.delete(space, b"r", between(b"0", b"9"))
        await case.delete(space, b"r", between(b"x", b"y"))
        await case.pass_time(25 * HOUR_US)
        for number in range(limits.MAX_RANGE_TOMBS):
            await case.delete(space, b"r", between(b"%03d" % number, b"%03d+" % number))
        assert await case.items(space, b"r") == {b"a": b"1"}

    bench.run(story)


def test_versions_of_a_cas_namespace_rise_whatever_the_clock_does(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS)
        versions = [(await case.put(space, b"r", {b"": b"1"})).version]
        case.clock.now_us -= HOUR_US
        versions.append((await case.put(space, b"s", {b"": b"2"})).version)
        await case.reopen()
        versions.append((await case.put(space, b"r", {b"": b"3"})).version)
        assert versions == sorted(set(versions))
        assert [event.version for event in await case.events(space)] == versions

    bench.run(story)


def test_conditions_of_a_cas_namespace(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS)
        first = await case.put(space, b"r", (Put(b"a", b"1", condition=absent()),))
        with pytest.raises(ConditionFailed) as failed:
            await case.put(space, b"r", (Put(b"b", b"x"), Put(b"a", b"2", condition=absent())))
        assert failed.value.metadata == {"etag": first.version.hex(), "index": "1"}
        assert await case.items(space, b"r") == {b"a": b"1"}
        second = await case.put(space, b"r", (Put(b"a", b"2", condition=etag(first.version)),))
        assert second.version > first.version
        with pytest.raises(ConditionFailed) as failed:
            await case.put(space, b"r", (Put(b"zz", b"2", condition=etag(first.version)),))
        assert failed.value.etag == ""
        with pytest.raises(ConditionFailed) as failed:
            await case.put(space, b"r", {b"b": b"x"}, condition=etag(first.version))
        assert (failed.value.etag, failed.value.index) == (second.version.hex(), -1)
        with pytest.raises(ConditionFailed):
            await case.put(space, b"r", {b"b": b"x"}, condition=absent())
        third = await case.put(space, b"r", {b"b": b"3"}, condition=etag(second.version))
        # A delete of another item changes the record too: what was read of it is no longer what is there.
        await case.delete(space, b"r", keys(b"a"), item=etag(second.version))
        with pytest.raises(ConditionFailed):
            await case.put(space, b"r", {b"b": b"x"}, condition=etag(third.version))
        await case.delete(space, b"r")
        await case.put(space, b"r", {b"b": b"x"}, condition=absent())

    bench.run(story)


def test_concurrent_increments_lose_nothing(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS)
        await case.put(space, b"counter", {b"": b"0"})

        async def increment(times: int) -> int:
            lost = 0
            for _ in range(times):
                while True:
                    item = (await case.page(space, b"counter")).items[0]
                    value = b"%d" % (int(item.value) + 1)
                    try:
                        await case.put(space, b"counter", (Put(b"", value, condition=etag(item.version)),))
                        break
                    except ConditionFailed:
                        lost += 1
            return lost

        lost = await asyncio.gather(*(increment(20) for _ in range(10)))
        assert await case.items(space, b"counter") == {b"": b"200"}
        assert sum(lost) > 0, "nobody ever lost a race, so nothing was tried"
        assert len(await case.events(space)) == 201

    bench.run(story)
