"""What must not be believed: after a cache that was away, a write it was not told of, a mark that was lost, a page that
was damaged, a setting that not all servers know."""

import asyncio
import dataclasses
import random

import pytest

from libs.errors.errors import Internal, Unavailable
from services.storage.cache.fake import Fault
from services.storage.cache.rig import play
from services.storage.domain.namespace import Cache
from services.storage.store.interface import Write


@pytest.mark.parametrize("answer", [Unavailable("?"), Internal("?"), ConnectionError("?")])
def test_a_write_whose_outcome_is_open_keeps_readers_at_the_store(answer):
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"": b"1"})
        await world.value(space)
        world.inside.answer = answer
        with pytest.raises(type(answer)):
            await world.case.put(space, b"r", {b"": b"2"})
        world.inside.answer = None
        for value in (b"2", b"3", b"4"):  # as if it came late
            assert await world.value(space) == value
            await world.inside.store.mutate([Write(space, world.case.command(b"r", {b"": b"%d" % (int(value) + 1)}))])
        world.pass_s(61)  # the mark is over
        await world.value(space)
        reads = world.inside.reads
        assert await world.value(space) == b"5" and world.inside.reads == reads

    play(story)


def test_a_write_ends_with_its_marks_though_its_caller_is_gone():
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"": b"1"})
        await world.value(space)
        world.inside.gate = asyncio.Event()
        call = asyncio.create_task(world.case.put(space, b"r", {b"": b"2"}))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await world.value(space) == b"1" and world.store.stats.writing == 1
        world.inside.gate.set()
        world.inside.gate = None
        while await world.value(space) != b"2":  # noqa: ASYNC110  # the write tells nobody when it ends
            await asyncio.sleep(0)
        hits = world.store.stats.hits
        for _ in range(3):
            await asyncio.sleep(0.01)
            assert await world.value(space) == b"2"
        assert world.store.stats.hits > hits

    play(story)


def test_a_cache_that_is_away_costs_nothing_but_itself_and_is_believed_only_from_a_new_beginning():
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"": b"1"})
        assert await world.value(space) == b"1"
        world.faults[0] = Fault.LOST
        for number in range(2, 20):
            await world.case.put(space, b"r", {b"": b"%d" % number})
            assert await world.value(space) == b"%d" % number
        stats = world.store.stats
        assert stats.failures == 3 and stats.refused and stats.owed == 1
        world.faults.clear()
        world.pass_s(1)
        assert await world.value(space) == b"19"
        assert stats.owed == 0
        reads = world.inside.reads
        assert await world.value(space) == b"19" and world.inside.reads == reads

    play(story)


def test_what_one_server_could_not_tell_the_others_learn_from_its_care():
    async def story(world):
        first, second = world.stores
        space = await world.space()
        await world.case.put(space, b"r", {b"": b"1"})
        assert await world.value(space, store=second) == b"1"
        world.faults[0] = Fault.LOST
        await world.case.put(space, b"r", {b"": b"2"})
        assert await world.value(space, store=first) == b"2"
        assert await world.value(space, store=second) == b"1"  # nobody could tell it
        world.faults.clear()
        world.pass_s(1)
        await first.pay()
        assert await world.value(space, store=second) == b"2"

    play(story, servers=2)


def test_who_saw_the_cache_away_believes_nothing_of_before_though_who_owes_is_dead():
    async def story(world):
        _, second = world.stores
        space = await world.space()
        await world.case.put(space, b"r", {b"": b"1"})
        assert await world.value(space, store=second) == b"1"
        world.faults = {0: Fault.LOST, 1: Fault.LOST}
        await world.case.put(space, b"r", {b"": b"2"})  # its server is never heard of again
        for _ in range(3):
            assert await world.value(space, store=second) == b"2"
        world.faults.clear()
        world.pass_s(1)
        assert await world.value(space, store=second) == b"2"

    play(story, servers=2)


def test_a_server_that_starts_believes_nothing_of_before():
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"": b"1"})
        await world.value(space)
        world.faults[0] = Fault.LOST
        await world.case.put(space, b"r", {b"": b"2"})
        started = world.server(1)
        assert await world.value(space, store=started) == b"2"

    play(story)


def test_a_debt_made_while_an_earlier_one_is_paid_stays():
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"": b"1"})
        await world.value(space)
        trust = world.store._trust
        trust.owe([space.number])
        debts = trust.debts
        trust.owe([space.number])
        trust.renewed([space.number], debts)
        assert space.number in trust.owed and not trust.trusts(space.number)
        trust.renewed([space.number], trust.debts)
        assert not trust.owed and trust.trusts(space.number)
        debts = trust.debts
        for _ in range(3):
            trust.failed()
        trust.renewed([space.number], debts)  # begun before the cache went away: no use
        assert not trust.trusts(space.number)

    play(story)


def test_a_mark_that_is_gone_takes_what_was_kept_in_its_absence():
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"": b"1"})
        await world.value(space)
        world.inside.gate = asyncio.Event()
        call = asyncio.create_task(world.case.put(space, b"r", {b"": b"2"}))
        await asyncio.sleep(0.01)
        world.memory.entries.clear()  # pushed out for want of memory
        assert await world.value(space) == b"1"
        assert await world.value(space) == b"1"
        world.inside.gate.set()
        await call
        assert await world.value(space) == b"2"

    play(story)


def test_damaged_pages_are_read_again_and_mended():
    async def story(world):
        space = await world.space()
        rng = random.Random(7)
        await world.case.put(space, b"r", {b"": b"x" * 500})
        for _ in range(50):
            await world.value(space)
            (entry,) = world.memory.entries.values()
            page = bytearray(entry.page)
            page[rng.randrange(len(page))] ^= 1 << rng.randrange(8)
            entry.page = bytes(page)
            assert await world.value(space) == b"x" * 500
        assert world.store.stats.damaged == 50

    play(story)


def test_a_cache_switched_off_or_on_is_so_for_all_servers_before_it_is_believed():
    async def story(world):
        first, second = world.stores
        on = await world.space()
        off = dataclasses.replace(on, settings=dataclasses.replace(on.settings, cache=Cache()))
        await world.case.put(on, b"r", {b"": b"1"})
        for _ in range(2):
            assert await world.value(on, store=second) == b"1"
        assert world.inside.reads == 2, "read through before others surely mark"
        world.pass_s(31)
        for _ in range(2):
            assert await world.value(on, store=second) == b"1"
        assert world.inside.reads == 3
        # The first server has learned that it is off, the second has not: writes are marked for it.
        await first.mutate([Write(off, world.case.command(b"r", {b"": b"2"}))])
        assert await world.value(on, store=second) == b"2"
        world.pass_s(31)
        assert await world.value(off, store=second) == b"2"
        await first.mutate([Write(off, world.case.command(b"r", {b"": b"3"}))])  # nobody marks now
        world.pass_s(1)
        await world.value(on, store=first)
        world.pass_s(31)
        assert await world.value(on, store=first) == b"3"

    play(story, servers=2, settle_s=30.0)


def test_a_cache_switched_off_and_on_again_holds_nothing_of_before():
    async def story(world):
        on = await world.space()
        off = dataclasses.replace(on, settings=dataclasses.replace(on.settings, cache=Cache()))
        await world.case.put(on, b"r", {b"": b"1"})
        assert await world.value(on) == b"1"
        await world.case.put(off, b"r", {b"": b"2"})  # nobody reads through the cache now, so nobody marks
        assert await world.value(off) == b"2"
        assert await world.value(on) == b"2"

    play(story)
