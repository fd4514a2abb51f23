"""For operators of propagation: views and rules, dead letters, renders and purges by hand, outputs and costs."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from wellspring.propagation.v1 import propagation_admin_pb2 as pb
from wellspring_client import packed
from wellspring_client.calls import Caller
from wellspring_client.tokens import request_id

_SERVICE = pb.DESCRIPTOR.services_by_name["PropagationAdmin"]
_Answer = TypeVar("_Answer", bound=Message)


MAX_RERENDER_NAMES = 100_000
_PENDING, _DEAD, _RETRYING = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Output:
    """What the engine believes of one page: hash and version of the last accepted render, 16 bytes each (zeros: none).

    ``pending``: to be rendered; ``dead_letter``: given up; ``retrying``: waits for its next attempt.
    """

    resource: str
    hash: bytes
    version: bytes
    pending: bool
    dead_letter: bool
    retrying: bool


class PropagationAdmin:
    """Views, rules, dead letters, renders and purges by hand, outputs, costs."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def validate_views(self, yaml: str, *, timeout: float | None = None) -> pb.ValidateViewsResponse:
        """Every mistake in a views file, with its position; nothing is changed."""
        return await self._call("ValidateViews", pb.ValidateViewsRequest(yaml=yaml), pb.ValidateViewsResponse, timeout)

    async def put_views(self, yaml: str, *, if_revision: int = 0, timeout: float | None = None) -> pb.PutViewsResponse:
        """Make these all the views of the deployment; nothing changes when the answer has mistakes."""
        request = pb.PutViewsRequest(yaml=yaml, if_revision=if_revision)
        return await self._call("PutViews", request, pb.PutViewsResponse, timeout)

    async def list_views(self, *, timeout: float | None = None) -> pb.ListViewsResponse:
        """The views in force."""
        return await self._call("ListViews", pb.ListViewsRequest(), pb.ListViewsResponse, timeout)

    async def validate_rules(self, yaml: str, *, timeout: float | None = None) -> pb.ValidateRulesResponse:
        """Every mistake in a rules file, with its position; nothing is changed."""
        return await self._call("ValidateRules", pb.ValidateRulesRequest(yaml=yaml), pb.ValidateRulesResponse, timeout)

    async def list_rules(self, *, timeout: float | None = None) -> pb.ListRulesResponse:
        """The rules in force, as they were put."""
        return await self._call("ListRules", pb.ListRulesRequest(), pb.ListRulesResponse, timeout)

    async def put_rules(self, yaml: str, *, if_revision: int = 0, timeout: float | None = None) -> pb.PutRulesResponse:
        """Make these all the rules of the deployment; nothing changes when the answer has mistakes."""
        request = pb.PutRulesRequest(yaml=yaml, if_revision=if_revision)
        return await self._call("PutRules", request, pb.PutRulesResponse, timeout)

    async def dead_letters(
        self,
        *,
        view: str = "",
        resource_prefix: str = "",
        root: str = "",
        reason: str = "",
        timeout: float | None = None,
    ) -> AsyncIterator[pb.DeadLetter]:
        """Renders that were given up after their last attempt."""
        chosen = _filter(view, resource_prefix, root, reason)
        request = pb.QueryDeadLettersRequest(filter=chosen)
        while True:
            answer = await self._call("QueryDeadLetters", request, pb.QueryDeadLettersResponse, timeout)
            for letter in answer.dead_letters:
                yield letter
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def replay_dead_letters(
        self,
        *,
        view: str = "",
        resource_prefix: str = "",
        root: str = "",
        reason: str = "",
        timeout: float | None = None,
    ) -> int:
        """Make dead letters pending again; returns how many."""
        request = pb.ReplayDeadLettersRequest(filter=_filter(view, resource_prefix, root, reason))
        return (await self._call("ReplayDeadLetters", request, pb.ReplayDeadLettersResponse, timeout)).replayed

    async def discard_dead_letters(
        self,
        why: str,
        *,
        view: str = "",
        resource_prefix: str = "",
        root: str = "",
        reason: str = "",
        timeout: float | None = None,
    ) -> int:
        """Give dead letters up for good, and say ``why``; returns how many."""
        chosen = _filter(view, resource_prefix, root, reason)
        request = pb.DiscardDeadLettersRequest(filter=chosen, reason=why)
        return (await self._call("DiscardDeadLetters", request, pb.DiscardDeadLettersResponse, timeout)).discarded

    async def purge(
        self,
        *,
        url: str | None = None,
        tag: str | None = None,
        resource: str | None = None,
        min_version: bytes = b"",
        timeout: float | None = None,
    ) -> pb.PurgeResponse:
        """Purge every cache of one url, tag or resource. Raises ValueError unless exactly one is given."""
        if (url is not None) + (tag is not None) + (resource is not None) != 1:
            raise ValueError("give exactly one of url, tag and resource")
        request = pb.PurgeRequest(min_version=min_version)
        if url is not None:
            request.url = url
        elif tag is not None:
            request.tag = tag
        elif resource is not None:
            request.resource = resource
        return await self._call("Purge", request, pb.PurgeResponse, timeout)

    async def rerender(
        self,
        view: str,
        resources: Iterable[str] | None = None,
        *,
        id: str | None = None,
        publish_unchanged: bool = False,
        lane: str = "",
        reason: str = "",
        timeout: float | None = None,
    ) -> pb.RerenderResponse:
        """Render pages of ``view`` again, without a change: these ``resources``, or None for all that it rendered.

        The answer names the change to follow, pause or cancel. ``publish_unchanged``: store and purge them even if
        their bytes are the same. Give an ``id`` of your own where a retry may come from another process. Raises
        ValueError for no resources at all, or more than 100,000.
        """
        names = None if resources is None else list(resources)
        if names is not None and not 1 <= len(names) <= MAX_RERENDER_NAMES:
            raise ValueError(f"{len(names):,} resources; 1 to {MAX_RERENDER_NAMES:,} are allowed, None means all")
        request = pb.RerenderRequest(
            id=id or request_id(),
            view=view,
            names=packed.encode_names(names) if names is not None else b"",
            publish_unchanged=publish_unchanged,
            lane=lane,
            reason=reason,
        )
        return await self._call("Rerender", request, pb.RerenderResponse, timeout)

    async def outputs(self, view: str, *, page_size: int = 0, timeout: float | None = None) -> AsyncIterator[Output]:
        """What the engine believes of every page of ``view``."""
        request = pb.ListOutputsRequest(view=view, page_size=page_size)
        while True:
            answer = await self._call("ListOutputs", request, pb.ListOutputsResponse, timeout)
            for at, name in enumerate(packed.decode_names(answer.names)):
                part, state = slice(16 * at, 16 * at + 16), answer.states[at]
                yield Output(
                    name,
                    answer.hashes[part],
                    answer.versions[part],
                    bool(state & _PENDING),
                    bool(state & _DEAD),
                    bool(state & _RETRYING),
                )
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def costs(self, *, timeout: float | None = None) -> AsyncIterator[pb.ListCostsResponse.Causer]:
        """What rendering cost, by causer, the most expensive first."""
        request = pb.ListCostsRequest()
        while True:
            answer = await self._call("ListCosts", request, pb.ListCostsResponse, timeout)
            for causer in answer.causers:
                yield causer
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def status(self, *, timeout: float | None = None) -> pb.GetStatusResponse:
        """The engine in figures."""
        return await self._call("GetStatus", pb.GetStatusRequest(), pb.GetStatusResponse, timeout)

    async def shards(self, *, timeout: float | None = None) -> pb.ShardsState:
        """How many shards there are, and how far a growth of their number is."""
        return (await self._call("GetShards", pb.GetShardsRequest(), pb.GetShardsResponse, timeout)).shards

    async def grow_shards(
        self, shards: int, *, validate_only: bool = False, timeout: float | None = None
    ) -> pb.ShardsState:
        """Make the shards more, a multiple of what there are; durable when answered, and done some time after."""
        request = pb.GrowShardsRequest(shards=shards, validate_only=validate_only)
        return (await self._call("GrowShards", request, pb.GrowShardsResponse, timeout)).shards

    async def _call(self, method: str, request: Message, answer: type[_Answer], timeout: float | None) -> _Answer:
        return await self._caller.unary(_SERVICE, method, request, answer, timeout)


def _filter(view: str, resource_prefix: str, root: str, reason: str) -> pb.DeadLetterFilter:
    return pb.DeadLetterFilter(view=view, resource_prefix=resource_prefix, root=root, reason=reason)
