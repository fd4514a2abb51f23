"""PropagationWork: leases and completions, where the millions pass."""

import asyncio
from collections.abc import Awaitable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from libs.errors.errors import InvalidArgument, WellspringError
from libs.rpc.call import Call
from libs.rpc.errors import to_status
from services.propagation import messages, packing
from services.propagation.domain import outputs
from services.propagation.domain.completion import Completion
from services.propagation.domain.edges import Declared
from services.propagation.domain.engine import Engine
from services.propagation.domain.errors import BatchInvalid
from services.propagation.domain.failures import Failed
from services.propagation.domain.holds import MAX_DETAIL
from services.propagation.domain.leasing import Grant
from services.propagation.store.interface import Numbers
from services.propagation.views.catalogue import Catalogue
from wellspring.propagation.v1 import propagation_pb2, work_pb2
from wellspring_client import packed

MAX_WAIT_S = 30.0
_LOOK_AGAIN_S = 1.0
"""A waiting lease looks so often whether the server is stopping."""
MAX_CAPACITY = 100_000
_MAX_COMPLETIONS = 1_000
_MAX_REASON = 64
_MARGIN_S = 0.2
"""Kept of the caller's deadline, so that the answer of a long wait still reaches it."""


class WorkServicer:
    """`max_batch` bounds the items of one batch, whatever is asked for; once `stopping` is set, nothing is lent."""

    def __init__(
        self, engine: Engine, catalogue: Catalogue, max_batch: int = MAX_CAPACITY, stopping: asyncio.Event | None = None
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._max_batch = max_batch
        self._stopping = stopping or asyncio.Event()

    async def Lease(self, request: work_pb2.LeaseRequest, call: Call) -> work_pb2.LeaseResponse:
        """Waits, at most the time asked for, until there is work."""
        wait_s = messages.seconds(request.wait, "wait", 0.0, MAX_WAIT_S, 0.0)
        loop = asyncio.get_running_loop()
        end = loop.time() + min(wait_s, max(0.0, call.remaining_s - _MARGIN_S))
        while True:
            response = self.lease_now(request)
            left = end - loop.time()
            if response.batches or left <= 0 or self._stopping.is_set():
                return response
            with self.awaiting_first(request) if request.first_turns else nullcontext():
                await self._engine.shard.signals.work.wait(min(left, _LOOK_AGAIN_S))

    def lease_now(self, request: work_pb2.LeaseRequest) -> work_pb2.LeaseResponse:
        """What there is to lend at this moment."""
        capacity = self._capacity(request)
        lease = self._engine.lease_first if request.first_turns else self._engine.lease
        grants = [] if self._stopping.is_set() else lease(request.executor, capacity)
        return work_pb2.LeaseResponse(
            batches=[self._batch(grant) for grant in grants], views_revision=self._catalogue.revision
        )

    def awaiting_first(self, request: work_pb2.LeaseRequest) -> AbstractContextManager[None]:
        """While a call for first turns waits: nobody else gets those of its views."""
        return self._engine.awaiting_first(self._capacity(request))

    def _capacity(self, request: work_pb2.LeaseRequest) -> dict[str, int]:
        if not request.executor or len(request.executor) > 256:
            raise InvalidArgument.field("executor", "1 to 256 characters are allowed")
        capacity: dict[str, int] = {}
        for index, asked in enumerate(request.capacity):
            if not 1 <= asked.items <= MAX_CAPACITY:
                raise InvalidArgument.field(
                    f"capacity[{index}].items", f"is {asked.items}; 1 to {MAX_CAPACITY:,} are allowed"
                )
            if self._engine.shard.views.serves(asked.view):  # a view just retired is no mistake of the executor's
                capacity[asked.view] = min(asked.items, self._max_batch)
        return capacity

    def _batch(self, grant: Grant) -> work_pb2.Batch:
        lease, shard = grant.lease, self._engine.shard
        left_ns = int((lease.deadline_s - shard.now_s()) * 1e9)
        return work_pb2.Batch(
            lease_id=lease.id,
            fencing=lease.fencing,
            view=shard.views.name(lease.view),
            sequence=lease.sequence,
            deadline=messages.timestamp(shard.clock.time_ns() + left_ns),
            ids=packed.encode_ids(lease.ids),
            names=grant.names,
            roots=[
                work_pb2.Batch.RootInput(
                    root=root.id,
                    cause=messages.cause_message(root.record.change.cause),
                    inputs=[
                        work_pb2.Batch.InputVersion(resource=one.resource, aspect=one.aspect, version=one.version)
                        for one in seen
                    ],
                )
                for root, seen in grant.roots
            ],
            rendered_version=grant.rendered_version,
            accepted_hashes=lease.hashes.tobytes(),
            views_revision=lease.revision,
            attempts=np.array(grant.attempts, "<u4").tobytes(),
            gone_versions=grant.gone.tobytes() if grant.gone is not None else b"",
        )

    async def Complete(self, request: work_pb2.CompleteRequest, call: Call) -> work_pb2.CompleteResponse:
        """Each completion is accepted or refused for itself; durable when answered."""
        if len(request.completions) > _MAX_COMPLETIONS:
            raise InvalidArgument.field(
                "completions", f"has {len(request.completions):,}; at most {_MAX_COMPLETIONS:,} are allowed"
            )
        response = work_pb2.CompleteResponse()
        durable: Awaitable[None] | None = None
        repeated = False
        for index, message in enumerate(request.completions):
            try:
                answer, written = self._engine.complete(_completion(message, f"completions[{index}]"))
            except WellspringError as error:
                response.results.add(status=to_status(error))
                continue
            durable, repeated = written or durable, repeated or written is None
            response.results.add(accepted=answer.accepted, unchanged=answer.unchanged)
        if durable is not None:
            await durable
        elif repeated:
            await self._engine.durable()
        return response

    async def Extend(self, request: work_pb2.ExtendRequest, call: Call) -> work_pb2.ExtendResponse:
        """Moves the deadlines of leases that are still held."""
        response = work_pb2.ExtendResponse()
        now_ns = self._engine.shard.clock.time_ns()
        for held in request.leases:
            try:
                left_s = self._engine.extend(held.lease_id, held.fencing)
            except WellspringError as error:
                response.results.add(status=to_status(error))
            else:
                response.results.add(deadline=messages.timestamp(now_ns + int(left_s * 1e9)))
        return response

    async def GetViews(self, request: work_pb2.GetViewsRequest, call: Call) -> work_pb2.GetViewsResponse:
        """The views of the present revision, and those of earlier ones that roots under way finish with."""
        return work_pb2.GetViewsResponse(
            views=self._catalogue.for_executors(self._catalogue.messages),
            revision=self._catalogue.revision,
            older=self._catalogue.for_executors(self._catalogue.older_messages(self._engine)),
        )

    async def ReportReads(self, request: work_pb2.ReportReadsRequest, call: Call) -> work_pb2.ReportReadsResponse:
        """Reads counted by the gateway. Names that were never seen are left out: no change concerns them."""
        shard = self._engine.shard
        view = shard.views.number(request.view)
        resources, reads, fresh = packing.reported(request)
        numbers = shard.store.find_resources(resources)
        known = numbers >= 0
        # A gateway knows only the minimum versions that it was told: what waits to be rendered was not read fresh.
        stale = outputs.pending_among(shard, view, numbers[known])
        newest = int(fresh[known][~stale].sum())
        self._engine.heat.report(view, numbers[known].tolist(), reads[known].tolist(), newest)
        return work_pb2.ReportReadsResponse()


def _completion(message: work_pb2.Completion, path: str) -> Completion:
    done = packing.ids(message.done, f"{path}.done")
    if message.renderer_seconds < 0 or message.renderer_seconds != message.renderer_seconds:
        raise BatchInvalid.field(f"{path}.renderer_seconds", f"is {message.renderer_seconds}; 0 and more is allowed")
    return Completion(
        lease_id=message.lease_id,
        fencing=message.fencing,
        done=done,
        hashes=packing.hashes(message.hashes, len(done), f"{path}.hashes"),
        dependencies=_dependencies(message, done, path),
        failures=tuple(_failed(one, f"{path}.failures[{index}]") for index, one in enumerate(message.failures)),
        saw_older=packing.ids(message.saw_older, f"{path}.saw_older"),
        released=packing.ids(message.released, f"{path}.released"),
        renderer_s=min(message.renderer_seconds, 1e9),
        fingerprint=_fingerprint(message),
    )


def _fingerprint(message: work_pb2.Completion) -> int:
    """Tells one report about a lease from another; within this process only."""
    failed = tuple((one.id, one.reason) for one in message.failures)
    return hash((message.done, message.hashes, message.saw_older, message.released, failed))


def _dependencies(message: work_pb2.Completion, done: Numbers, path: str) -> Declared | None:
    if message.HasField("packed_dependencies"):
        if message.dependencies:
            raise BatchInvalid.field(f"{path}.dependencies", "stands beside packed_dependencies; give one of them")
        where = f"{path}.packed_dependencies"
        if message.packed_dependencies.mode not in (
            propagation_pb2.Declaration.MODE_UNSPECIFIED,
            propagation_pb2.Declaration.MODE_REPLACE,
        ):
            raise BatchInvalid.field(f"{where}.mode", "a completion replaces sets; MODE_REPLACE is allowed")
        dependents = packing.ids(message.packed_dependencies.dependents, f"{where}.dependents")
        found = packing.declared(message.packed_dependencies, dependents, where)
        if len(found.counts) != len(dependents):
            raise BatchInvalid.field(
                f"{where}.counts", f"has {len(found.counts)} entries for {len(dependents)} dependents"
            )
    elif message.dependencies:
        where = f"{path}.dependencies"
        numbers = np.array([one.id for one in message.dependencies], np.uint32)
        found = packing.declared_sets(numbers, [one.dependencies for one in message.dependencies], where)
    else:
        return None
    strangers = np.setdiff1d(found.dependents, done)
    if len(strangers):
        raise BatchInvalid.field(where, f"is about {len(strangers)} items that are not done, such as {strangers[0]}")
    return found


def _failed(message: work_pb2.Failure, path: str) -> Failed:
    reason = message.reason
    if not 1 <= len(reason) <= _MAX_REASON or not reason.replace("_", "A").isalnum() or reason != reason.upper():
        raise BatchInvalid.field(f"{path}.reason", f"1 to {_MAX_REASON} characters of A-Z, 0-9 and '_' are allowed")
    if len(message.detail.encode()) > MAX_DETAIL:
        raise BatchInvalid.field(f"{path}.detail", f"at most {MAX_DETAIL:,} bytes are allowed")
    later_s = messages.seconds(message.retry_after, f"{path}.retry_after", 0.0, 86_400.0, 0.0)
    return Failed(message.id, reason, message.detail, message.retryable, later_s)
