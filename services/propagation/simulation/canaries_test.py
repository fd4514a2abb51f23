"""Canary changes: acknowledged, without effect, and missed when they do not come; on the virtual clock."""

from services.propagation.domain.change import Cause, Change
from services.propagation.domain.listing import accepted_after
from services.propagation.domain.shard import Settings
from services.propagation.simulation.world import World


def canary(at, source="feed", change_id=""):
    return Change(
        id=change_id or f"canary-{source}-{at}",
        resource="template/a",
        aspects=("content",),
        version=(1 << 100).to_bytes(16, "big"),
        cause=Cause("canary"),
        attributes=(("source", source),),
    )


def overdue(world):
    return {state.name: state.overdue for state in world.engine.shard.canaries.states(world.clock.time_ns())}


def test_n27_no_canary_for_two_periods_alerts():
    world = World(settings=Settings(canaries={"feed": 60.0, "other": 600.0}))
    assert overdue(world) == {"feed": False, "other": False}
    world.clock.advance(119)
    assert not overdue(world)["feed"]
    world.clock.advance(2)
    assert overdue(world) == {"feed": True, "other": False}, "one that never came is missed too"
    world.engine.publish(canary(1))
    assert not overdue(world)["feed"]
    for at in range(2, 10):
        world.clock.advance(100)
        world.engine.publish(canary(at))
        assert not overdue(world)["feed"]
    world.clock.advance(121)
    assert overdue(world)["feed"]


def test_n27_a_restart_neither_forgets_canaries_nor_forgives_silence():
    world = World(settings=Settings(canaries={"feed": 60.0}))
    world.clock.advance(50)
    world.engine.publish(canary(1))
    last_ns = world.engine.shard.canaries.states(0)[0].last_ns
    assert last_ns == world.clock.time_ns()
    world.crash(keep=10)
    assert world.engine.shard.canaries.states(0)[0].last_ns == last_ns
    world.clock.advance(110)
    world.crash()
    assert not overdue(world)["feed"]
    world.clock.advance(11)
    assert overdue(world)["feed"]


def test_a_canary_begins_no_root_and_touches_no_page():
    world = World(settings=Settings(canaries={"feed": 60.0}))
    world.pages(3, "template/a")
    accepted, _ = world.engine.publish(canary(1))
    assert accepted.root == "" and not accepted.repeated
    assert not world.engine.shard.roots and not world.lease()
    again, _ = world.engine.publish(canary(1))
    assert again.repeated and again.sequence == accepted.sequence
    assert [record.begun for record in accepted_after(world.engine.shard, 0, 10)] == [False]
    world.edit("template/a")  # its version is far below the canary's
    assert world.drain() == 3


def test_canaries_of_unwatched_sources_are_counted_and_keep_nothing():
    world = World(settings=Settings(canaries={"feed": 60.0}))
    for at in range(5):
        world.engine.publish(canary(at, source=f"stranger-{at}"))
    assert world.engine.shard.canaries.unwatched == 5
    assert list(overdue(world)) == ["feed"]
