"""Whether a page shows a change, where what it is made of goes through several shards.

The page's own shard waits until it shows what it has been told. Then the way back is walked through the shards: twice,
because each answers for a moment of its own (domain/upstream.py).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from libs.rpc.call import Call
from services.propagation import messages
from services.propagation.domain import names
from services.propagation.domain.paths import MOST_VISITED
from services.propagation.fleet import ids
from services.propagation.fleet.shards import Shards, whole
from services.propagation.fleet.telling import SERVICE
from wellspring.propagation.v1 import propagation_pb2, shards_pb2

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_MARGIN_S = 0.5
"""Kept of the caller's deadline, so that the answer reaches it."""


@dataclass(slots=True)
class _Way:
    """`answers` are those of all shards that were asked, in order; `state` is the first that is not empty."""

    state: str = ""
    answers: list[tuple[int, tuple[str, ...], bytes]] = field(default_factory=list)


class Visible:
    """Over all shards."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def wait(
        self, request: propagation_pb2.AwaitVisibleRequest, call: Call
    ) -> propagation_pb2.AwaitVisibleResponse:
        """See PropagationServicer.AwaitVisible."""
        names.check_resource(request.resource, "resource")
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        end_s = began_s + max(0.0, call.remaining_s - _MARGIN_S)
        pause_s = _FIRST_PAUSE_S
        shown: _Way | None = None
        while True:
            answer = await self._here(request, call)
            if answer.visible:
                way = await self._walk(request, call)
                if len(way.answers) > 1 or way.state:
                    agreed = shown is not None and not way.state and shown == way
                    answer.visible, answer.state = agreed, way.state or ("" if agreed else "pending")
                    first = shown is None
                    shown = way
                    if not way.state and first:
                        continue  # once more at once
            if answer.visible or loop.time() + pause_s >= end_s:
                answer.waited.CopyFrom(messages.duration(loop.time() - began_s))
                return answer
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _here(
        self, request: propagation_pb2.AwaitVisibleRequest, call: Call
    ) -> propagation_pb2.AwaitVisibleResponse:
        shard = self._shards.of(request.resource)
        mine = propagation_pb2.AwaitVisibleRequest()
        mine.CopyFrom(request)
        mine.visibility_token = self._token(request, shard)
        answer: propagation_pb2.AwaitVisibleResponse
        answer = await self._shards.ask(shard, "Propagation", "AwaitVisible", mine, call)
        return answer

    async def _walk(self, request: propagation_pb2.AwaitVisibleRequest, call: Call) -> _Way:
        """From the page back through all shards, until one does not show the change."""
        way = _Way()
        page = names.output_name(request.view, request.resource)
        ahead: dict[int, Sequence[str]] = {self._shards.of(page): [page]}
        readers: dict[int, set[int]] = {}
        seen: set[tuple[int, str]] = set()
        while ahead and not way.state:
            requests: dict[int, Message] = {
                shard: shards_pb2.CheckOutputsRequest(
                    visibility_token=self._token(request, shard),
                    outputs=sorted(set(outputs)),
                    readers=sorted(readers.get(shard, ())),
                )
                for shard, outputs in ahead.items()
            }
            answers = whole(await self._shards.ask_each(SERVICE, "CheckOutputs", requests, call))
            asked, ahead = sorted(ahead.items()), {}
            further: dict[int, list[str]] = {}
            readers = {}
            for (shard, outputs), answer in zip(asked, answers, strict=True):
                way.state = way.state or answer.state
                way.answers.append((shard, tuple(outputs), answer.renders))
                for source in answer.sources:
                    if (shard, source) not in seen:
                        seen.add((shard, source))
                        further.setdefault(self._shards.of(source), []).append(source)
                        readers.setdefault(self._shards.of(source), set()).add(shard)
            if len(seen) > MOST_VISITED:
                way.state = way.state or "pending"
            ahead.update(further)
        return way

    def _token(self, request: propagation_pb2.AwaitVisibleRequest, shard: int) -> str:
        return ids.visibility_asked(request.visibility_token, shard, self._shards.count)
