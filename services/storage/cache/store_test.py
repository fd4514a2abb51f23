"""A store behind its cache: what is asked of the store, what of the cache, and when a page is over."""

import dataclasses

import pytest

from services.storage.cache.rig import MAX_AGE_US, play
from services.storage.conformance.kit import between, keys
from services.storage.domain.model import ALL, Delete, Put
from services.storage.domain.namespace import Cache, Consistency, Retention
from services.storage.store.interface import Page, Read, Write


def test_a_record_is_read_once_and_any_selection_of_it_answered():
    async def story(world):
        space = await world.space()
        await world.case.put(space, b"r", {b"a": b"1", b"b": b"2", b"c": b"3"})
        assert len((await world.page(space)).items) == 3
        reads = world.inside.reads
        for selection in (ALL, keys(b"b"), keys(b"none"), between(b"b", None)):
            direct = await world.inside.store.read(Read(space, b"r", selection, None, 1 << 20, 1000))
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
        expire_us = world() + 2_000_000
        await world.case.put(space, b"r", (Put(b"a", b"1", expire_us=expire_us), Put(b"b", b"2")))
        assert len((await world.page(space)).items) == 2
        world.pass_s(3)
        for _ in range(2):  # not swept: the version is still to change, and nothing may be kept
            assert [one.key for one in (await world.page(space)).items] == [b"b"]
        before = (await world.page(space)).version
        while await world.inside.sweep(world(), 100):
            pass
        for _ in range(2):
            page = await world.page(space, selection=keys(b"b"))
            assert page.version == (await world.inside.store.read(Read(space, b"r", ALL, None, 1, 1))).version
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
            direct = await world.inside.store.read(Read(space, b"r", ALL, None, 1 << 20, 1000))
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
            direct = await world.inside.store.read_many(wanted, 1 << 20)
            assert [one[:4] for one in answered] == [one[:4] for one in direct]
        assert world.store.stats.hits == 21
        few = await world.store.read_many(wanted, 1500)
        came = [one for one in few if isinstance(one, Page)]
        assert 0 < len(came) < len(wanted) and sum(one.size for one in came) <= 1500 + 400
        assert all(isinstance(one, Page) or one.reason == "BATCH_BUDGET_SPENT" for one in few)

    play(story)
