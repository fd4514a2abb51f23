"""PropagationAdmin over all shards: views are put into each, rules into the first, dead letters and outputs are listed
shard after shard."""

from itertools import zip_longest
from typing import Any

from google.protobuf.message import Message

from libs.errors.errors import InvalidArgument
from libs.rpc.call import Call
from services.propagation import packing
from services.propagation.domain.names import split_names
from services.propagation.fleet import growth, ids
from services.propagation.fleet.costs import together
from services.propagation.fleet.shards import Answers, Shards, whole
from services.propagation.rules.rules import VIEW_PREFIX
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2

_SERVICE = "PropagationAdmin"
_FIRST = 0
"""The shard that decides about views, and has the rules."""
_MOST_TOLD = 100
_ADDED = ("resources", "edges", "pending", "leased", "retrying", "dead_letters")
_LARGEST = ("epoch", "sequence", "active_roots")


class FleetAdmin:
    """See AdminServicer."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def ValidateViews(
        self, request: admin_pb2.ValidateViewsRequest, call: Call
    ) -> admin_pb2.ValidateViewsResponse:
        """Every mistake, with its position; nothing is changed."""
        answer: admin_pb2.ValidateViewsResponse = await self._first("ValidateViews", request, call)
        return answer

    async def PutViews(self, request: admin_pb2.PutViewsRequest, call: Call) -> admin_pb2.PutViewsResponse:
        """The first shard decides; the others take what it took, later if they are away now (see spreading.py)."""
        answer: admin_pb2.PutViewsResponse = await self._first("PutViews", request, call)
        if answer.mistakes:
            return answer
        others = admin_pb2.PutViewsRequest(yaml=request.yaml, as_revision=answer.revision)
        requests: dict[int, Message] = dict.fromkeys(range(_FIRST + 1, self._shards.count), others)
        for taken in whole(await self._shards.ask_each(_SERVICE, "PutViews", requests, call)):
            answer.mistakes.extend(taken.mistakes)  # an engine of another release may see others
        return answer

    async def ListViews(self, request: admin_pb2.ListViewsRequest, call: Call) -> admin_pb2.ListViewsResponse:
        """Of the first shard."""
        answer: admin_pb2.ListViewsResponse = await self._first("ListViews", request, call)
        return answer

    async def ValidateRules(
        self, request: admin_pb2.ValidateRulesRequest, call: Call
    ) -> admin_pb2.ValidateRulesResponse:
        """Every mistake, with its position; nothing is changed."""
        answer: admin_pb2.ValidateRulesResponse = await self._first("ValidateRules", request, call)
        return answer

    async def PutRules(self, request: admin_pb2.PutRulesRequest, call: Call) -> admin_pb2.PutRulesResponse:
        """Into the first shard."""
        answer: admin_pb2.PutRulesResponse = await self._first("PutRules", request, call)
        return answer

    async def ListRules(self, request: admin_pb2.ListRulesRequest, call: Call) -> admin_pb2.ListRulesResponse:
        """Of the first shard."""
        answer: admin_pb2.ListRulesResponse = await self._first("ListRules", request, call)
        return answer

    async def QueryDeadLetters(
        self, request: admin_pb2.QueryDeadLettersRequest, call: Call
    ) -> admin_pb2.QueryDeadLettersResponse:
        """Shard after shard, those of rules in the first alone; `total` counts those of all. A page may be short, or
        empty, before the last one."""
        asked = self._filtered(request)
        shard, token = ids.place_asked(request.page_token, len(asked), "page_token")
        requests: dict[int, Message] = {}
        for number in asked:
            mine = self._with_filter(request, number)
            mine.page_token = token if number == shard else ""
            mine.page_size = request.page_size if number == shard else 1
            requests[number] = mine
        answers = await self._shards.ask_each(_SERVICE, "QueryDeadLetters", requests, call)
        total = sum(answer.total for answer in whole(answers))
        response: admin_pb2.QueryDeadLettersResponse = answers[shard]
        response.total = total
        for letter in response.dead_letters:
            letter.root = ids.change_told(shard, letter.root)
        response.next_page_token = self._next(shard, response.next_page_token, len(asked))
        return response

    async def ReplayDeadLetters(
        self, request: admin_pb2.ReplayDeadLettersRequest, call: Call
    ) -> admin_pb2.ReplayDeadLettersResponse:
        """In each shard."""
        answers = await self._each_filtered("ReplayDeadLetters", request, call)
        return admin_pb2.ReplayDeadLettersResponse(replayed=sum(answer.replayed for answer in whole(answers)))

    async def DiscardDeadLetters(
        self, request: admin_pb2.DiscardDeadLettersRequest, call: Call
    ) -> admin_pb2.DiscardDeadLettersResponse:
        """In each shard."""
        answers = await self._each_filtered("DiscardDeadLetters", request, call)
        return admin_pb2.DiscardDeadLettersResponse(discarded=sum(answer.discarded for answer in whole(answers)))

    async def Purge(self, request: admin_pb2.PurgeRequest, call: Call) -> admin_pb2.PurgeResponse:
        """By the engine of the first shard."""
        answer: admin_pb2.PurgeResponse = await self._first("Purge", request, call)
        return answer

    async def Rerender(self, request: admin_pb2.RerenderRequest, call: Call) -> admin_pb2.RerenderResponse:
        """Each page by its shard, all under one root."""
        names, gone = split_names(request.names, "names"), packing.versions(request.gone_versions, "gone_versions")
        if gone and len(gone) != len(names):
            raise InvalidArgument.field(
                "gone_versions", f"are {len(gone):,} for {len(names):,} names; one each is allowed"
            )
        mine: dict[int, list[bytes]] = {}
        mine_gone: dict[int, list[bytes]] = {}
        for name, version in zip_longest(names, gone, fillvalue=b""):
            shard = self._shards.of(name.decode())
            mine.setdefault(shard, []).append(name)
            mine_gone.setdefault(shard, []).append(version)
        requests: dict[int, Message] = {}
        for shard in mine or range(self._shards.count):
            requests[shard] = part = admin_pb2.RerenderRequest()
            part.CopyFrom(request)
            part.names = b"\0".join(mine.get(shard, ()))
            part.gone_versions = b"".join(mine_gone.get(shard, ()))
        answers = await self._shards.ask_each(_SERVICE, "Rerender", requests, call)
        found = whole(answers)
        return admin_pb2.RerenderResponse(
            root=next((answer.root for answer in found if answer.root), ""),
            pages=sum(answer.pages for answer in found),
            unknown=[name for answer in found for name in answer.unknown][:_MOST_TOLD],
        )

    async def ListOutputs(self, request: admin_pb2.ListOutputsRequest, call: Call) -> admin_pb2.ListOutputsResponse:
        """Shard after shard; a page may be short, or empty, before the last one."""
        shard, token = ids.place_asked(request.page_token, self._shards.count, "page_token")
        mine = admin_pb2.ListOutputsRequest()
        mine.CopyFrom(request)
        mine.page_token = token
        answer: admin_pb2.ListOutputsResponse = await self._shards.ask(shard, _SERVICE, "ListOutputs", mine, call)
        answer.next_page_token = self._next(shard, answer.next_page_token, self._shards.count)
        return answer

    async def ListCosts(self, request: admin_pb2.ListCostsRequest, call: Call) -> admin_pb2.ListCostsResponse:
        """By causer, added up over the shards."""
        if request.page_size < 0:
            raise InvalidArgument.field("page_size", f"is {request.page_size}; 0 and more are allowed")
        return await together(self._shards, request, call)

    async def GetStatus(self, request: admin_pb2.GetStatusRequest, call: Call) -> admin_pb2.GetStatusResponse:
        """Counts added up; of epochs, sequences and roots, which each shard has by itself, the largest."""
        answers = whole(await self._shards.ask_all(_SERVICE, "GetStatus", request, call))
        status = admin_pb2.GetStatusResponse(sources=answers[_FIRST].sources, followers=answers[_FIRST].followers)
        for name in _ADDED:
            setattr(status, name, sum(getattr(answer, name) for answer in answers))
        for name in _LARGEST:
            setattr(status, name, max(getattr(answer, name) for answer in answers))
        lanes: dict[str, Any] = {}
        for answer in answers:
            for lane in answer.lanes:
                sum_ = lanes.setdefault(lane.name, admin_pb2.GetStatusResponse.Lane(name=lane.name, weight=lane.weight))
                sum_.pending += lane.pending
                sum_.roots = max(sum_.roots, lane.roots)
            status.snapshots.extend(answer.snapshots)
            status.other_settings.extend(answer.other_settings)
        status.lanes.extend(lanes[name] for name in sorted(lanes))
        return status

    async def GrowShards(self, request: admin_pb2.GrowShardsRequest, call: Call) -> admin_pb2.GrowShardsResponse:
        """By the first shard; answered with the state of all."""
        growth.following(self._shards, request.shards)
        answer: admin_pb2.GrowShardsResponse = await self._first("GrowShards", request, call)
        answer.shards.CopyFrom(await growth.state(self._shards, call))
        answer.shards.growing_to = 0 if request.validate_only else request.shards
        return answer

    async def GetShards(self, request: admin_pb2.GetShardsRequest, call: Call) -> admin_pb2.GetShardsResponse:
        """As far as it is known here."""
        return admin_pb2.GetShardsResponse(shards=await growth.state(self._shards, call))

    async def _first(self, method: str, request: Message, call: Call) -> Any:
        return await self._shards.ask(_FIRST, _SERVICE, method, request, call)

    async def _each_filtered(self, method: str, request: Any, call: Call) -> Answers:
        requests: dict[int, Message] = {shard: self._with_filter(request, shard) for shard in self._filtered(request)}
        return await self._shards.ask_each(_SERVICE, method, requests, call)

    def _filtered(self, request: Any) -> range:
        """The shards that may have such dead letters."""
        return range(_FIRST, _FIRST + 1 if request.filter.view.startswith(VIEW_PREFIX) else self._shards.count)

    @staticmethod
    def _next(shard: int, token: str, shards: int) -> str:
        if token:
            return ids.place_told(shard, shards, token)
        return ids.place_told(shard + 1, shards, "") if shard + 1 < shards else ""

    def _with_filter(self, request: Any, shard: int) -> Any:
        """The request as the shard is to see it: its own root by the id that it has there."""
        mine = type(request)()
        mine.CopyFrom(request)
        at, own = ids.change_asked(request.filter.root, self._shards.first_sequence)
        if at == shard:
            mine.filter.root = own
        return mine
