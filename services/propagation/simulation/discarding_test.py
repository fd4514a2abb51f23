"""Dead letters that are given up by name: they stay so over restarts, until something newer wants them."""

from services.propagation.domain import dead_letters
from services.propagation.domain.dead_letters import Filter
from services.propagation.domain.holds import DISCARDED
from services.propagation.domain.records import State
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import World, failures_of


def test_discarded_dead_letters_are_given_up_by_name():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    pages = world.pages(3, "t")
    world.edit("t")
    (grant,) = world.lease()
    world.complete(world.render(grant), failed=failures_of([world.number(pages[0])]))
    assert dead_letters.discard(world.engine.shard, Filter(root="t@1"))[0] == 1
    assert dead_letters.discard(world.engine.shard, Filter())[0] == 0
    assert world.engine.shard.holds.dead_count == 0
    assert world.progress("t@1").tally.failed == 0


def test_discarded_dead_letters_stay_given_up_over_restarts():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    pages = world.pages(4, "t", "u")
    numbers = [world.number(page) for page in pages]
    world.edit("t")
    world.edit("u")
    (grant,) = world.lease(2)
    world.complete(world.render(grant), failed=failures_of(numbers[:2]))
    assert dead_letters.discard(world.engine.shard, Filter(resource_prefix=pages[0]))[0] == 1
    for _ in range(2):
        world.crash()
        assert world.engine.shard.holds.dead_count == 1
        tallies = [world.progress(root).tally for root in ("t@1", "u@1")]
        assert [(one.total, one.done, one.failed) for one in tallies] == [(3, 0, 1)] * 2
    assert dead_letters.discard(world.engine.shard, Filter())[0] == 1
    world.crash()
    world.clock.advance(6)
    world.engine.tick()  # roots are unfinished: the discards are kept
    world.crash()
    assert world.drain() == 2 and world.record("t@1").state is State.DONE
    # A newer change wants them all the same, over a restart too.
    world.edit("t")
    world.crash()
    assert world.drain() == 4 and world.site.stale() == []
    world.clock.advance(6)
    world.engine.tick()
    assert list(world.engine.shard.store.records(DISCARDED)) == []


def test_discarded_dead_letters_stay_given_up_where_a_successor_took_over():
    views = [View("html", ("page/",), RetryPolicy(1, 1.0, 60.0)), View("summary", (), RetryPolicy(1, 1.0, 60.0))]
    world = World(views, settings=Settings(max_superseded=1))
    first, second = world.pages(2, "t")
    world.site.reads["summary", first] = [(f"view/html/{first}", "content")]
    world.declare("summary", [first], [world.site.reads["summary", first]])
    world.edit("t")
    world.work(1)
    (grant,) = world.lease(view="summary")
    world.complete(world.render(grant), failed=failures_of([world.number(first)]))
    assert dead_letters.discard(world.engine.shard, Filter(view="summary"))[0] == 1
    world.edit("t")
    world.edit("t")  # the first root is folded into the second one, with its fan-outs
    assert world.record("t@1").state is State.DONE
    for _ in range(2):
        world.clock.advance(6)
        world.engine.tick()
        world.crash()
        assert world.lease(view="summary") == [] and world.progress("t@2").tally.total == 2
    assert world.drain() == 3 and world.site.stale() == []
    assert world.renders_of(second) == 1 and world.renders_of(first, "summary") == 2


def test_dead_letters_of_a_root_that_was_opened_again_are_discarded():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    pages = world.pages(4, "t")
    numbers = [world.number(page) for page in pages]
    world.edit("t")
    (grant,) = world.lease()
    world.complete(world.render(grant), failed=failures_of(numbers[:3]))
    assert world.progress("t@1").tally.failed == 3
    assert dead_letters.replay(world.engine.shard, Filter(resource_prefix=pages[0]))[0] == 1
    assert dead_letters.discard(world.engine.shard, Filter(resource_prefix=pages[1]))[0] == 1
    for _ in range(2):
        tally = world.progress("t@1").tally
        assert (tally.total, tally.done, tally.failed) == (3, 1, 1)
        world.crash()
    assert world.drain() == 1
    assert world.record("t@1").state is State.DONE_WITH_FAILURES
    assert dead_letters.discard(world.engine.shard, Filter())[0] == 1
    tally = world.progress("t@1").tally
    assert (tally.total, tally.done, tally.failed) == (2, 2, 0)
