"""Propagation: for those who change things, and those who ask what became of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import partial

import numpy as np

from libs.errors.errors import InvalidArgument, WellspringError
from libs.paging.paging import PageTokens
from libs.rpc.call import Call
from libs.rpc.errors import to_status
from services.propagation import messages, packing, watching
from services.propagation.bulk import BulkDeclarations
from services.propagation.domain import control, edges, explain, impact, listing, names, visibility
from services.propagation.domain.change import Change
from services.propagation.domain.edges import Mode
from services.propagation.domain.engine import Engine
from services.propagation.domain.errors import BatchInvalid, ChangeNotFound
from services.propagation.domain.names import split_names
from services.propagation.domain.progress import progress
from services.propagation.domain.records import RootRecord, State
from wellspring.propagation.v1 import propagation_pb2

MAX_CHANGES = 1_000
MAX_DECLARATIONS = 1_000
MAX_PACKED_DEPENDENTS = 100_000
MAX_PACKED_EDGES = 1_000_000
_STATES = frozenset(int(state) for state in State)
_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 1_000
_NAMES_PAGE = 5_000
_MAX_NAMES_PAGE = 50_000
_NUMBER_BYTES = 4
"""Of one entry of packed counts."""
_BULK_ENTRIES = 500
"""A declaration of so many edges and dependents together takes milliseconds."""
_BULK_NAME_BYTES = 1 << 15
_MARGIN_S = 0.2
"""Kept of the caller's deadline, so that the answer of a long wait still reaches it."""


