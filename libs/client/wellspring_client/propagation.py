"""Propagation: what changed, what depends on it, how far its renewal is. Answers are the messages of its contract."""

import datetime
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring_client import packed
from wellspring_client.calls import Caller
from wellspring_client.errors import WellspringError, from_status
from wellspring_client.propagation_admin import PropagationAdmin
from wellspring_client.propagation_work import PropagationWork
from wellspring_client.tokens import request_id

_SERVICE = pb.DESCRIPTOR.services_by_name["Propagation"]
_BATCH = 1_000
_PACKED_DEPENDENTS = 20_000
_PACKED_EDGES = 500_000
_MODES = {
    "replace": pb.Declaration.MODE_REPLACE,
    "add": pb.Declaration.MODE_ADD,
    "remove": pb.Declaration.MODE_REMOVE,
}
_Answer = TypeVar("_Answer", bound=Message)

Input = str | tuple[str, str]
"""A resource (its content), or (resource, aspect)."""


class Propagation:
    """The propagation service. ``admin`` is for operators, ``work`` for executors."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.admin = PropagationAdmin(caller)
        self.work = PropagationWork(caller)

    async def publish(
        self, changes: Iterable[pb.Change], *, timeout: float | None = None
    ) -> list[pb.PublishChangesResponse.Result | WellspringError]:
        """Publish changes, each with an id of the caller's: in order the result of each, or its error. Durable when it
        answers; the same id again has no effect."""
        outcomes: list[pb.PublishChangesResponse.Result | WellspringError] = []
        listed = list(changes)
        for start in range(0, len(listed), _BATCH):
            request = pb.PublishChangesRequest(changes=listed[start : start + _BATCH])
            answer = await self._call("PublishChanges", request, pb.PublishChangesResponse, timeout)
            outcomes += [from_status(one.status) if one.status.code else one for one in answer.results]
        return outcomes

    async def change(
        self,
        resource: str,
        version: bytes,
        *,
        aspects: Sequence[str] = (),
        id: str | None = None,
        lane: str = "",
        cause: pb.Cause | None = None,
        attributes: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> pb.PublishChangesResponse.Result:
        """Publish one change at a 16-byte ``version``. Give an ``id`` of your own where a retry may come from another
        process.
        """
        change = pb.Change(
            id=id or request_id(),
            resource=resource,
            version=version,
            aspects=aspects,
            lane=lane,
            cause=cause,
            attributes=attributes or {},
        )
        change.time.GetCurrentTime()
        (outcome,) = await self.publish([change], timeout=timeout)
        if isinstance(outcome, WellspringError):
            raise outcome
        return outcome

    async def declare(
        self,
        view: str,
        dependencies: Mapping[str, Sequence[Input]] | Iterable[tuple[str, Sequence[Input]]],
        *,
        mode: Literal["replace", "add", "remove"] = "replace",
        timeout: float | None = None,
    ) -> int:
        """Declare, for each dependent, its inputs. Sent packed, in pieces that are each all or nothing; returns the
        edges added.
        """
        pairs = dependencies.items() if isinstance(dependencies, Mapping) else dependencies
        added, piece, edges = 0, dict[str, Sequence[Input]](), 0
        for dependent, inputs in pairs:
            if dependent in piece or len(piece) >= _PACKED_DEPENDENTS or edges + len(inputs) > _PACKED_EDGES:
                added += await self._declare(view, piece, mode, timeout)
                piece, edges = {}, 0
            piece[dependent] = inputs
            edges += len(inputs)
        return added + (await self._declare(view, piece, mode, timeout) if piece else 0)

    async def dependencies(self, dependent: str, view: str, *, timeout: float | None = None) -> list[tuple[str, str]]:
        """The inputs of ``dependent`` in ``view``: (resource, aspect)."""
        request = pb.ListDependenciesRequest(dependent=dependent, view=view)
        answer = await self._call("ListDependencies", request, pb.ListDependenciesResponse, timeout)
        return [(one.resource, one.aspect or "content") for one in answer.dependencies]

    async def dependents(self, resource: str, *, aspect: str = "", view: str = "") -> AsyncIterator[tuple[str, str]]:
        """All that depends on ``resource``: (view, dependent)."""

        def request(token: str) -> pb.ListDependentsRequest:
            return pb.ListDependentsRequest(resource=resource, aspect=aspect, view=view, resume_token=token)

        async for answer in self._caller.resuming(
            _SERVICE,
            "ListDependents",
            request,
            pb.ListDependentsResponse,
            "",
            lambda one: one.resume_token,
            endless=False,
        ):
            for name in packed.decode_names(answer.names):
                yield answer.view, name

    async def count_dependents(
        self, resource: str, *, aspect: str = "", timeout: float | None = None
    ) -> pb.CountDependentsResponse:
        """How many depend on ``resource``, exactly, by view."""
        request = pb.CountDependentsRequest(resource=resource, aspect=aspect)
        return await self._call("CountDependents", request, pb.CountDependentsResponse, timeout)

    async def estimate(
        self, resource: str, *, aspects: Sequence[str] = (), timeout: float | None = None
    ) -> pb.EstimateImpactResponse:
        """What an edit of ``resource`` would cost, before it is saved."""
        request = pb.EstimateImpactRequest(resource=resource, aspects=aspects)
        return await self._call("EstimateImpact", request, pb.EstimateImpactResponse, timeout)

    async def get_change(self, change_id: str, *, timeout: float | None = None) -> pb.Root:
        """The state and progress of a change. Raises NotFound."""
        return await self._call("GetChange", pb.GetChangeRequest(id=change_id), pb.Root, timeout)

    async def list_changes(
        self, *, states: Sequence[pb.Root.State.ValueType] = (), resource: str = "", timeout: float | None = None
    ) -> AsyncIterator[pb.Root]:
        """Changes, the newest first."""
        request = pb.ListChangesRequest(states=states, resource=resource)
        while True:
            answer = await self._call("ListChanges", request, pb.ListChangesResponse, timeout)
            for root in answer.roots:
                yield root
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def watch_change(self, change_id: str, *, interval_s: float = 0.5) -> AsyncIterator[pb.Root]:
        """The progress of a change until it has finished; the last answer says how it ended."""
        interval = Duration()
        interval.FromTimedelta(datetime.timedelta(seconds=interval_s))
        finished = {pb.Root.STATE_DONE, pb.Root.STATE_DONE_WITH_FAILURES, pb.Root.STATE_CANCELLED}

        def request(_: str) -> pb.WatchChangeRequest:
            return pb.WatchChangeRequest(id=change_id, interval=interval)

        async for answer in self._caller.resuming(
            _SERVICE, "WatchChange", request, pb.WatchChangeResponse, "", lambda one: "", endless=True
        ):
            yield answer.root
            if answer.root.state in finished:
                return

    async def watch_changes(
        self, *, resume_token: str = "", from_beginning: bool = False, include_outputs: bool = False
    ) -> AsyncIterator[pb.WatchChangesResponse]:
        """All changes as they are accepted, for ever, over as many connections as it takes.

        With ``include_outputs`` the outputs that changed as well: they carry a hash, and the root in their cause's
        chain. An answer's resume token says where to go on after it; raises ResumeTokenExpired for one too old.
        """

        def request(token: str) -> pb.WatchChangesRequest:
            return pb.WatchChangesRequest(
                resume_token=token, from_beginning=from_beginning and not token, include_outputs=include_outputs
            )

        async for answer in self._caller.resuming(
            _SERVICE,
            "WatchChanges",
            request,
            pb.WatchChangesResponse,
            resume_token,
            lambda one: one.resume_token,
            endless=True,
        ):
            yield answer

    async def pause(self, change_id: str, *, reason: str = "", timeout: float | None = None) -> pb.Root:
        """Lease nothing more of the change until it is resumed."""
        return await self._call("Pause", pb.PauseRequest(id=change_id, reason=reason), pb.Root, timeout)

    async def resume(self, change_id: str, *, timeout: float | None = None) -> pb.Root:
        """Go on with a paused change."""
        return await self._call("Resume", pb.ResumeRequest(id=change_id), pb.Root, timeout)

    async def cancel(self, change_id: str, *, reason: str = "", timeout: float | None = None) -> pb.Root:
        """Give up what is left of the change; it is listed as cancelled."""
        return await self._call("Cancel", pb.CancelRequest(id=change_id, reason=reason), pb.Root, timeout)

    async def reprioritize(
        self, change_id: str, *, lane: str = "", weight: int = 0, timeout: float | None = None
    ) -> pb.Root:
        """Move the change to another lane, or weigh it (1..100) within its own."""
        request = pb.ReprioritizeRequest(id=change_id, lane=lane, weight=weight)
        return await self._call("Reprioritize", request, pb.Root, timeout)

    async def await_visible(
        self, visibility_token: str, resource: str, view: str, *, timeout: float | None = None
    ) -> pb.AwaitVisibleResponse:
        """Wait, at most ``timeout`` seconds, until readers of ``resource`` in ``view`` see a change (its token or its
        id).
        """
        request = pb.AwaitVisibleRequest(visibility_token=visibility_token, resource=resource, view=view)
        return await self._call("AwaitVisible", request, pb.AwaitVisibleResponse, timeout)

    async def explain(self, resource: str, view: str, *, timeout: float | None = None) -> pb.ExplainResponse:
        """Why ``resource`` in ``view`` is as it is."""
        request = pb.ExplainRequest(resource=resource, view=view)
        return await self._call("Explain", request, pb.ExplainResponse, timeout)

    async def _declare(self, view: str, piece: Mapping[str, Sequence[Input]], mode: str, timeout: float | None) -> int:
        if not piece:
            return 0
        numbers: dict[str, int] = {}
        counts, index = [], []
        for inputs in piece.values():
            names = dict.fromkeys(_input_name(one) for one in inputs)
            counts.append(len(names))
            index += [numbers.setdefault(name, len(numbers)) for name in names]
        request = pb.DeclareDependenciesRequest(
            packed=[
                pb.PackedDeclarations(
                    view=view,
                    dependents=packed.encode_names(piece),
                    inputs=packed.encode_names(numbers, tab_allowed=True),
                    counts=packed.encode_counts(counts),
                    input_index=packed.encode_counts(index),
                    mode=_MODES[mode],
                )
            ]
        )
        return (await self._call("DeclareDependencies", request, pb.DeclareDependenciesResponse, timeout)).edges_added

    async def _call(self, method: str, request: Message, answer: type[_Answer], timeout: float | None) -> _Answer:
        return await self._caller.unary(_SERVICE, method, request, answer, timeout)


def _input_name(given: Input) -> str:
    """As PackedDeclarations has it: the resource, and its aspect after a TAB unless that is its content."""
    resource, aspect = (given, "content") if isinstance(given, str) else given
    if "\t" in resource or "\t" in aspect:
        raise ValueError(f"names hold no control characters: {resource!r}")
    return resource if aspect in ("", "content") else f"{resource}\t{aspect}"
