"""PropagationWork of an engine in a fleet: it lends the work of the shards that it leads.

Each executor asks every engine. What is told about a lease goes to the shard that lent it, wherever that is led now: a
new owner refuses leases of the former one, and lends their items anew.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from google.protobuf.message import Message

from libs.errors.errors import WellspringError
from libs.rpc.call import Call
from libs.rpc.errors import to_status
from services.propagation import messages, packing
from services.propagation.domain.errors import Fenced
from services.propagation.fleet import ids
from services.propagation.fleet.local import LocalShard
from services.propagation.fleet.shards import Shards, whole
from services.propagation.work_servicer import MAX_WAIT_S
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed

_SERVICE = "PropagationWork"
_VIEWS = 0
"""The shard whose views executors work with."""
_LOOK_AGAIN_S = 1.0
_MARGIN_S = 0.2


class FleetWork:
    """See WorkServicer; once `stopping` is set, nothing is lent."""

    def __init__(self, shards: Shards, stopping: asyncio.Event) -> None:
        self._shards = shards
        self._stopping = stopping
        self._turn = 0

    async def Lease(self, request: work_pb2.LeaseRequest, call: Call) -> work_pb2.LeaseResponse:
        """Waits, at most the time asked for, until a shard here has work; shards have turns."""
        loop = asyncio.get_running_loop()
        wait_s = messages.seconds(request.wait, "wait", 0.0, MAX_WAIT_S, 0.0)
        end_s = loop.time() + min(wait_s, max(0.0, call.remaining_s - _MARGIN_S))
        while True:
            stopping = self._stopping.is_set()
            own = [] if stopping else self._in_turn()
            revision = request.views_revision
            for shard in own:
                response = shard.work.lease_now(request)
                revision = response.views_revision if shard.number == _VIEWS else revision
                if response.batches:
                    return _told(shard.number, response)
            left_s = end_s - loop.time()
            if left_s <= 0 or stopping:
                return work_pb2.LeaseResponse(views_revision=revision)
            with ExitStack() as waiting:
                for shard in own if request.first_turns else []:
                    waiting.enter_context(shard.work.awaiting_first(request))
                await self._shards.work.wait(min(left_s, _LOOK_AGAIN_S))

    def _in_turn(self) -> list[LocalShard]:
        own = [shard for shard in self._shards.own.values() if not shard.stopping.is_set()]
        self._turn += 1
        first = self._turn % len(own) if own else 0
        return own[first:] + own[:first]

    async def Complete(self, request: work_pb2.CompleteRequest, call: Call) -> work_pb2.CompleteResponse:
        """Each by the shard that lent it. One that moves is not waited for: it will have forgotten the lease."""
        parts: dict[int, work_pb2.CompleteRequest] = {}
        places: dict[int, list[int]] = {}
        results: list[Any] = [None] * len(request.completions)
        for at, message in enumerate(request.completions):
            shard, message.lease_id = ids.lease_asked(message.lease_id)
            try:
                self._check(shard)
            except WellspringError as error:
                results[at] = work_pb2.CompleteResponse.Result(status=to_status(error))
                continue
            parts.setdefault(shard, work_pb2.CompleteRequest()).completions.append(message)
            places.setdefault(shard, []).append(at)
        for at, result in await self._tell("Complete", parts, places, work_pb2.CompleteResponse.Result, call):
            results[at] = result
        return work_pb2.CompleteResponse(results=results)

    async def Extend(self, request: work_pb2.ExtendRequest, call: Call) -> work_pb2.ExtendResponse:
        """Each by the shard that lent it."""
        parts: dict[int, work_pb2.ExtendRequest] = {}
        places: dict[int, list[int]] = {}
        results: list[Any] = [None] * len(request.leases)
        for at, held in enumerate(request.leases):
            shard, held.lease_id = ids.lease_asked(held.lease_id)
            try:
                self._check(shard)
            except WellspringError as error:
                results[at] = work_pb2.ExtendResponse.Result(status=to_status(error))
                continue
            parts.setdefault(shard, work_pb2.ExtendRequest()).leases.append(held)
            places.setdefault(shard, []).append(at)
        for at, result in await self._tell("Extend", parts, places, work_pb2.ExtendResponse.Result, call):
            results[at] = result
        return work_pb2.ExtendResponse(results=results)

    async def _tell(
        self,
        method: str,
        parts: Mapping[int, Message],
        places: Mapping[int, Sequence[int]],
        failed: type[Any],
        call: Call,
    ) -> list[tuple[int, Any]]:
        """Of each place in the request the result of its shard, or that shard's error as one that `failed`."""
        answers = await self._shards.ask_each(_SERVICE, method, parts, call, patient=False)
        return [
            (at, failed(status=to_status(answer)) if isinstance(answer, WellspringError) else answer.results[nth])
            for shard, answer in answers.items()
            for nth, at in enumerate(places[shard])
        ]

    def _check(self, shard: int) -> None:
        if shard >= self._shards.count:
            raise Fenced(f"the lease is of shard {shard}, and there are {self._shards.count}")

    async def GetViews(self, request: work_pb2.GetViewsRequest, call: Call) -> work_pb2.GetViewsResponse:
        """Those of the first shard: all have the same."""
        answer: work_pb2.GetViewsResponse = await self._shards.ask(_VIEWS, _SERVICE, "GetViews", request, call)
        return answer

    async def ReportReads(self, request: work_pb2.ReportReadsRequest, call: Call) -> work_pb2.ReportReadsResponse:
        """To the shards of the pages."""
        resources, reads, fresh = packing.reported(request)
        mine: dict[int, list[int]] = {}
        for at, name in enumerate(resources):
            mine.setdefault(self._shards.of(name.decode()), []).append(at)
        parts = {
            shard: work_pb2.ReportReadsRequest(
                view=request.view,
                names=b"\0".join(resources[at] for at in places),
                reads=packed.encode_counts(reads[places]),
                fresh=packed.encode_counts(fresh[places]),
            )
            for shard, places in mine.items()
        }
        whole(await self._shards.ask_each(_SERVICE, "ReportReads", parts, call))
        return work_pb2.ReportReadsResponse()


def _told(shard: int, response: work_pb2.LeaseResponse) -> work_pb2.LeaseResponse:
    for batch in response.batches:
        batch.lease_id = ids.lease_told(shard, batch.lease_id)
        for root in batch.roots:
            root.root = ids.change_told(shard, root.root)
    return response
