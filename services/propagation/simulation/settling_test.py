"""Views that cannot tell how new their inputs are: what they read for the first time gets its second pass as well."""

import asyncio

import pytest

from services.propagation.domain import control, visibility
from services.propagation.domain.records import State
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import HTML, World

FEED = View("feed", ("feed/",), RetryPolicy(), 30.0, settle_s=20.0)
DELAY_S = 20.0


def world_of_a_feed() -> World:
    """A feed whose last render is due, its own second pass: in that one it reads t for the first time."""
    world = World([HTML, FEED])
    world.edit("feed/a")
    assert world.work(view="feed") == 1
    world.site.reads["feed", "feed/a"] = [("t", "content")]
    after(world, DELAY_S + 0.5)
    return world


def lagging(world: World):
    """A lease of the feed, rendered of a copy that has not what was edited last."""
    now = dict(world.site.shown_of)
    world.site.shown_of["t", "content"] = 0
    (grant,) = world.lease(view="feed")
    rendered = world.render(grant)
    world.site.shown_of = now
    world.store(rendered)
    world.purge(rendered)
    return rendered


def after(world: World, seconds: float) -> None:
    world.clock.advance(seconds)
    world.engine.tick()


@pytest.mark.parametrize("crash", [False, True])
def test_an_input_read_for_the_first_time_just_after_its_change_is_read_once_more(crash):
    world = world_of_a_feed()
    world.edit("t")
    if crash:
        world.crash()
    after(world, 1)
    rendered = lagging(world)
    assert world.record("t@1").state is State.DONE  # nothing was known to depend on it
    after(world, 10)
    world.complete(rendered)
    assert world.record("t@1").state is State.ACTIVE
    assert world.site.stale() == [("feed", "feed/a")]
    if crash:
        world.crash()
    after(world, DELAY_S - 11 - 0.5)
    assert world.lease(view="feed") == []
    after(world, 2)
    assert world.work(view="feed") == 1
    assert world.record("t@1").state is State.DONE
    assert world.site.stale() == []
    assert world.drain() == 0


def test_a_root_that_is_under_way_waits_for_the_second_pass():
    world = world_of_a_feed()
    world.pages(1, "t")
    world.edit("t")
    world.complete(lagging(world))
    world.work()
    assert world.record("t@1").state is State.ACTIVE
    assert world.drain() == 1
    assert world.record("t@1").state is State.DONE
    assert world.site.stale() == []


@pytest.mark.parametrize("crash", [False, True])
def test_n25_not_visible_before_the_second_pass(crash):
    world = world_of_a_feed()
    world.edit("t")
    world.complete(lagging(world))
    board = [("view/feed/feed/a", "content")]
    world.site.reads["html", "board"] = board
    world.declare("html", ["board"], [board])
    world.site.reads["feed", "feed/b"] = []
    world.edit("feed/b")
    if crash:
        world.crash()
    token = visibility.token(world.record("t@1").sequence)

    def state(page, view="feed"):
        answer = asyncio.run(visibility.wait(world.engine.shard, token, page, view, 0.0))
        return answer.state

    assert state("feed/a") == "pending"
    assert state("board", "html") == "pending", "it is made of one that is rendered twice"
    assert state("feed/b") == "", "the change does not reach it"
    after(world, DELAY_S + 0.5)
    assert state("feed/a") == "pending"
    world.drain()
    assert state("feed/a") == state("board", "html") == ""
    assert world.site.stale() == []


def test_a_root_that_was_cancelled_by_name_has_no_second_pass():
    world = world_of_a_feed()
    world.pages(1, "t")
    world.edit("t")
    control.cancel(world.engine.shard, "t@1", "a mistake")
    world.complete(lagging(world))
    assert world.drain() == 0
    assert world.record("t@1").state is State.CANCELLED


def test_a_completion_that_comes_after_the_delay_has_its_second_pass_at_once():
    world = world_of_a_feed()
    world.edit("t")
    rendered = lagging(world)
    after(world, DELAY_S + 2)
    world.complete(rendered)
    after(world, 0)
    assert world.work(view="feed") == 1
    assert world.site.stale() == []
    assert world.drain() == 0


def test_a_new_edge_behind_the_second_pass_of_its_input_is_late():
    """Another feed depends on t already, so that t has its second pass, while a lease is out that began before it."""
    world = world_of_a_feed()
    world.pages(1, "t", view="feed", prefix="feed/b")
    world.edit("t")
    grants = [*world.lease(1, "feed"), *world.lease(1, "feed")]
    of_a, of_b = sorted((world.render(grant) for grant in grants), key=lambda rendered: rendered.places)
    of_a.bodies = [b"of an older copy"]
    for rendered in (of_a, of_b):
        world.store(rendered)
        world.purge(rendered)
    world.complete(of_b)
    world.engine.shard.leases.extend(of_a.grant.lease, world.clock.now_s + 3 * DELAY_S)
    after(world, DELAY_S + 0.5)
    assert world.work(view="feed") == 1
    assert world.record("t@1").state is State.DONE
    world.complete(of_a)
    assert world.site.stale() == [("feed", "feed/a")]
    assert world.drain() == 1
    assert world.site.stale() == []


@pytest.mark.parametrize("crash", [False, True])
def test_an_input_that_changed_long_before_needs_no_second_pass_of_its_own(crash):
    world = World([HTML, FEED])
    world.edit("t")
    if crash:
        world.crash()
    after(world, DELAY_S + 1.5)
    world.site.reads["feed", "feed/a"] = [("t", "content")]
    world.edit("feed/a")
    assert world.work(view="feed") == 1
    assert [root.id for root in world.engine.shard.roots.values()] == ["feed/a@1"]


def test_a_view_that_can_tell_has_no_second_passes():
    world = World([HTML])
    world.edit("page/a")
    world.drain()
    world.site.reads["html", "page/a"] = [("t", "content")]
    world.edit("t")
    world.edit("page/a")
    assert world.drain() == 1
    assert world.engine.shard.roots == {}


def test_an_output_that_changed_when_nobody_depended_on_it_is_an_input_like_any_other():
    world = world_of_a_feed()
    world.site.reads["feed", "feed/a"] = [("view/html/page/a", "content")]
    world.edit("page/a")
    assert world.work() == 1
    (grant,) = world.lease(view="feed")
    rendered = world.render(grant)
    rendered.bodies = [b"of an older copy"]
    world.store(rendered)
    world.purge(rendered)
    world.complete(rendered)
    assert world.site.stale() == [("feed", "feed/a")]
    assert world.drain() == 1
    assert world.site.stale() == []
