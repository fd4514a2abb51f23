"""Rendering by a gRPC service of the deployment's (renderer.proto): a slice in one call, an answer for each page.

A page on which the service breaks must not take its slice with it. A call whose answer cannot be used is made again by
halves, down to the page; a call that brought no answer at all is a failed attempt of all its pages, and what has failed
before goes alone.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from google.protobuf.message import DecodeError
from google.rpc import code_pb2  # type: ignore[import-untyped]

from services.propagation.executor.pages import (
    DEFAULT_RENDER_TIMEOUT_S,
    Item,
    Outcome,
    Page,
    RenderFailed,
    SawOlder,
)
from services.propagation.executor.renderers import Slice
from services.propagation.executor.url_requests import exchange_all, problem_of
from services.propagation.targets.exchange import TOO_LARGE, Exchange
from services.propagation.targets.grpc_sender import MAX_ANSWER_BYTES, GrpcSender
from services.propagation.targets.target import Target
from services.propagation.targets.targets import Targets
from wellspring.propagation.v1 import renderer_pb2, work_pb2

METHOD = "/wellspring.propagation.v1.Renderer/Render"
_UNBOUNDED = 1 << 30
_RETRYABLE = frozenset(
    {code_pb2.UNAVAILABLE, code_pb2.ABORTED, code_pb2.RESOURCE_EXHAUSTED, code_pb2.DEADLINE_EXCEEDED}
)
_TRY_LATER = frozenset({408, 425, 429})


class GrpcRenderer:
    """Calls the Renderer service at an address. Raises TargetInvalid for a view that cannot be served."""

    def __init__(self, view: work_pb2.View, targets: Targets) -> None:
        address = view.render.grpc.address
        self._view = view.name
        self.target: Target = targets.get(address, partial(GrpcSender, targets.settings(address), METHOD))
        self._lane = self.target.lane(view.max_concurrency or _UNBOUNDED, yields=True)
        self._timeout_s = view.render.timeout.ToNanoseconds() / 1e9 or DEFAULT_RENDER_TIMEOUT_S

    async def render(self, items: Sequence[Item], given: Slice) -> list[Outcome]:
        """The slice in one call, but for what has failed before: a call each."""
        fresh = [item for item in items if not item.attempts]
        groups = [[item] for item in items if item.attempts] + ([fresh] if fresh else [])
        found: dict[int, Outcome] = {}
        async with asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(self._group(group, given, found))
        return [found[item.id] for item in items]

    async def close(self) -> None:
        """Gives the lane back; the channel is the target's."""
        self._lane.close()

    async def _group(self, items: Sequence[Item], given: Slice, found: dict[int, Outcome]) -> None:
        waiting = [list(items)]
        while waiting:
            group = waiting.pop()
            (exchange,) = await exchange_all(
                self._lane,
                [self._request(group, given)],
                timeout_s=self._timeout_s,
                max_body_bytes=MAX_ANSWER_BYTES,
                idempotent=True,
                first=given.first,
            )
            given.seconds += exchange.took_s
            results = _results(exchange, len(group))
            if isinstance(results, list):
                found.update({item.id: _outcome(one) for item, one in zip(group, results, strict=True)})
            elif len(group) > 1 and _by_halves(exchange):
                waiting += [group[: len(group) // 2], group[len(group) // 2 :]]
            else:
                found.update({item.id: results for item in group})

    def _request(self, items: Sequence[Item], given: Slice) -> bytes:
        return renderer_pb2.RenderRequest(
            view=self._view,
            resources=[item.resource for item in items],
            inputs=[
                renderer_pb2.Input(resource=one.resource, aspect=one.aspect, version=one.version)
                for one in given.inputs
            ],
        ).SerializeToString()


def _results(exchange: Exchange, count: int) -> list[renderer_pb2.Rendered] | Outcome:
    problem = problem_of(exchange, "RENDERER")
    if problem is not None:
        return problem
    try:
        response = renderer_pb2.RenderResponse.FromString(exchange.body)
    except DecodeError:
        return RenderFailed("RENDERER_GARBAGE", "the answer is no RenderResponse", retryable=False)
    if len(response.results) != count:
        detail = f"{len(response.results)} results for {count} pages; one for each, in order, is allowed"
        return RenderFailed("RENDERER_GARBAGE", detail, retryable=False)
    return list(response.results)


def _by_halves(exchange: Exchange) -> bool:
    """Whether the answer may be the fault of a few of the pages, and the service is there."""
    if exchange.error is not None:
        return exchange.error == TOO_LARGE
    return exchange.status not in _TRY_LATER


def _outcome(result: renderer_pb2.Rendered) -> Outcome:
    code = result.status.code
    if code:
        name = code_pb2.Code.Name(code) if code in code_pb2.Code.values() else str(code)
        return RenderFailed(f"RENDERER_{name}", result.status.message, retryable=code in _RETRYABLE)
    if result.saw_older:
        return SawOlder("the renderer saw an older input")
    return Page(
        result.body if not result.missing else b"",
        result.content_type or "application/octet-stream",
        tuple([(one.resource, one.aspect or "content") for one in result.dependencies]),
        tuple(result.surrogate_keys),
        result.missing,
    )