class PropagationServicer:
    """One screen a method; the work is the engine's."""

    def __init__(self, engine: Engine, tokens: PageTokens) -> None:
        self._engine = engine
        self._shard = engine.shard
        self._tokens = tokens
        self._bulk = BulkDeclarations(engine.shard)

    async def PublishChanges(
        self, request: propagation_pb2.PublishChangesRequest, call: Call
    ) -> propagation_pb2.PublishChangesResponse:
        """Each change is accepted or refused for itself; durable when answered."""
        messages.at_most("changes", len(request.changes), MAX_CHANGES)
        response = propagation_pb2.PublishChangesResponse()
        read: list[Change | WellspringError] = []
        for index, message in enumerate(request.changes):
            try:
                read.append(messages.change_of(message, f"changes[{index}]"))
            except WellspringError as error:
                read.append(error)
        outcomes, durable = self._engine.publish_all([one for one in read if isinstance(one, Change)])
        accepted = iter(outcomes)
        repeated = False
        for one in read:
            outcome = one if isinstance(one, WellspringError) else next(accepted)
            if isinstance(outcome, WellspringError):
                response.results.add(status=to_status(outcome))
                continue
            repeated = repeated or outcome.repeated
            response.results.add(
                visibility_token=visibility.token(outcome.sequence),
                root=outcome.root,
                sequence=outcome.sequence,
                repeated_id=outcome.repeated,
            )
        with self._shard.long_work.brief_call():
            if durable is not None:
                await durable
            elif repeated:
                await self._engine.durable()
        return response

    async def DeclareDependencies(
        self, request: propagation_pb2.DeclareDependenciesRequest, call: Call
    ) -> propagation_pb2.DeclareDependenciesResponse:
        """Sets of dependents by name, each replaced whole; durable when answered.

        What is packed is refused as one; each of `declarations` for itself.
        """
        declarations = request.declarations
        messages.at_most("declarations", len(declarations), MAX_DECLARATIONS)
        packed_edges = sum(len(one.input_index) for one in request.packed) // _NUMBER_BYTES
        messages.at_most("packed", packed_edges, MAX_PACKED_EDGES)
        bulk = _is_bulk(request)
        packs: list[edges.Declaration] = []
        for index, message in enumerate(request.packed):
            read = partial(self._packed, message, f"packed[{index}]")
            packs.append(await self._shard.long_work.turn(read) if bulk else read())
        messages.at_most("packed", sum(len(pack.names) for pack in packs), MAX_PACKED_DEPENDENTS)
        response = propagation_pb2.DeclareDependenciesResponse()
        if bulk:
            await self._bulk.declare(
                packs, lambda part, last: self._change([part], response, patient=True, awaited=last)
            )
            await self._bulk.in_turns(len(declarations), lambda at: self._declare(declarations[at], at, response))
            return response
        with self._shard.long_work.brief_call():
            changed = [self._change(packs, response)] if packs else []
            changed += [self._declare(one, at, response) for at, one in enumerate(declarations)]
            for durable in changed:
                await durable
        return response

    def _declare(
        self, message: propagation_pb2.Declaration, at: int, response: propagation_pb2.DeclareDependenciesResponse
    ) -> Awaitable[None]:
        path = f"declarations[{at}]"
        try:
            dependent = names.check_resource(message.dependent, f"{path}.dependent")
            declared = packing.declared_sets(np.empty(0, np.uint32), [message.dependencies], path)
            durable = self._change([_declaration(message.view, [dependent], declared, message.mode)], response)
        except WellspringError as error:
            response.results.append(to_status(error))
            return _nothing()
        response.results.add()
        return durable

    def _packed(self, message: propagation_pb2.PackedDeclarations, path: str) -> edges.Declaration:
        dependents = split_names(message.dependents, f"{path}.dependents")
        declared = packing.declared(message, np.empty(0, np.uint32), path)
        if len(declared.counts) != len(dependents):
            raise BatchInvalid.field(
                f"{path}.counts", f"has {len(declared.counts):,} entries for {len(dependents):,} dependents"
            )
        return _declaration(message.view, dependents, declared, message.mode)

    def _change(
        self,
        declarations: Sequence[edges.Declaration],
        response: propagation_pb2.DeclareDependenciesResponse,
        *,
        patient: bool = False,
        awaited: bool = True,
    ) -> Awaitable[None]:
        deltas, durable = edges.declare_all(self._shard, declarations, patient=patient, awaited=awaited)
        response.edges_added += sum(len(delta.added_inputs) for delta in deltas)
        response.edges_removed += sum(len(delta.removed_inputs) for delta in deltas)
        return durable

    async def ListDependencies(
        self, request: propagation_pb2.ListDependenciesRequest, call: Call
    ) -> propagation_pb2.ListDependenciesResponse:
        """What a dependent declared, by name."""
        name = names.check_resource(request.dependent, "dependent")
        view = self._shard.views.number(request.view)
        number = int(self._shard.store.find_resources([name])[0])
        found = edges.dependencies_of(self._shard, view, number) if number >= 0 else []
        return propagation_pb2.ListDependenciesResponse(
            dependencies=[propagation_pb2.Dependency(resource=name.decode(), aspect=aspect) for name, aspect in found]
        )

    async def ListDependents(
        self, request: propagation_pb2.ListDependentsRequest, call: Call
    ) -> AsyncIterator[propagation_pb2.ListDependentsResponse]:
        """Names in pages, in an order that stays; what is added meanwhile may be missing."""
        aspect = names.check_aspect(request.aspect, "aspect")
        view = self._shard.views.number(request.view) if request.view else None
        size = _page_size(request.page_size, _NAMES_PAGE, _MAX_NAMES_PAGE)
        method, identity = "ListDependents", [request.resource, aspect, request.view]
        cursor = self._tokens.open(request.resume_token, method=method, identity=identity)
        first, start = (int.from_bytes(cursor[:2], "big"), int.from_bytes(cursor[2:], "big")) if cursor else (0, 0)
        number = listing.input_number(self._shard, request.resource, aspect)
        for found, items in listing.dependents(self._shard, number, view):
            if found < first:
                continue
            for page in listing.pages(items, start if found == first else 0, size):
                while len(page):
                    packed, told = listing.names(self._shard, page)
                    after = found.to_bytes(2, "big") + (int(told[-1]) + 1).to_bytes(5, "big")
                    yield propagation_pb2.ListDependentsResponse(
                        view=self._shard.views.name(found),
                        names=packed,
                        resume_token=self._tokens.issue(after, method=method, identity=identity),
                    )
                    page = page[len(told) :]
                await asyncio.sleep(0)  # others have their turn between pages

    async def CountDependents(
        self, request: propagation_pb2.CountDependentsRequest, call: Call
    ) -> propagation_pb2.CountDependentsResponse:
        """Exact."""
        number = listing.input_number(self._shard, request.resource, names.check_aspect(request.aspect, "aspect"))
        counts = self._shard.store.count_dependents(number) if number >= 0 else {}
        return propagation_pb2.CountDependentsResponse(
            views=[
                propagation_pb2.CountDependentsResponse.ViewCount(view=self._shard.views.name(view), dependents=count)
                for view, count in sorted(counts.items())
                if count
            ],
            total=sum(counts.values()),
        )

    async def EstimateImpact(
        self, request: propagation_pb2.EstimateImpactRequest, call: Call
    ) -> propagation_pb2.EstimateImpactResponse:
        """What an edit would cost, before it is saved."""
        estimated = impact.estimate(self._shard, request.resource, names.check_aspects(request.aspects, "aspects"))
        return propagation_pb2.EstimateImpactResponse(
            views=[
                propagation_pb2.EstimateImpactResponse.ViewImpact(
                    view=one.view,
                    dependents=one.dependents,
                    predicted_render_seconds=one.render_s,
                    predicted_unchanged_share=one.unchanged_share,
                    predicted_seconds=one.wall_s,
                )
                for one in estimated.views
            ],
            transitive=estimated.transitive,
            lane_queue_ahead=estimated.queue_ahead,
        )

    async def GetChange(self, request: propagation_pb2.GetChangeRequest, call: Call) -> propagation_pb2.Root:
        """A change's record and progress."""
        change_id = names.check_change_id(request.id, "id")
        try:
            record = control.find_record(self._shard, change_id)
        except ChangeNotFound:
            await self._engine.durable()  # an engine that owned the shard once may not know what the next one took
            raise
        return await self._root(record)

    async def ListChanges(
        self, request: propagation_pb2.ListChangesRequest, call: Call
    ) -> propagation_pb2.ListChangesResponse:
        """Roots, newest first."""
        size = _page_size(request.page_size, _PAGE_SIZE, _MAX_PAGE_SIZE)
        method, identity = "ListChanges", [repr(sorted(request.states)), request.resource]
        cursor = self._tokens.open(request.page_token, method=method, identity=identity)
        before = int.from_bytes(cursor, "big") if cursor else 0
        states = frozenset(State(state) for state in request.states if int(state) in _STATES)
        page = listing.roots(self._shard, size, before, states, request.resource)
        token = ""
        if page.before:
            token = self._tokens.issue(page.before.to_bytes(8, "big"), method=method, identity=identity)
        return propagation_pb2.ListChangesResponse(
            roots=[messages.root_message(record, progress(self._shard, record)) for record in page.records],
            next_page_token=token,
        )

    async def WatchChange(
        self, request: propagation_pb2.WatchChangeRequest, call: Call
    ) -> AsyncIterator[propagation_pb2.WatchChangeResponse]:
        """Progress of one root until it has finished."""
        interval_s = messages.seconds(request.interval, "interval", 0.1, 60.0, 0.5)
        change_id = names.check_change_id(request.id, "id")
        async for record in watching.one(self._engine, change_id, interval_s):
            yield propagation_pb2.WatchChangeResponse(root=await self._root(record))

    async def WatchChanges(
        self, request: propagation_pb2.WatchChangesRequest, call: Call
    ) -> AsyncIterator[propagation_pb2.WatchChangesResponse]:
        """All changes as they are accepted."""
        async for response in watching.every(self._engine, request):
            yield response

    async def Pause(self, request: propagation_pb2.PauseRequest, call: Call) -> propagation_pb2.Root:
        """No new lease is given for the root."""
        return await self._changed(control.pause(self._shard, request.id, _reason(request.reason)))

    async def Resume(self, request: propagation_pb2.ResumeRequest, call: Call) -> propagation_pb2.Root:
        """The root goes on where it was."""
        return await self._changed(control.resume(self._shard, request.id))

    async def Cancel(self, request: propagation_pb2.CancelRequest, call: Call) -> propagation_pb2.Root:
        """Nothing more is leased; the root is listed with what was left."""
        return await self._changed(control.cancel(self._shard, request.id, _reason(request.reason)))

    async def Reprioritize(self, request: propagation_pb2.ReprioritizeRequest, call: Call) -> propagation_pb2.Root:
        """Moves the root to another lane or weight."""
        return await self._changed(control.reprioritize(self._shard, request.id, request.lane, request.weight))

    async def AwaitVisible(
        self, request: propagation_pb2.AwaitVisibleRequest, call: Call
    ) -> propagation_pb2.AwaitVisibleResponse:
        """Waits until a resource's view shows a change, at most until the caller's deadline."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        seen = await visibility.wait(
            self._shard,
            request.visibility_token,
            request.resource,
            request.view,
            max(0.0, call.remaining_s - _MARGIN_S),
        )
        return propagation_pb2.AwaitVisibleResponse(
            visible=seen.visible,
            version=seen.version,
            waited=messages.duration(loop.time() - began),
            state=seen.state,
        )

    async def Explain(self, request: propagation_pb2.ExplainRequest, call: Call) -> propagation_pb2.ExplainResponse:
        """Why a view of a resource is as it is."""
        found = explain.explain(self._shard, request.resource, request.view)
        return propagation_pb2.ExplainResponse(
            steps=[
                propagation_pb2.ExplainResponse.Step(
                    time=messages.timestamp(step.time_ns),
                    decision=propagation_pb2.ExplainResponse.Step.Decision.ValueType(int(step.decision)),
                    root=messages.change_message(step.root) if step.root is not None else None,
                    input=propagation_pb2.Dependency(resource=step.input_resource, aspect=step.input_aspect),
                    path=step.path,
                    changed_at=step.changed_at,
                    rendered_at=step.rendered_at,
                    rendered_version=step.rendered_version,
                    note=step.note,
                )
                for step in found.steps
            ],
            pending=found.pending,
            rendered_at=found.rendered_at,
            output_hash=found.output_hash,
        )

    async def _root(self, record: RootRecord) -> propagation_pb2.Root:
        """The root as it is for good: what is counted is durable before it is told."""
        message = messages.root_message(record, progress(self._shard, record))
        await self._engine.durable()
        return message

    async def _changed(self, changed: tuple[RootRecord, Awaitable[None]]) -> propagation_pb2.Root:
        record, durable = changed
        message = messages.root_message(record, progress(self._shard, record))
        await durable
        return message


async def _nothing() -> None:
    """Nothing was written: there is nothing to wait for."""


def _declaration(
    view: str, dependents: list[bytes], declared: edges.Declared, mode: propagation_pb2.Declaration.Mode.ValueType
) -> edges.Declaration:
    if mode not in propagation_pb2.Declaration.Mode.values():
        raise InvalidArgument.field(f"{declared.path}.mode", f"is {mode}; replace, add and remove are allowed")
    return edges.Declaration(view, dependents, declared, Mode(mode or Mode.REPLACE))


def _is_bulk(request: propagation_pb2.DeclareDependenciesRequest) -> bool:
    """Whether it is long work, as far as can be told before it is read."""
    names = sum(len(one.dependents) + len(one.inputs) for one in request.packed)
    numbers = sum(len(one.counts) + len(one.input_index) for one in request.packed) // _NUMBER_BYTES
    single = sum(1 + len(one.dependencies) for one in request.declarations)
    return numbers + single >= _BULK_ENTRIES or names >= _BULK_NAME_BYTES


def _page_size(asked: int, default: int, most: int) -> int:
    if asked < 0:
        raise InvalidArgument.field("page_size", f"is {asked}; 0 (the default, {default:,}) to {most:,} are allowed")
    return min(asked or default, most)


def _reason(text: str) -> str:
    if len(text.encode()) > 1024:
        raise InvalidArgument.field("reason", "at most 1,024 bytes are allowed")
    return text
