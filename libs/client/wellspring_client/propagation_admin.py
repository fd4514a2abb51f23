"""For operators of propagation: views and rules, dead letters, purges by hand."""

from collections.abc import AsyncIterator
from typing import TypeVar

from google.protobuf.message import Message

from wellspring.propagation.v1 import propagation_admin_pb2 as pb
from wellspring_client.calls import Caller

_SERVICE = pb.DESCRIPTOR.services_by_name["PropagationAdmin"]
_Answer = TypeVar("_Answer", bound=Message)


class PropagationAdmin:
    """Views, rules, dead letters, purges."""

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

    async def status(self, *, timeout: float | None = None) -> pb.GetStatusResponse:
        """The engine in figures."""
        return await self._call("GetStatus", pb.GetStatusRequest(), pb.GetStatusResponse, timeout)

    async def _call(self, method: str, request: Message, answer: type[_Answer], timeout: float | None) -> _Answer:
        return await self._caller.unary(_SERVICE, method, request, answer, timeout)


def _filter(view: str, resource_prefix: str, root: str, reason: str) -> pb.DeadLetterFilter:
    return pb.DeadLetterFilter(view=view, resource_prefix=resource_prefix, root=root, reason=reason)
