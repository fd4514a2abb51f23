"""Fairness between a giant root and a flood of small ones, on the virtual clock."""

from services.propagation.domain.records import State
from services.propagation.domain.scheduler import QUANTUM_S
from services.propagation.simulation.world import World

_SMALL = 1_000
_BATCH = 400
_COST_S = QUANTUM_S / 100


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
