"""A growth of the number of shards: asked for of the first shard, and how far it is."""

from typing import Any

from google.protobuf.message import Message

from libs.errors.errors import FailedPrecondition, InvalidArgument, WellspringError
from libs.rpc.call import Call
from services.propagation.admin_servicer import AdminServicer
from services.propagation.domain.engine import Engine
from services.propagation.domain.generation import Generation, put_wanted
from services.propagation.fleet.ids import MOST_SHARDS
from services.propagation.fleet.shards import Shards
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2

_SERVICE = "PropagationAdmin"


class GrowthUnderWay(FailedPrecondition):
    """The shards grow already, to another number."""

    default_reason = "GROWTH_UNDER_WAY"


class GrowingAdmin(AdminServicer):
    """PropagationAdmin of a shard among several."""

    def __init__(self, engine: Engine, shards: Shards, *of_all: Any) -> None:
        super().__init__(engine, *of_all)
        self._shards = shards

    async def GrowShards(self, request: admin_pb2.GrowShardsRequest, call: Call) -> admin_pb2.GrowShardsResponse:
        """Durable when answered: then it goes on until it is done, whoever is killed. The same again changes nothing.
        Of the first shard."""
        follows = following(self._shards, request.shards)
        growth = self._shards.growth
        if growth is None or self._engine.shard.settings.part.number:
            raise FailedPrecondition("the first shard of a fleet of engines is asked for more shards")
        under_way = growth.wanted()
        if under_way is not None and under_way != follows:
            raise GrowthUnderWay(f"the shards grow to {under_way.shards} now: wait until they are there")
        if not request.validate_only:
            await growth.prepare(follows)
            step = self._engine.shard.step()
            put_wanted(step.commit, follows)
            await step.write()
        return admin_pb2.GrowShardsResponse()


def following(shards: Shards, wanted: int) -> Generation:
    """The generation of so many shards after this one. Raises InvalidArgument."""
    if wanted <= shards.count or wanted > MOST_SHARDS or wanted % shards.count:
        allowed = [str(one) for one in range(2 * shards.count, MOST_SHARDS + 1, shards.count)]
        raise InvalidArgument.field(
            "shards",
            f"is {wanted}; there are {shards.count}, of which each goes on as equally many:"
            f" {', '.join(allowed) or 'none'} are allowed",
        )
    return Generation(shards.generation + 1, wanted)


async def state(shards: Shards, call: Call) -> admin_pb2.ShardsState:
    """Of all shards, as far as it is known here."""
    answers = await shards.ask_each(_SERVICE, "GetStatus", _each(shards), call, patient=False)
    led = [number for number, answer in answers.items() if not isinstance(answer, WellspringError)]
    trimmed = {one.shard for number in led for one in answers[number].snapshots if one.log_begins_at}
    follows = shards.growth.wanted() if shards.growth is not None else None
    return admin_pb2.ShardsState(
        generation=shards.generation,
        shards=shards.count,
        led=led,
        growing_to=follows.shards if follows is not None else 0,
        sealed=shards.growth.sealed() if shards.growth is not None else [],
        former_log_needed_by=[number for number in range(shards.count) if number not in trimmed]
        if shards.generation > 1
        else [],
    )


def _each(shards: Shards) -> dict[int, Message]:
    return dict.fromkeys(range(shards.count), admin_pb2.GetStatusRequest())
