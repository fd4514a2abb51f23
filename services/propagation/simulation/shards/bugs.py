"""Deliberate bugs of a fleet, for the tests of its simulation: each replaces one function while the worlds run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

from libs.rpc.call import Call
from services.propagation.domain.interest import Interest
from services.propagation.domain.roots import Root
from services.propagation.fleet import interests, visible
from services.propagation.fleet.propagation import FleetPropagation
from services.propagation.fleet.shards import whole
from services.propagation.fleet.visible import Visible
from services.propagation.simulation.shards.world import FleetWorld
from wellspring.propagation.v1 import propagation_pb2


def take_from_a_former_owner(world: FleetWorld) -> None:
    """Brokers that take, and acknowledge, what an owner sends after the next one's word."""
    for log in world.fleet.logs:
        log.fencing = False


@contextmanager
def tell_nobody() -> Iterator[None]:
    """Outputs that other shards depend on are told to none."""
    with mock.patch.object(Interest, "note", lambda *_: None):
        yield


@contextmanager
def end_before_it_is_told() -> Iterator[None]:
    """A root ends though other shards are still to be told of what changed under it."""

    def finished(self: Root) -> bool:
        return not self.settling and not any(group.pending for group in self.groups.values())

    with mock.patch.object(Root, "finished", property(finished)):
        yield


@contextmanager
def ask_for_nothing() -> Iterator[None]:
    """Edges on outputs of other shards are written, and these are not asked to tell of them."""

    async def register(self: interests.Interests, resources: Sequence[str], call: Call) -> None:
        return

    with mock.patch.object(interests.Interests, "register", register):
        yield


@contextmanager
def acknowledge_what_one_shard_has() -> Iterator[None]:
    """A change is acknowledged when a shard has it; the others are not told."""

    async def publish(
        self: FleetPropagation, request: propagation_pb2.PublishChangesRequest, call: Call
    ) -> propagation_pb2.PublishChangesResponse:
        answers = await self._shards.ask_all("Propagation", "PublishChanges", request, call)
        taken = [answer for answer in answers.values() if not isinstance(answer, Exception)]
        if not taken:
            whole(answers)
        result = taken[0].results[0]
        return propagation_pb2.PublishChangesResponse(results=[result])

    with mock.patch.object(FleetPropagation, "PublishChanges", publish):
        yield


@contextmanager
def look_at_the_page_alone() -> Iterator[None]:
    """A page is visible when its own shard shows the change: what it is made of elsewhere is not asked for."""

    async def walk(self: Visible, request: propagation_pb2.AwaitVisibleRequest, call: Call) -> "visible._Way":
        return visible._Way()

    with mock.patch.object(Visible, "_walk", walk):
        yield
