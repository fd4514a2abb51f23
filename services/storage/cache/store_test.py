"""A store behind its cache: what is asked of the store, what of the cache, and what must not be believed."""

import asyncio
import dataclasses
import random

import pytest

from libs.errors.errors import Internal, Unavailable, WellspringError
from services.storage.cache.fake import FakeEntries, Fault, Memory
from services.storage.cache.store import CachedStore, Options
from services.storage.conformance.kit import START_US, Case, between, keys
from services.storage.domain.model import ALL, Delete, Mode, Put
from services.storage.domain.namespace import Cache, Consistency, Retention
from services.storage.store.interface import Page, Read, Write
from services.storage.store.memory import memory_store

MAX_AGE_US = 10_000_000
MOST = 4096


class Inside:
    """The store within: counts its reads, and fails or is held up when the test says so."""

    def __init__(self, store):
        self._store = store
        self.reads = 0
        self.answer = None
        self.gate = None

    async def read(self, read):
        self.reads += 1
        return await self._store.read(read)

    async def read_many(self, reads, max_bytes):
        self.reads += len(reads)
        return await self._store.read_many(reads, max_bytes)

    async def mutate(self, writes):
        if self.gate is not None:
            await self.gate.wait()
        results = await self._store.mutate(writes)
        if isinstance(self.answer, WellspringError):
            return [self.answer for _ in results]
        if self.answer is not None:
            raise self.answer
        return results

    def __getattr__(self, name):
        return getattr(self._store, name)


class World:
    """Servers of one store and one cache."""

    def __init__(self, servers=1, settle_s=0.0):
        self.memory = Memory()
        self.faults = {}
        self.now_s = 0.0
        self.settle_s = settle_s
        self.inside = Inside(memory_store(self.clock_us))
        self.stores = [self.server(number) for number in range(servers)]
        self.store = self.stores[0]
        self.case = Case(self.store, self, None)

    def clock_us(self):
        return START_US + int(self.now_s * 1e6) + self.extra_us

    extra_us = 0

    # What ``Case`` wants of a clock: it moves it by microseconds with each token.
    @property
    def now_us(self):
        return self.clock_us()

    @now_us.setter
    def now_us(self, value):
        self.extra_us += value - self.clock_us()

    def __call__(self):
        return self.clock_us()

    def server(self, number):
        def fault(name):
            return self.faults.get((number, name), self.faults.get(number, Fault.NONE))

        options = Options(b"k" * 32, MAX_AGE_US, MOST, self.settle_s)
        return CachedStore(self.inside, FakeEntries(self.memory, fault), options, self.clock_us, lambda: self.now_s)

    def pass_s(self, by_s):
        self.now_s += by_s
        self.memory.now_ms = int(self.now_s * 1000)

    async def space(self, mode=Mode.CAS, enabled=True, **more):
        return await self.case.space(mode, cache=Cache(enabled=enabled), **more)

    async def page(self, space, record=b"r", selection=ALL, store=None, **more):
        return await (store or self.store).read(Read(space, record, selection, None, 1 << 20, 1000, **more))

    async def value(self, space, record=b"r", store=None):
        page = await self.page(space, record, store=store)
        return page.items[0].value if page.items else None


def play(story, **options):
    async def run():
        world = World(**options)
        for store in world.stores:
            await store._work.start()
        await story(world)
        for store in world.stores:
            await store.close()

    asyncio.run(run())


def test_a_record_is_read_once_and_any_selection_of_it_answered():
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"a": b"1", b"b": b"2", b"c": b"3"})
        assert len((await world.page(space)).items) == 3
        reads = world.inside.reads
        for selection in (ALL, keys(b"b"), keys(b"none"), between(b"b", None)):
            direct = await world.inside._store.read(Read(space, b"r", selection, None, 1 << 20, 1000))
            cached = await world.page(space, selection=selection)
            assert cached[:4] == direct[:4]
        assert world.inside.reads == reads and world.store.stats.hits == 4

    play(story)


def test_that_nothing_is_there_is_kept_until_something_is():
    async def story(world):
        space = await world.space()
        for _ in range(2):
            assert not (await world.page(space)).found
        assert world.inside.reads == 1
        await world.case.put(space, b"r", {b"": b"1"})
        assert await world.value(space) == b"1"
        await world.case.delete(space, b"r")
        for _ in range(2):
            assert not (await world.page(space)).found

    play(story)


def test_namespaces_that_did_not_ask_are_not_cached():
    async def story(world):
        space = await world.space(enabled=False)
        await world.case.put(space, b"r", {b"": b"1"})
        for _ in range(3):
            assert await world.value(space) == b"1"
        assert world.inside.reads == 3 and not world.memory.entries

    play(story)


@pytest.mark.parametrize(
    "asked",
    [{"consistency": Consistency.STRONG_LOCAL}, {"consistency": Consistency.STRONG_GLOBAL}, {"seen": b"cookie"}],
)
def test_strong_reads_and_cookies_are_the_stores(asked):
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"": b"1"})
        await world.value(space)
        reads, hits = world.inside.reads, world.store.stats.hits
        await world.page(space, **asked)
        await world.store.read_many([Read(space, b"r", ALL, None, 1 << 20, 100, **asked)], 1 << 20)
        assert (world.inside.reads, world.store.stats.hits) == (reads + 2, hits)
        assert world.store.stats.bypassed == 2

    play(story)


