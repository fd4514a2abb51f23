"""What is foretold of an edit: how many, how long, and which share will turn out unchanged. What it cost, by causer."""

from services.propagation.domain import dead_letters, impact
from services.propagation.domain.causers import OTHERS, CauserCost
from services.propagation.domain.change import Cause, Change
from services.propagation.domain.dead_letters import Filter
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import World, failures_of


def foretold(world: World, resource: str) -> impact.ViewImpact:
    (one,) = impact.estimate(world.engine.shard, resource, ("content",)).views
    return one


def test_the_share_unchanged_is_that_of_the_resource_where_one_is_known():
    world = World()
    world.pages(40, "often", prefix="page/o")
    world.pages(40, "never", prefix="page/n")
    for resource in ("often", "never"):
        world.edit(resource)
        world.drain()
    world.edit("often")
    world.edit("never", visible=False)
    world.drain()
    assert foretold(world, "often").unchanged_share == 0.0
    assert foretold(world, "never").unchanged_share == 0.5  # half of two edits
    assert 0.2 < foretold(world, "page/new").unchanged_share < 0.3  # of the view: 40 of 160
    world.crash()
    assert foretold(world, "never").unchanged_share == 0.5


def test_a_root_under_way_tells_its_share_early_and_without_bias():
    """Pages in front stay as they are, those behind change: in the order of numbers the first thousand tell nothing."""
    world = World()
    pages = world.pages(10_000, "t")
    for page in pages[:5_000]:
        world.site.reads["html", page] = []
    world.edit("t")
    while grants := world.lease(5_000):
        for grant in grants:
            world.complete(world.render(grant), sets=False)
    world.edit("t")
    for _ in range(2):
        for grant in world.lease(500):
            world.complete(world.render(grant), sets=False)
    assert 0 < world.progress("t@2").tally.done <= 1_000
    assert 0.35 < foretold(world, "t").unchanged_share < 0.65


def test_a_sample_goes_first_and_nothing_is_leased_twice():
    world = World()
    world.pages(5_000, "t")
    world.edit("t")
    (first,) = world.lease(100)
    ids = first.lease.ids.tolist()
    assert ids != list(range(ids[0], ids[0] + 100))
    world.complete(world.render(first), sets=False)
    assert world.drain(items=2_000) == 4_900
    assert len(world.site.renders) == 5_000


def test_the_time_counts_those_who_have_their_turns_beside_it():
    world = World()
    world.pages(1_000, "t")
    world.pages(100, "u", prefix="page/u")
    world.edit("t")
    for _ in range(30):
        world.work(10)
        world.clock.advance(1)
    alone_s = 100 / world.engine.shard.costs.of(0).rate_per_s
    assert abs(foretold(world, "u").wall_s - 2 * alone_s) < 1e-6
    world.drain()
    assert abs(foretold(world, "u").wall_s - 100 / world.engine.shard.costs.of(0).rate_per_s) < 1e-6


def edit_by(world: World, causer: str, resource: str, version: int) -> None:
    change = Change(f"{resource}{version}", resource, ("content",), version.to_bytes(16, "big"), Cause("edit", causer))
    world.engine.publish(change)


def costs(world: World) -> dict[str, CauserCost]:
    shard = world.engine.shard
    unfinished = ((root.record.change.cause.causer, root.tally()) for root in shard.roots.values())
    return dict(shard.causers.totals(unfinished))


def test_costs_by_causer_are_exact_over_restarts_and_reopened_roots():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    pages = world.pages(10, "t")
    edit_by(world, "ann", "t", 1)
    (grant,) = world.lease()
    world.complete(world.render(grant), failed=failures_of([world.number(pages[0])]), seconds=9.0)
    assert costs(world) == {"ann": CauserCost(1, 9, 0, 9.0)}
    world.crash()
    assert costs(world) == {"ann": CauserCost(1, 9, 0, 9.0)}
    dead_letters.replay(world.engine.shard, Filter())
    assert costs(world)["ann"] == CauserCost(1, 9, 0, 9.0)  # opened again, not counted twice
    (grant,) = world.lease()
    world.complete(world.render(grant), seconds=1.0)
    world.crash()
    edit_by(world, "", "t", 2)
    (grant,) = world.lease()
    world.complete(world.render(grant), seconds=0.5)
    assert costs(world) == {"ann": CauserCost(1, 10, 0, 10.0), "": CauserCost(1, 10, 10, 0.5)}
    assert list(costs(world)) == ["ann", ""]


def test_the_cheapest_causers_are_folded_into_one():
    world = World(settings=Settings(max_causers=10))
    world.pages(1, "t")
    for at in range(1, 31):
        edit_by(world, f"causer-{at:02}", "t", at)
        (grant,) = world.lease()
        world.complete(world.render(grant), seconds=float(at))
    found = costs(world)
    assert len(found) <= 11 and OTHERS in found and "causer-30" in found and "causer-01" not in found
    assert sum(cost.seconds for cost in found.values()) == sum(range(1, 31))
    assert sum(cost.roots for cost in found.values()) == 30
    world.crash()
    assert costs(world) == found
