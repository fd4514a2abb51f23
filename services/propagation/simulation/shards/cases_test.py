"""Cases of a fleet that need one fault alone."""

import asyncio

import pytest

from services.propagation import messages
from services.propagation.domain.change import Change
from services.propagation.domain.partition import shard_of
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.places import PAGES
from services.propagation.simulation.shards.calling import call_of
from services.propagation.simulation.shards.world import FleetWorld
from wellspring.propagation.v1 import propagation_pb2 as pb

CALL_S = 30.0


async def led(world):
    world.fleet.begin(2)
    while not world.fleet.led_by_all:  # noqa: ASYNC110  nobody tells a test
        await asyncio.sleep(0.1)
    await world._put_first_views()


async def published(process, page, version):
    """The token of an edit of the page, made at a process."""
    change = Change(f"{page}@{version}", page, ("content",), version.to_bytes(16, "big"))
    request = pb.PublishChangesRequest(changes=[messages.change_message(change)])
    response = await process.serve(lambda: process.propagation.PublishChanges(request, call_of(CALL_S)))
    assert not response.results[0].status.code
    return response.results[0].visibility_token


@pytest.mark.parametrize("before", [False, True])
def test_a_former_owner_that_has_not_heard_of_the_next_one_answers_for_nothing(before):
    """It woke up late, and has nothing to write: so nobody has refused it yet."""

    async def main():
        await led(world)
        fleet, page = world.fleet, PAGES[0]
        number = shard_of(page, len(fleet.logs))
        former = fleet._given[number]
        heir = next(one for one in fleet.processes if one is not former)
        if before:
            await published(former, page, 1)
        fleet._give(number, heir)
        while number not in heir.led:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        token = await published(heir, page, 2)
        assert number in former.led
        asked = pb.GetChangeRequest(id=f"{page}@2")
        root = await former.serve(lambda: former.propagation.GetChange(asked, call_of(CALL_S)))
        assert (root.state, root.progress.total) == (pb.Root.STATE_ACTIVE, 2), "nobody renders here"
        seen = pb.AwaitVisibleRequest(visibility_token=token, resource=page, view="html")
        answer = await former.serve(lambda: former.propagation.AwaitVisible(seen, call_of(1.0)))
        assert not answer.visible

    world = FleetWorld(0, Faults())
    with world.patched():
        world.virtual.run(main())
