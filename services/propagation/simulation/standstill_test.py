"""An engine that stood still, with its machine or by SIGSTOP, does not blame executors for what it did not hear."""

import asyncio

import pytest

from services.propagation.domain.errors import LeaseExpired
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import World

LEASE_S = 30.0


@pytest.fixture
def world():
    world = World([View("html", ("page/",), RetryPolicy(2, 1.0, 60.0), lease_s=LEASE_S)])
    world.pages(6, "t")
    world.edit("t")
    return world


async def at_work(world):
    """The engine's own work, begun."""
    working = asyncio.create_task(world.engine.run())
    await asyncio.sleep(0)
    return working


@pytest.mark.parametrize("first", ["a call", "its own work"])
def test_leases_hold_for_as_long_as_the_engine_stood_still_beside_their_time(world, first):
    async def story():
        grants = world.lease(3) + world.lease(3)
        working = await at_work(world)
        world.clock.advance(LEASE_S + 10)
        if first == "a call":
            world.engine.extend(grants[0].lease.id, grants[0].lease.fencing)
        working.cancel()
        working = await at_work(world)
        assert world.engine.shard.suspects.of(grants[0].lease.view) == {}
        for grant in grants:
            world.complete(world.render(grant))
        working.cancel()

    asyncio.run(story())
    assert world.progress("t@1").tally.done == 6


def test_a_lease_of_an_executor_that_is_gone_ends_while_the_engine_is_at_work(world):
    async def story():
        (grant,) = world.lease(6)
        for _ in range(int(LEASE_S)):
            working = await at_work(world)
            working.cancel()
            world.clock.advance(1)
        working = await at_work(world)
        assert world.engine.shard.suspects.of(grant.lease.view)
        with pytest.raises(LeaseExpired):
            world.complete(world.render(grant))
        working.cancel()

    asyncio.run(story())
