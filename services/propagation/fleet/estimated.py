"""What an edit would cost over all shards, and how many pages it reaches from one shard to the next.

Each shard follows outputs of its own, and names those that others want, which go on from these: so each page is counted
in its own shard, once.
"""

from typing import Any

from google.protobuf.message import Message

from libs.rpc.call import Call
from services.propagation.domain.impact import MOST_FOLLOWED
from services.propagation.fleet import across
from services.propagation.fleet.shards import Shards, whole
from services.propagation.fleet.telling import SERVICE
from wellspring.propagation.v1 import propagation_pb2, shards_pb2


async def estimated(
    shards: Shards, request: propagation_pb2.EstimateImpactRequest, call: Call
) -> propagation_pb2.EstimateImpactResponse:
    """Pages and seconds of rendering added up; shards work side by side, so of their times the longest."""
    response = propagation_pb2.EstimateImpactResponse()
    views: dict[str, Any] = {}
    for answer in whole(await shards.ask_all("Propagation", "EstimateImpact", request, call)):
        response.lane_queue_ahead += answer.lane_queue_ahead
        for one in answer.views:
            sum_ = views.setdefault(one.view, propagation_pb2.EstimateImpactResponse.ViewImpact(view=one.view))
            pages = sum_.dependents + one.dependents
            if pages:
                share = sum_.predicted_unchanged_share * sum_.dependents
                sum_.predicted_unchanged_share = (share + one.predicted_unchanged_share * one.dependents) / pages
            sum_.dependents = pages
            sum_.predicted_render_seconds += one.predicted_render_seconds
            sum_.predicted_seconds = max(sum_.predicted_seconds, one.predicted_seconds)
    response.views.extend(views[name] for name in sorted(views))
    response.transitive = await _reached(shards, request, call)
    return response


class _Following:
    """Of one shard: what it answered last, the outputs that it is still to go on from, and how many it may follow."""

    def __init__(self) -> None:
        self.outputs: list[str] = []
        self.last: shards_pb2.ReachOutputsResponse | None = None
        self.left = MOST_FOLLOWED

    @property
    def ended(self) -> bool:
        return self.left <= 0 or (self.last is not None and not self.last.more and not self.outputs)

    def next(self, request: propagation_pb2.EstimateImpactRequest) -> shards_pb2.ReachOutputsRequest:
        """What the shard is asked."""
        outputs, self.outputs = self.outputs[: across.MOST_FOLLOWED], self.outputs[across.MOST_FOLLOWED :]
        return shards_pb2.ReachOutputsRequest(
            resource=request.resource,
            aspects=request.aspects,
            outputs=outputs,
            pages=self.last.pages if self.last is not None else (),
            begun=self.last is not None,
        )


async def _reached(shards: Shards, request: propagation_pb2.EstimateImpactRequest, call: Call) -> int:
    """Pages beyond those that depend on the resource itself, were no output to stay as it is."""
    following = [_Following() for _ in range(shards.count)]
    fresh = 0
    while True:
        requests: dict[int, Message] = {
            number: one.next(request) for number, one in enumerate(following) if not one.ended
        }
        if not requests:
            return fresh
        answers = await shards.ask_each(SERVICE, "ReachOutputs", requests, call)
        for number, answer in zip(sorted(answers), whole(answers), strict=True):
            one = following[number]
            one.last = answer
            one.left -= answer.followed
            fresh += answer.fresh
            for wanted in answer.wanted:
                following[wanted.shard].outputs.extend(wanted.outputs)
