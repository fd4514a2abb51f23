"""Fairness between a giant root and a flood of small ones, on the virtual clock."""

import asyncio

from services.propagation.domain.records import State
from services.propagation.domain.scheduler import QUANTUM_S
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import HTML, World

_SMALL = 1_000
_BATCH = 400
_COST_S = QUANTUM_S / 100
SUMMARY = View("summary", ("page/",), RetryPolicy(3, 1.0, 60.0), lease_s=30.0)


def _turn(world: World) -> list[bytes]:
    """One batch leased, rendered and completed: its names."""
    (grant,) = world.lease(_BATCH)
    rendered = world.render(grant)
    world.complete(rendered, seconds=len(rendered.ids) * _COST_S)
    return grant.names.split(b"\0")


def test_n09_a_thousand_small_roots_and_a_giant_share_by_halves():
    world = World()
    world.pages(20_000, "giant")
    for at in range(_SMALL):
        world.pages(1, f"small{at}", prefix=f"page/s{at:04}-")
    world.edit("giant")
    giant = world.record("giant@1").sequence
    for _ in range(5):
        _turn(world)
    before = world.engine.shard.roots[giant].done
    for at in range(_SMALL):
        world.edit(f"small{at}")
    order: list[bytes] = []
    while sum(name.startswith(b"page/s") for name in order) < _SMALL:
        order += _turn(world)
    small = sum(name.startswith(b"page/s") for name in order)
    # While both have work, each has its half, to within the batch in which one of them ran out and a quantum.
    slack = _BATCH + 100
    assert small == _SMALL
    assert abs(len(order) - 2 * small) <= slack
    assert world.engine.shard.roots[giant].done - before == len(order) - small
    assert all(world.record(f"small{at}@1").state is State.DONE for at in range(_SMALL))
    assert len(world.engine.shard.roots) == 1


def test_roots_whose_items_are_all_lent_have_no_turns_until_one_comes_back():
    world = World()
    for at in range(50):
        world.pages(2, f"small{at}", prefix=f"page/s{at:04}-")
        world.edit(f"small{at}")
    (grant,) = world.lease(100)
    lane = world.engine.shard.scheduler.lanes["default"]
    assert len(grant.lease.ids) == 100
    assert world.lease(100) == [] and len(lane) == 0
    world.clock.advance(31)
    world.engine.tick()
    assert len(lane) == 50
    assert world.drain() == 100
    assert len(lane) == 0 and world.engine.shard.roots == {} and world.site.stale() == []


def test_an_item_that_is_wanted_again_while_it_is_lent_gives_its_root_turns_again():
    world = World()
    world.pages(1, "a", prefix="page/a-")
    world.edit("a")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.edit("a")
    assert world.lease() == []  # all is lent: both roots have no turns now
    world.complete(rendered)
    assert world.drain() == 1
    assert world.engine.shard.roots == {} and world.site.stale() == []


def test_first_turns_alone_may_be_asked_for():
    world = World()
    world.pages(5_000, "giant")
    world.pages(1, "small", prefix="page/s-")
    world.edit("giant")
    _turn(world)
    engine = world.engine
    assert engine.lease_first("x", {"html": 20}) == []
    world.edit("small")
    (grant,) = engine.lease_first("x", {"html": 20})
    assert grant.names == b"page/s-0000"
    assert engine.lease_first("x", {"html": 20}) == []


def test_a_flood_of_first_turns_lets_the_giant_have_its_turn():
    world = World()
    world.pages(5_000, "giant")
    world.edit("giant")
    _turn(world)  # a page costs a hundredth of a quantum from here on
    for at in range(150):
        world.pages(1, f"small{at}", prefix=f"page/s{at:04}-")
        world.edit(f"small{at}")
    taken = 0
    while granted := world.engine.lease_first("x", {"html": 20}):
        taken += sum(len(grant.lease.ids) for grant in granted)
    # Of a quantum, a hundred pages, the giant took some for its own first turn.
    assert 50 <= taken <= 120
    order = [name for _ in range(2) for name in _turn(world)]
    assert any(not name.startswith(b"page/s") for name in order)
    assert sum(name.startswith(b"page/s") for name in order) + taken == 150


def _edit_beside_a_giant(world):
    world.pages(5_000, "giant")
    world.pages(1, "small", prefix="page/s-")
    world.edit("giant")
    _turn(world)
    world.edit("small")


def test_while_a_call_waits_for_first_turns_no_other_gets_them():
    world = World()
    _edit_beside_a_giant(world)
    engine = world.engine
    with engine.awaiting_first({"html": 20}), engine.awaiting_first({"html": 20}):
        (grant,) = world.lease(_BATCH)
        assert not any(name.startswith(b"page/s") for name in grant.names.split(b"\0"))
    (grant,) = engine.lease_first("x", {"html": 20})
    assert grant.names == b"page/s-0000"


def test_calls_that_do_not_ask_for_first_turns_get_them_when_nobody_waits():
    world = World()
    _edit_beside_a_giant(world)
    engine = world.engine
    with engine.awaiting_first({"html": 20}):
        pass
    (grant,) = world.lease(_BATCH)
    assert b"page/s-0000" in grant.names.split(b"\0")


def test_a_call_that_waits_for_first_turns_of_another_view_takes_none_away():
    world = World((HTML, SUMMARY))
    _edit_beside_a_giant(world)
    with world.engine.awaiting_first({"summary": 20}):
        (grant,) = world.lease(_BATCH)
    assert b"page/s-0000" in grant.names.split(b"\0")


def test_a_root_keeps_its_first_turn_until_a_call_comes_for_its_view():
    world = World((HTML, SUMMARY))
    _edit_beside_a_giant(world)
    engine = world.engine
    assert engine.lease_first("x", {"summary": 20}) == []
    assert engine.lease("x", {"summary": 20}) == []
    (grant,) = engine.lease_first("x", {"html": 20})
    assert grant.names == b"page/s-0000"


def test_a_new_giant_is_lent_at_once_to_who_waits_for_more_than_first_turns():
    world = World()
    world.pages(100, "big")

    async def main():
        signals = world.engine.shard.signals
        world.edit("big")
        waits = asyncio.ensure_future(signals.work.wait(10))
        await asyncio.sleep(0)
        with world.engine.awaiting_first({"html": 20}):
            assert world.lease(_BATCH) == []
        (grant,) = world.engine.lease_first("x", {"html": 20})
        assert len(grant.lease.ids) == 20
        assert await waits
        with world.engine.awaiting_first({"html": 20}):
            (grant,) = world.lease(_BATCH)
        assert len(grant.lease.ids) == 80

    asyncio.run(main())


def test_who_waits_for_first_turns_is_woken_when_they_may_come_again():
    world = World()
    world.pages(5_000, "giant")
    world.edit("giant")
    _turn(world)
    for at in range(150):
        world.pages(1, f"small{at}", prefix=f"page/s{at:04}-")
        world.edit(f"small{at}")
    engine = world.engine

    async def main():
        while engine.lease_first("x", {"html": 20}):
            pass
        waits = asyncio.ensure_future(engine.shard.signals.work.wait(10))
        await asyncio.sleep(0)
        with engine.awaiting_first({"html": 20}):
            (grant,) = world.lease(_BATCH)
            assert not any(name.startswith(b"page/s") for name in grant.names.split(b"\0"))
        assert await waits
        assert engine.lease_first("x", {"html": 20})

    asyncio.run(main())