def test_a_strong_namespace_is_cached_only_for_readers_who_ask_for_less():
    async def story(world):
        space = await world.space(default_consistency=Consistency.STRONG_GLOBAL)
        await world.case.put(space, b"r", {b"": b"1"})
        for _ in range(2):
            await world.page(space)
        assert world.inside.reads == 2
        for _ in range(2):
            await world.page(space, consistency=Consistency.EVENTUAL)
        assert world.inside.reads == 3

    play(story)


def test_an_item_that_expires_ends_its_page_and_the_sweep_is_not_missed():
    async def story(world):
        space = await world.space()
        expire_us = world.clock_us() + 2_000_000
        await world.case.put(space, b"r", (Put(b"a", b"1", expire_us=expire_us), Put(b"b", b"2")))
        assert len((await world.page(space)).items) == 2
        world.pass_s(3)
        for _ in range(2):  # not swept: the version is still to change, and nothing may be kept
            assert [one.key for one in (await world.page(space)).items] == [b"b"]
        before = (await world.page(space)).version
        while await world.inside.sweep(world.clock_us(), 100):
            pass
        for _ in range(2):
            page = await world.page(space, selection=keys(b"b"))
            assert page.version == (await world.inside._store.read(Read(space, b"r", ALL, None, 1, 1))).version
        assert page.version > before
        hits = world.store.stats.hits
        await world.page(space)
        assert world.store.stats.hits == hits + 1

    play(story)


def test_no_page_outlives_its_max_age():
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"": b"1"})
        assert await world.value(space) == b"1"
        await world.inside.mutate([Write(space, world.case.command(b"r", {b"": b"2"}))])  # by a server without a cache
        assert await world.value(space) == b"1"
        world.pass_s(MAX_AGE_US / 1e6)
        assert await world.value(space) == b"2"
        shorter = dataclasses.replace(space.settings, cache=Cache(True, 1_000_000))
        space = dataclasses.replace(space, settings=shorter)
        world.pass_s(MAX_AGE_US / 1e6)
        assert await world.value(space) == b"2"
        await world.inside.mutate([Write(space, world.case.command(b"r", {b"": b"3"}))])
        world.pass_s(1)
        assert await world.value(space) == b"3"

    play(story)


def test_every_kind_of_write_ends_the_page():
    async def story(world):
        space = await world.space(retention=Retention(undelete_window_us=3_600_000_000))
        case = world.case

        async def fresh():
            cached = await world.page(space)
            direct = await world.inside._store.read(Read(space, b"r", ALL, None, 1 << 20, 1000))
            assert cached[:4] == direct[:4]
            await world.page(space)
            return [one.key for one in cached.items]

        await case.put(space, b"r", {b"a": b"1", b"b": b"2"})
        assert await fresh() == [b"a", b"b"]
        await case.delete(space, b"r", between(b"a", b"b"))
        assert await fresh() == [b"b"]
        await world.store.undelete(space, case.command(b"r"), ALL, b"")
        assert await fresh() == [b"a", b"b"]
        items = [one async for one in world.store.copy(space)]
        await case.delete(space, b"r")
        assert await fresh() == []
        other = await world.space()
        assert not (await world.page(other)).found
        assert all(await world.store.load(other, items, free=True))
        assert len((await world.page(other)).items) == 2
        await world.store.mutate(
            [Write(space, case.command(b"r", {b"c": b"3"})), Write(other, case.command(b"r", (), (Delete(ALL),)))]
        )
        assert await fresh() == [b"c"] and not (await world.page(other)).found

    play(story)


def test_a_namespace_made_again_shares_nothing_with_the_one_that_is_gone():
    async def story(world):
        space = await world.space(name="again")
        await world.case.put(space, b"r", {b"": b"1"})
        await world.value(space)
        await world.store.purge_namespace(space)
        again = await world.space(name="again")
        assert await world.value(again) is None

    play(story)


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
            await world.inside._store.mutate([Write(space, world.case.command(b"r", {b"": b"%d" % (int(value) + 1)}))])
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


def test_a_big_record_is_not_kept_and_not_read_whole_each_time():
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"%03d" % number: b"x" * 100 for number in range(100)})
        for _ in range(3):
            assert [one.key for one in (await world.page(space, selection=keys(b"042"))).items] == [b"042"]
        assert world.inside.reads == 4 and world.store.stats.too_big == 2
        await world.case.delete(space, b"r", between(b"010", None))
        for _ in range(3):
            assert len((await world.page(space)).items) == 10
        assert world.inside.reads == 5

    play(story)


def test_batches_are_answered_from_both_in_order_and_within_their_bytes():
    async def story(world):
        space, plain = await world.space(), await world.space(enabled=False)
        for number in range(20):
            for where in (space, plain):
                await world.case.put(where, b"%02d" % number, {b"k": b"%02d" % number * 100})
        wanted = [Read(where, b"%02d" % n, ALL, None, 1 << 20, 100) for n in range(20) for where in (space, plain)]
        wanted.insert(3, Read(space, b"none", ALL, None, 1 << 20, 100))
        wanted.append(wanted[0])
        for _ in range(2):
            answered = await world.store.read_many(wanted, 1 << 20)
            direct = await world.inside._store.read_many(wanted, 1 << 20)
            assert [one[:4] for one in answered] == [one[:4] for one in direct]
        assert world.store.stats.hits == 21
        few = await world.store.read_many(wanted, 1500)
        came = [one for one in few if isinstance(one, Page)]
        assert 0 < len(came) < len(wanted) and sum(one.size for one in came) <= 1500 + 400
        assert all(isinstance(one, Page) or one.reason == "BATCH_BUDGET_SPENT" for one in few)

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
