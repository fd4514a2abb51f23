"""Propagation over all shards: changes go to each, declarations to their dependents', what is asked is added up."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from google.protobuf.message import Message
from google.rpc import status_pb2  # type: ignore[import-untyped]

from libs.errors.errors import InvalidArgument, WellspringError
from libs.rpc.call import Call
from libs.rpc.errors import to_status
from services.propagation import messages
from services.propagation.domain import names
from services.propagation.domain.errors import ChangeNotFound, RootFinished
from services.propagation.fleet import declarations, ids, roots
from services.propagation.fleet.estimated import estimated
from services.propagation.fleet.explained import explained
from services.propagation.fleet.shards import Answers, Shards, whole
from services.propagation.fleet.visible import Visible
from services.propagation.fleet.watching import Watching
from services.propagation.servicer import MAX_CHANGES, MAX_DECLARATIONS
from services.propagation.watching import BOUND_PREFIX, INTAKE_S
from wellspring.propagation.v1 import propagation_pb2

_SERVICE = "Propagation"
_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 1_000
_LOOK_S = 0.1
_TRIES = 10
_ACTIVE, _PAUSED = propagation_pb2.Root.STATE_ACTIVE, propagation_pb2.Root.STATE_PAUSED
_UNDONE = {"Pause": (_ACTIVE,), "Resume": (_PAUSED,), "Cancel": (_ACTIVE, _PAUSED)}
"""States of a root that a call cannot leave it in."""


class FleetPropagation:
    """See PropagationServicer; `shards` does the work."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._watching = Watching(shards)
        self._visible = Visible(shards)

    async def PublishChanges(
        self, request: propagation_pb2.PublishChangesRequest, call: Call
    ) -> propagation_pb2.PublishChangesResponse:
        """Each change is accepted when every shard has it durable; one that a shard refuses may be published again."""
        messages.at_most("changes", len(request.changes), MAX_CHANGES)
        answers = await self._all("PublishChanges", request, call)
        found = [found.results for found in whole(answers)]
        results = (_accepted(together) for together in zip(*found, strict=True))
        return propagation_pb2.PublishChangesResponse(results=results)

    async def DeclareDependencies(
        self, request: propagation_pb2.DeclareDependenciesRequest, call: Call
    ) -> propagation_pb2.DeclareDependenciesResponse:
        """Each dependent's set by its shard. What is packed is refused before any of it has an effect for what the
        request shows; for what only a shard can see, that shard's part alone is refused."""
        messages.at_most("declarations", len(request.declarations), MAX_DECLARATIONS)
        parts: dict[int, propagation_pb2.DeclareDependenciesRequest] = {}
        for at, packed in enumerate(request.packed):
            for shard, part in declarations.divided(packed, self._shards.of, f"packed[{at}]").items():
                parts.setdefault(shard, propagation_pb2.DeclareDependenciesRequest()).packed.append(part)
        results: list[status_pb2.Status | None] = [None] * len(request.declarations)
        places: dict[int, list[int]] = {}
        for at, one in enumerate(request.declarations):
            try:
                shard = self._declared_in(one, f"declarations[{at}]")
            except WellspringError as error:
                results[at] = to_status(error)
                continue
            parts.setdefault(shard, propagation_pb2.DeclareDependenciesRequest()).declarations.append(one)
            places.setdefault(shard, []).append(at)
        response = propagation_pb2.DeclareDependenciesResponse()
        answers = await self._shards.ask_each(_SERVICE, "DeclareDependencies", parts, call)
        for (shard, _), answer in zip(answers.items(), whole(answers), strict=True):
            response.edges_added += answer.edges_added
            response.edges_removed += answer.edges_removed
            for inner, (at, status) in enumerate(zip(places.get(shard, ()), answer.results, strict=True)):
                results[at] = declarations.renumbered(status, f"declarations[{inner}]", f"declarations[{at}]")
        response.results.extend(status for status in results if status is not None)
        return response

    def _declared_in(self, one: propagation_pb2.Declaration, path: str) -> int:
        names.check_resource(one.dependent, f"{path}.dependent")
        return self._shards.of(one.dependent)

    async def ListDependencies(
        self, request: propagation_pb2.ListDependenciesRequest, call: Call
    ) -> propagation_pb2.ListDependenciesResponse:
        """Of the dependent's shard."""
        names.check_resource(request.dependent, "dependent")
        answer: propagation_pb2.ListDependenciesResponse
        answer = await self._one(request.dependent, "ListDependencies", request, call)
        return answer

    async def ListDependents(
        self, request: propagation_pb2.ListDependentsRequest, call: Call
    ) -> AsyncIterator[propagation_pb2.ListDependentsResponse]:
        """Shard after shard."""
        first, token = ids.place_asked(request.resume_token, self._shards.count, "resume_token")
        for shard in range(first, self._shards.count):
            mine = propagation_pb2.ListDependentsRequest()
            mine.CopyFrom(request)
            mine.resume_token = token if shard == first else ""
            async for answer in self._shards.stream(shard, _SERVICE, "ListDependents", mine, call):
                answer.resume_token = ids.place_told(shard, self._shards.count, answer.resume_token)
                yield answer

    async def CountDependents(
        self, request: propagation_pb2.CountDependentsRequest, call: Call
    ) -> propagation_pb2.CountDependentsResponse:
        """Exact."""
        found: dict[str, int] = {}
        for answer in whole(await self._all("CountDependents", request, call)):
            for one in answer.views:
                found[one.view] = found.get(one.view, 0) + one.dependents
        counts = propagation_pb2.CountDependentsResponse.ViewCount
        return propagation_pb2.CountDependentsResponse(
            views=[counts(view=view, dependents=count) for view, count in sorted(found.items())],
            total=sum(found.values()),
        )

    async def EstimateImpact(
        self, request: propagation_pb2.EstimateImpactRequest, call: Call
    ) -> propagation_pb2.EstimateImpactResponse:
        """Over all shards, what follows from one in another too."""
        return await estimated(self._shards, request, call)

    async def GetChange(self, request: propagation_pb2.GetChangeRequest, call: Call) -> propagation_pb2.Root:
        """Added up over the shards. That it has ended is told once they all had ended it at one time."""
        return await self._together(await self._about(request.id, "GetChange", request, call), request.id, call)

    async def _together(self, answers: Answers, change_id: str, call: Call) -> propagation_pb2.Root:
        asked = propagation_pb2.GetChangeRequest(id=change_id)
        while (root := roots.together(answers, change_id)).state in roots.FINISHED:
            before, answers = answers, await self._about(change_id, "GetChange", asked, call)
            if roots.agree(before, answers):
                break
        return root

    async def ListChanges(
        self, request: propagation_pb2.ListChangesRequest, call: Call
    ) -> propagation_pb2.ListChangesResponse:
        """Newest first: those of the first shard, which has every change, then those that only others have.

        A page may be short, or empty, before the last one.
        """
        if request.page_size < 0:
            raise InvalidArgument.field("page_size", f"is {request.page_size}; 0 to {_MAX_PAGE_SIZE:,} are allowed")
        shard, token = ids.place_asked(request.page_token, self._shards.count, "page_token")
        mine = propagation_pb2.ListChangesRequest(
            page_size=min(request.page_size or _PAGE_SIZE, _MAX_PAGE_SIZE), page_token=token, resource=request.resource
        )
        page = await self._shards.ask(shard, _SERVICE, "ListChanges", mine, call)
        response = propagation_pb2.ListChangesResponse()
        for root in page.roots:
            change_id = ids.change_told(shard, root.change.id)
            asked = propagation_pb2.GetChangeRequest(id=change_id)
            answers = await self._about(change_id, "GetChange", asked, call)
            if any(not isinstance(answers[other], WellspringError) for other in answers if other < shard):
                continue  # that shard lists it
            told = await self._together(answers, change_id, call)
            if not request.states or told.state in request.states:
                response.roots.append(told)
        if page.next_page_token:
            response.next_page_token = ids.place_told(shard, self._shards.count, page.next_page_token)
        elif shard + 1 < self._shards.count:
            response.next_page_token = ids.place_told(shard + 1, self._shards.count, "")
        return response

    async def WatchChange(
        self, request: propagation_pb2.WatchChangeRequest, call: Call
    ) -> AsyncIterator[propagation_pb2.WatchChangeResponse]:
        """Progress of one root, asked for every interval, until all shards have finished it."""
        interval_s = messages.seconds(request.interval, "interval", 0.1, 60.0, 0.5)
        await self._arrived(request.id, call)
        while True:
            root = await self.GetChange(propagation_pb2.GetChangeRequest(id=request.id), call)
            yield propagation_pb2.WatchChangeResponse(root=root)
            if root.state in roots.FINISHED:
                return
            await asyncio.sleep(interval_s)

    async def WatchChanges(
        self, request: propagation_pb2.WatchChangesRequest, call: Call
    ) -> AsyncIterator[propagation_pb2.WatchChangesResponse]:
        """Changes as the first shard accepts them, and outputs as each shard does."""
        async for response in self._watching.every(request, call):
            yield response

    async def Pause(self, request: propagation_pb2.PauseRequest, call: Call) -> propagation_pb2.Root:
        """In every shard that has not finished the root."""
        return await self._control("Pause", request, call)

    async def Resume(self, request: propagation_pb2.ResumeRequest, call: Call) -> propagation_pb2.Root:
        """See Pause."""
        return await self._control("Resume", request, call)

    async def Cancel(self, request: propagation_pb2.CancelRequest, call: Call) -> propagation_pb2.Root:
        """See Pause."""
        return await self._control("Cancel", request, call)

    async def Reprioritize(self, request: propagation_pb2.ReprioritizeRequest, call: Call) -> propagation_pb2.Root:
        """See Pause."""
        return await self._control("Reprioritize", request, call)

    async def AwaitVisible(
        self, request: propagation_pb2.AwaitVisibleRequest, call: Call
    ) -> propagation_pb2.AwaitVisibleResponse:
        """Through all shards that the page is made of something in."""
        return await self._visible.wait(request, call)

    async def Explain(self, request: propagation_pb2.ExplainRequest, call: Call) -> propagation_pb2.ExplainResponse:
        """Of the resource's shard; the paths through others are theirs to tell."""
        names.check_resource(request.resource, "resource")
        return await explained(self._shards, request, call)

    async def _all(self, method: str, request: Message, call: Call) -> Answers:
        return await self._shards.ask_all(_SERVICE, method, request, call)

    async def _one(self, resource: str, method: str, request: Message, call: Call) -> Any:
        return await self._shards.ask(self._shards.of(resource), _SERVICE, method, request, call)

    async def _about(self, change_id: str, method: str, request: Any, call: Call) -> Answers:
        """The answers of the shards that may know the change to a request with its `id`."""
        names.check_change_id(change_id, "id")
        shard, own = ids.change_asked(change_id, self._shards.first_sequence)
        if shard is None:
            return await self._all(method, request, call)
        if shard >= self._shards.count:
            raise ChangeNotFound(f"no change {change_id!r} is known", metadata={"id": change_id})
        mine = type(request)()
        mine.CopyFrom(request)
        mine.id = own
        # Where what followed from it went on, it has the id by which it is told.
        requests: Mapping[int, Message] = dict.fromkeys(range(self._shards.count), request) | {shard: mine}
        return await self._shards.ask_each(_SERVICE, method, requests, call)

    async def _arrived(self, change_id: str, call: Call) -> None:
        """Waits for a change of a bound namespace that is not here yet. Raises what GetChange raises otherwise."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + (INTAKE_S if change_id.startswith(BOUND_PREFIX) else 0.0)
        while True:
            try:
                await self.GetChange(propagation_pb2.GetChangeRequest(id=change_id), call)
                return
            except ChangeNotFound:
                if loop.time() >= end_s:
                    raise
            await asyncio.sleep(_LOOK_S)

    async def _control(self, method: str, request: Any, call: Call) -> propagation_pb2.Root:
        answers = await self._about(request.id, method, request, call)
        if all(isinstance(answer, WellspringError) for answer in answers.values()):
            finished = [one for one in answers.values() if one.reason == RootFinished.default_reason]
            if finished and all(
                one.reason in (RootFinished.default_reason, ChangeNotFound.default_reason) for one in answers.values()
            ):
                raise finished[0]
        left = {
            shard: answer
            for shard, answer in answers.items()
            if not isinstance(answer, WellspringError) or answer.reason != RootFinished.default_reason
        }
        roots.together(left, request.id)
        asked = propagation_pb2.GetChangeRequest(id=request.id)
        root = await self.GetChange(asked, call)
        for _ in range(_TRIES):
            if root.state not in _UNDONE.get(method, ()):
                break
            # A shard that had finished it was told meanwhile, by one that had not heard yet, to go on with it.
            await self._about(request.id, method, request, call)
            root = await self.GetChange(asked, call)
        return root


def _accepted(results: tuple[Any, ...]) -> propagation_pb2.PublishChangesResponse.Result:
    """What all shards together say of one change."""
    for result in results:
        if result.status.code:
            return propagation_pb2.PublishChangesResponse.Result(status=result.status)
    return propagation_pb2.PublishChangesResponse.Result(
        visibility_token=ids.visibility_told([result.sequence for result in results]),
        root=next((result.root for result in results if result.root), ""),
        sequence=results[0].sequence,
        repeated_id=all(result.repeated_id for result in results),
    )
