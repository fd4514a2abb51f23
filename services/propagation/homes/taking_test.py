"""What a home tells, in whatever order and however often, becomes pending here once the store here has it; what is not
taken yet is told again after a crash."""

import asyncio

import pytest

from services.propagation.auditor.addressing import addresses
from services.propagation.executor.hashing import GONE
from services.propagation.homes.fakes import SOME, West


def run(story):
    """The story of a data centre."""
    west = West()
    asyncio.run(story(west))


def test_a_page_is_taken_once_the_store_here_has_it():
    async def story(west):
        west.replica.here = {"w/a": 4}
        async with west.running():
            await west.until(lambda: west.kept() is not None and "html" in west.kept())
            before = west.kept()
            west.home.tell(("w/a", 5, SOME))
            await west.until(lambda: west.taking.awaited == 1)
            west.home.tell(("w/b", 6, SOME))
            west.replica.here["w/b"] = 6
            await west.until(lambda: west.roots() == [1])
            assert west.taking.awaited == 1, "the store has an older one"
            assert west.kept() == before, "it is told again after a crash"
            west.replica.here["w/a"] = 5
            await west.until(lambda: west.roots() == [1, 1] and west.kept() != before)
            assert west.taking.awaited == 0

    run(story)


def test_a_page_that_is_gone_is_taken_when_it_is_gone_here():
    async def story(west):
        west.replica.here = {"w/a": 4}
        async with west.running():
            await west.until(lambda: west.kept() is not None)
            west.home.tell(("w/a", 5, GONE))
            await west.until(lambda: west.taking.awaited == 1)
            west.home.tell(("w/b", 6, GONE))
            await west.until(lambda: west.roots() == [1])
            del west.replica.here["w/a"]
            await west.until(lambda: west.roots() == [1, 1])

    run(story)


def test_a_page_that_came_and_went_while_the_store_lagged_is_taken_as_gone():
    async def story(west):
        async with west.running():
            await west.until(lambda: west.kept() is not None)
            west.home.tell(("w/a", 5, SOME))
            await west.until(lambda: west.taking.awaited == 1)
            west.home.tell(("w/a", 7, GONE))
            await west.until(lambda: west.roots() == [1] and not west.taking.awaited)

    run(story)


def test_n19_what_is_told_twice_and_out_of_order_is_pending_once():
    async def story(west):
        async with west.running():
            await west.until(lambda: west.kept() is not None)
            west.home.tell(("w/a", 7, SOME))
            west.home.tell(("w/a", 5, SOME), ("other", 5, SOME))
            west.home.tell(("w/a", 7, SOME))
            west.home.tell(("w/x", 9, SOME), view="own")
            await west.until(lambda: west.taking.awaited == 2)
            west.replica.here = {"w/a": 7, "other": 5}
            await west.until(lambda: not west.taking.awaited)
            assert west.roots() == [1], "a page that the view does not cover has nothing to take"
            west.home.tell(("other", 5, SOME), ("w/a", 7, SOME))
            await west.until(lambda: '"5"' in west.kept())
            assert west.roots() == [1]

    run(story)


def test_what_was_not_taken_is_told_again_after_a_crash():
    async def story(west):
        async with west.running():
            await west.until(lambda: west.kept() is not None and "html" in west.kept())
            west.home.tell(("w/a", 5, SOME))
            await west.until(lambda: west.taking.awaited == 1)
        west.disk.crash()
        west.replica.here = {"w/a": 5}
        async with west.running():
            await west.until(lambda: west.roots() == [1] and '"1"' in west.kept())
            assert west.home.listings == 1

    run(story)


@pytest.mark.parametrize("known", [False, True], ids=["new", "cut off for longer than is told"])
def test_where_nobody_can_tell_what_is_missing_all_pages_are_gone_through(known):
    async def story(west):
        if known:
            async with west.running():
                await west.until(lambda: west.kept() is not None and "html" in west.kept())
            west.home.forgotten = True
        # Rendered last at 9 without a change: the store has it with 3, and here that is on its way still.
        west.home.listed = [("w/a", 9, SOME), ("w/b", 8, GONE), ("w/new", 0, bytes(16))]
        west.replica.anywhere, west.replica.here = {"w/a": 3}, {"w/a": 2, "w/b": 1}
        async with west.running():
            await west.until(lambda: west.taking.awaited == 2)
            assert west.roots() == []
            west.replica.here = {"w/a": 3}
            await west.until(lambda: sum(west.roots()) == 2 and not west.taking.awaited)

    run(story)


def test_a_home_that_is_away_is_waited_for():
    async def story(west):
        west.home.away = True
        async with west.running():
            await west.until(lambda: "Unavailable" in west.taking.state.error)
            west.home.away = False
            west.replica.here = {"w/a": 5}
            await west.until(lambda: west.kept() is not None)
            west.home.tell(("w/a", 5, SOME))
            await west.until(lambda: west.roots() == [1] and not west.taking.state.error)

    run(story)


def test_changes_of_what_is_rendered_elsewhere_make_nothing_pending_here():
    async def story(west):
        async with west.running():
            shard = west.engine.shard
            assert [shard.views.name(number) for number in shard.views.covering("w/a")] == ["own"]
            views = west.catalogue.for_executors(west.catalogue.messages)
            assert [view.render.WhichOneof("kind") for view in views] == ["take", "http"]
            assert list(addresses(views)) == ["own"], "the auditor leaves alone what it cannot judge"

    run(story)


def test_a_page_that_the_store_lost_without_a_render_is_taken_as_gone():
    async def story(west):
        west.replica.here = {"w/a": 5}
        async with west.running():
            await west.until(lambda: west.kept() is not None and "html" in west.kept())
            west.home.tell(("w/a", 5, SOME))
            await west.until(lambda: west.roots() == [1] and '"1"' in west.kept())
        west.home.forgotten, west.home.listed, west.replica.here = True, [("w/a", 5, SOME)], {}
        async with west.running():
            await west.until(lambda: west.roots() == [1, 1] and not west.taking.awaited)

    run(story)
