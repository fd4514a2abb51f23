"""Why a view of a resource is as it is, told by its shard; the path of a change goes on in the shards before it."""

from collections.abc import Sequence

from libs.rpc.call import Call
from services.propagation.domain.names import output_parts
from services.propagation.fleet import ids
from services.propagation.fleet.shards import Shards
from wellspring.propagation.v1 import propagation_pb2

_DEEPEST = 16
_MOST_ASKED = 50
"""Outputs of other shards that are asked about; the paths of further ones begin there."""

_Asked = dict[str, Sequence[propagation_pb2.ExplainResponse.Step]]


async def explained(
    shards: Shards, request: propagation_pb2.ExplainRequest, call: Call
) -> propagation_pb2.ExplainResponse:
    """Raises what the resource's shard raises."""
    answer = await _ask(shards, request, call)
    asked: _Asked = {}
    for step in answer.steps:
        path = await _whole(shards, step, asked, call)
        del step.path[:]
        step.path.extend(path)
    return answer


async def _ask(shards: Shards, request: propagation_pb2.ExplainRequest, call: Call) -> propagation_pb2.ExplainResponse:
    shard = shards.of(request.resource)
    answer: propagation_pb2.ExplainResponse
    answer = await shards.ask(shard, "Propagation", "Explain", request, call)
    for step in answer.steps:
        if step.HasField("root"):
            step.root.id = ids.change_told(shard, step.root.id)
    return answer


async def _whole(
    shards: Shards, step: propagation_pb2.ExplainResponse.Step, asked: _Asked, call: Call
) -> Sequence[str]:
    """The step's path from the root's resource on: where it begins with an output, that one's shard knows the way."""
    path = list(step.path)
    shard = shards.of(path[-1])
    for _ in range(_DEEPEST):
        parts = output_parts(path[0])
        if parts is None or not step.HasField("root") or shards.of(path[0]) == shard:
            break
        shard = shards.of(path[0])
        if path[0] not in asked:
            if len(asked) == _MOST_ASKED:
                break
            before = propagation_pb2.ExplainRequest(view=parts[0], resource=parts[1])
            asked[path[0]] = (await _ask(shards, before, call)).steps
        way = next((one.path[:-1] for one in asked[path[0]] if one.root.id == step.root.id), ())
        path = [*way, *path]
        if not way:
            break
    return path
