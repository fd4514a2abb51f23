"""The executor's loop: lease, run slices side by side, complete each as it ends, keep the leases alive meanwhile."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from libs.telemetry.logs import fields
from services.propagation.executor.completion import completion_of
from services.propagation.executor.limits import AdaptiveLimit
from services.propagation.executor.ports import Caches, Documents, Work
from services.propagation.executor.renderers import RendererUnusable, make_renderer
from services.propagation.executor.slices import Item, Report, ViewRuntime, minimum_versions, run_slice
from services.propagation.executor.sources import Sources
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed
from wellspring_client.errors import Aborted, Unavailable, WellspringError

logger = logging.getLogger(__name__)

IDLE_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """`slice_items` pages go through the steps together, `slices` of them at once; `leases` batches are held at once,
    so that the last pages of one leave no slot empty; a lease call may wait `wait_s`."""

    name: str
    lease_items: int = 256
    slice_items: int = 32
    slices: int = 4
    leases: int = 2
    wait_s: float = 10.0
    heartbeat_s: float = 5.0
    source_cache_bytes: int = 32 << 20


@dataclass(slots=True)
class Counters:
    """Since the start."""

    done: int = 0
    changed: int = 0
    failed: int = 0
    saw_older: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Held:
    batch: work_pb2.Batch
    runtime: ViewRuntime
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Worker:
    """Runs until `stop()`; then gives back what it has not begun and ends."""

    def __init__(self, options: WorkerOptions, work: Work, documents: Documents, caches: Caches) -> None:
        self._options = options
        self._work = work
        self._documents = documents
        self._caches = caches
        self._runtimes: dict[str, ViewRuntime] = {}
        self._revision = -1
        self._stopping = asyncio.Event()
        self._held: dict[int, _Held] = {}
        self._slots = asyncio.Semaphore(options.slices)
        self.counters = Counters()
        self.connected = False

    @property
    def leases_held(self) -> int:
        """Batches under way."""
        return len(self._held)

    def limits(self) -> dict[str, float]:
        """How many renders may run at once, by view."""
        return {name: runtime.limit.limit for name, runtime in self._runtimes.items()}

    def stop(self) -> None:
        """No new lease; what has begun is finished."""
        self._stopping.set()

    async def run(self) -> None:
        """Leases and works until stopped."""
        async with asyncio.TaskGroup() as group:
            heartbeat = group.create_task(self._heartbeat())
            try:
                async with asyncio.TaskGroup() as loops:
                    for _ in range(self._options.leases):
                        loops.create_task(self._lease_until_stopped())
            finally:
                heartbeat.cancel()
        for runtime in self._runtimes.values():
            await runtime.renderer.close()

    async def _lease_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._turn()
            except WellspringError as error:
                self.connected = not isinstance(error, Unavailable)
                logger.warning("engine did not give work", extra=fields(reason=error.reason))
                await self._pause(IDLE_RETRY_S)

    async def _turn(self) -> None:
        if self._revision < 0:
            await self._load_views()
            # A lease waits for work, perhaps long: the engine has answered already.
            self.connected = True
        request = work_pb2.LeaseRequest(
            executor=self._options.name,
            capacity=[
                work_pb2.LeaseRequest.Capacity(view=name, items=self._options.lease_items) for name in self._runtimes
            ],
            wait=Duration(nanos=int(self._options.wait_s % 1 * 1e9), seconds=int(self._options.wait_s)),
            views_revision=self._revision,
        )
        lease = asyncio.ensure_future(self._work.lease(request))
        stopped = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((lease, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not lease.done():
            lease.cancel()
            return
        response = lease.result()
        self.connected = True
        if response.views_revision != self._revision:
            await self._load_views()
        await asyncio.gather(*(self._run_batch(batch) for batch in response.batches))
        if not response.batches:
            await self._pause(response.retry_after.ToTimedelta().total_seconds())

    async def _load_views(self) -> None:
        response = await self._work.views()
        runtimes: dict[str, ViewRuntime] = {}
        for view in response.views:
            old = self._runtimes.get(view.name)
            if old is not None and old.view == view:
                runtimes[view.name] = old
                continue
            try:
                renderer = make_renderer(view.render)
            except RendererUnusable as error:
                # Other views are served; this one's pages wait for an executor that can.
                logger.error("view cannot be served here", extra=fields(view=view.name, problem=str(error)))
                continue
            runtimes[view.name] = ViewRuntime(view, renderer, AdaptiveLimit(view.max_concurrency or 16))
        self._runtimes, self._revision = runtimes, response.revision

    async def _run_batch(self, batch: work_pb2.Batch) -> None:
        runtime = self._runtimes.get(batch.view)
        ids = packed.decode_ids(batch.ids).tolist()
        if runtime is None:
            await self._complete(
                work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, released=batch.ids)
            )
            return
        names = [name.decode() for name in batch.names.split(b"\0")]
        hashes = batch.accepted_hashes
        items = [
            Item(i, name, hashes[16 * n : 16 * n + 16]) for n, (i, name) in enumerate(zip(ids, names, strict=True))
        ]
        view = runtime.view
        sources = Sources(
            self._documents,
            view.source_namespace,
            view.source_prefix,
            minimum_versions(batch),
            self._options.source_cache_bytes,
        )
        size = self._options.slice_items
        held = _Held(batch, runtime)
        self._held[batch.lease_id] = held
        try:
            async with asyncio.TaskGroup() as group:
                for start in range(0, len(items), size):
                    held.tasks.append(group.create_task(self._run_slice(held, items[start : start + size], sources)))
        finally:
            del self._held[batch.lease_id]

    async def _run_slice(self, held: _Held, items: Sequence[Item], sources: Sources) -> None:
        async with self._slots:
            batch = held.batch
            if self._stopping.is_set():
                released = packed.encode_ids([item.id for item in items])
                await self._complete(
                    work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, released=released)
                )
                return
            report = await run_slice(
                held.runtime, items, batch.rendered_version, sources, self._documents, self._caches
            )
            await self._complete(completion_of(batch, report), report)

    async def _complete(self, completion: work_pb2.Completion, report: Report | None = None) -> None:
        """Tells the engine. What cannot be told is leased again by the engine when the lease ends."""
        try:
            response = await self._work.complete(work_pb2.CompleteRequest(completions=[completion]))
        except WellspringError as error:
            logger.warning("completion not taken", extra=fields(lease=completion.lease_id, reason=error.reason))
            self.counters.refused += 1
            return
        result = response.results[0]
        if result.status.code:
            logger.info("completion refused", extra=fields(lease=completion.lease_id, why=result.status.message))
            self.counters.refused += 1
        elif report is not None:
            self.counters.done += len(report.done)
            self.counters.changed += report.changed
            self.counters.failed += len(report.failed)
            self.counters.saw_older += len(report.saw_older)

    async def _heartbeat(self) -> None:
        """Moves the leases' deadlines, and drops the work of those that are not ours any more."""
        while True:
            await asyncio.sleep(self._options.heartbeat_s)
            held = list(self._held.values())
            if not held:
                continue
            request = work_pb2.ExtendRequest(
                leases=[work_pb2.ExtendRequest.Held(lease_id=h.batch.lease_id, fencing=h.batch.fencing) for h in held]
            )
            try:
                response = await self._work.extend(request)
            except WellspringError as error:
                logger.warning("heartbeat failed", extra=fields(reason=error.reason))
                continue
            for one, result in zip(held, response.results, strict=True):
                if result.status.code == Aborted.code:
                    for task in one.tasks:
                        task.cancel()

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
            except TimeoutError:
                return
