"""The executor's loop: lease for every view that has room, run slices side by side, keep the leases alive meanwhile.

A view that waits for a slow target holds its own batches and slices only; the others are leased and rendered beside it.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from libs.telemetry.logs import fields
from services.propagation.executor.completer import Completer, Counters
from services.propagation.executor.loop_lag import LoopLag
from services.propagation.executor.pace import Pace, PacedCaches, PacedDocuments
from services.propagation.executor.pages import Item, items_of
from services.propagation.executor.ports import Caches, Documents, Work
from services.propagation.executor.runtimes import Runtimes, ViewRuntime
from services.propagation.executor.slices import Report, affordable, minimum_versions, run_slice
from services.propagation.executor.sources import Sources
from services.propagation.targets.targets import Targets
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import Aborted, Unavailable, WellspringError

logger = logging.getLogger(__name__)

IDLE_RETRY_S = 1.0
BATCH_S = 0.3
"""A batch is meant to take about so long: an edit of one page waits behind it."""
EMPTY_S = 0.02
LOOK_EVERY_S = 0.25
"""So often a view whose target was left alone is looked at again."""
RETRY_LATER_S = 1.0
FIRST_CALLS = 2
"""Calls that wait for first turns: when one brings something, the next root finds the other."""
MOST_FIRST = 4
"""Batches of first turns under way at once: beyond, new roots wait for a slot as all do."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """`slice_items` pages go through the steps together. Of each view `slices` of them run at once, and `leases`
    batches of at most `lease_items` are held, so that the last pages of one leave no slot empty. A lease call may wait
    `wait_s`. Above that `reserved_items` are kept for roots that had no turn yet: calls for these wait always, and
    what they bring waits for no slot. A slice has fewer pages when they would cost the event loop more than `slice_s`
    (0: it is not measured)."""

    name: str
    lease_items: int = 2_000
    slice_items: int = 100
    slices: int = 4
    leases: int = 2
    wait_s: float = 10.0
    heartbeat_s: float = 5.0
    source_cache_bytes: int = 32 << 20
    reserved_items: int = 0
    slice_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Held:
    """A batch until the engine has answered for the last of its items."""

    batch: work_pb2.Batch
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    telling: int = 0
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def answered(self) -> None:
        """The engine has answered for one slice."""
        self.telling -= 1
        if not self.telling:
            self.told.set()


class Worker:
    """Runs until `stop()`; then gives back what it has not begun and ends."""

    def __init__(
        self,
        options: WorkerOptions,
        work: Work,
        documents: Documents,
        caches: Caches,
        targets: Targets | None = None,
    ) -> None:
        self._options = options
        self._work = work
        self._documents = documents
        self._caches = caches
        self.targets = targets or Targets()
        self._runtimes = Runtimes(work, self.targets, options.slices)
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._polled: set[str] = set()
        self._polls = 0
        self._asking: set[asyncio.Task[None]] = set()
        self._held: dict[_Held, None] = {}  # in order: a simulation's runs are alike
        self._pace = Pace(options.slice_items, options.slice_s, self.targets.hold)
        self._paced_documents: Documents = PacedDocuments(documents, self._pace)
        self._paced_caches: Caches = PacedCaches(caches, self._pace)
        self.counters = Counters()
        self._completer = Completer(work, self.counters)
        self.lag = LoopLag()
        self.connected = False

    @property
    def leases_held(self) -> int:
        """Batches under way."""
        return len(self._held)

    def limits(self) -> dict[str, float]:
        """How many renders may run at once, by view."""
        return {name: runtime.limit() for name, runtime in self._runtimes.by_view.items()}

    def stop(self) -> None:
        """No new lease; what has begun is finished."""
        self._stopping.set()
        self._wake.set()
        for task in self._asking:
            task.cancel()

    async def run(self) -> None:
        """Leases and works until stopped."""
        async with asyncio.TaskGroup() as group:
            works = (self._heartbeat(), self._completer.run(), self.lag.watch())
            always = [group.create_task(work) for work in works]
            try:
                async with asyncio.TaskGroup() as batches:
                    if self._options.reserved_items:
                        for _ in range(FIRST_CALLS):
                            batches.create_task(self._serve_first_turns(batches))
                    await self._lease_until_stopped(batches)
            finally:
                for task in always:
                    task.cancel()
        await self._runtimes.close()
        await self.targets.close()

    async def _lease_until_stopped(self, group: asyncio.TaskGroup) -> None:
        """One call covers every view that has room; a view that gets room meanwhile has a call of its own."""
        while not self._stopping.is_set():
            asked = self._capacity()
            if asked or not (self._polls or self._held):
                self._polled |= asked.keys()
                self._polls += 1
                group.create_task(self._poll(asked, group))
            self._wake.clear()
            await _wait(self._wake, LOOK_EVERY_S if self._left_alone() else None)

    async def _serve_first_turns(self, group: asyncio.TaskGroup) -> None:
        """Keeps a call waiting for roots that had no turn yet, while not too many of their batches are under way.

        What it brings is begun by the very task that waited, and another one waits on: handing it over would cost
        turns of a busy loop, each of them milliseconds.
        """
        while not self._stopping.is_set():
            by_view = self._runtimes.by_view
            asked = {name: self._options.reserved_items for name, runtime in by_view.items() if runtime.room() is None}
            if not asked or self._pace.first >= MOST_FIRST:
                await self._pause(EMPTY_S)
                continue
            try:
                batches = await self._lease(asked, first=True)
            except WellspringError:  # the ordinary calls tell it
                await self._pause(IDLE_RETRY_S)
                continue
            if batches:
                for _ in batches:
                    self._pace.begin_first()
                group.create_task(self._serve_first_turns(group))
                for batch in batches[1:]:
                    group.create_task(self._run_first(batch))
                await self._run_first(batches[0])
                return

    def _capacity(self) -> dict[str, int]:
        """Items that may be leased now, by view."""
        asked: dict[str, int] = {}
        options = self._options
        for name, runtime in self._runtimes.by_view.items():
            held = self._runtimes.held(name)
            if name in self._polled or held >= options.leases:
                continue
            room = runtime.room()
            if room == 0 or (room is not None and held):
                continue
            usual = max(options.slice_items, int(runtime.items_per_s * BATCH_S))
            asked[name] = min(options.lease_items, usual if room is None else room)
        return asked

    def _left_alone(self) -> bool:
        return any(runtime.room() is not None for runtime in self._runtimes.by_view.values())

    async def _poll(self, asked: dict[str, int], group: asyncio.TaskGroup) -> None:
        try:
            for batch in await self._lease(asked):
                runtime = self._runtimes.of(batch.view, batch.views_revision)
                if runtime is not None:
                    runtime.held += 1
                group.create_task(self._run_batch(batch, runtime))
        except WellspringError as error:
            self.connected = not isinstance(error, Unavailable)
            logger.warning("engine did not give work", extra=fields(reason=error.reason))
            await self._pause(IDLE_RETRY_S)
        finally:
            self._polls -= 1
            self._polled -= asked.keys()
            self._wake.set()

    async def _lease(self, asked: dict[str, int], first: bool = False) -> list[work_pb2.Batch]:
        """What the engine gives; nothing once the worker is to stop."""
        runtimes = self._runtimes
        if runtimes.revision < 0:
            await runtimes.read(0)
            # A lease waits for work, perhaps long: the engine has answered already.
            self.connected = True
            return []
        request = work_pb2.LeaseRequest(
            executor=self._options.name,
            capacity=[work_pb2.LeaseRequest.Capacity(view=name, items=items) for name, items in asked.items()],
            wait=Duration(nanos=int(self._options.wait_s % 1 * 1e9), seconds=int(self._options.wait_s)),
            views_revision=runtimes.revision,
            first_turns=first,
        )
        response = await self._unless_stopped(request)
        if response is None:
            return []
        self.connected = True
        if first and response.batches:
            self._pace.hush()
        if response.views_revision != runtimes.revision:
            await runtimes.read(response.views_revision)
        if not response.batches:
            # An engine that is stopping answers at once.
            await self._pause(max(EMPTY_S, response.retry_after.ToNanoseconds() / 1e9))
        return list(response.batches)

    async def _unless_stopped(self, request: work_pb2.LeaseRequest) -> work_pb2.LeaseResponse | None:
        """The engine's answer; None when the worker is stopped first."""
        if self._stopping.is_set():
            return None
        task = _this_task()
        self._asking.add(task)
        try:
            return await self._work.lease(request)
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
            task.uncancel()
            return None
        finally:
            self._asking.discard(task)

    async def _run_first(self, batch: work_pb2.Batch) -> None:
        """A batch of first turns: few pages, beside whatever fills the slots."""
        runtime = self._runtimes.of(batch.view, batch.views_revision)
        items = items_of(batch)
        held, withheld, counted = _Held(batch), Report(), True
        self._held[held] = None
        try:
            if runtime is None:
                await self._completer.give_back(batch, items)
                return
            held.tasks = [_this_task()]
            await self._render_slice(held, runtime, items, self._sources(batch, runtime), withheld, first=True)
            if held.telling:
                await held.told.wait()
            counted = False
            self._pace.end_first()
            await self._give_back_later(held, withheld)
        finally:
            if counted:
                self._pace.end_first()
            self._held.pop(held, None)

    def _sources(self, batch: work_pb2.Batch, runtime: ViewRuntime) -> Sources:
        view, most_bytes = runtime.view, self._options.source_cache_bytes
        return Sources(self._documents, view.source_namespace, view.source_prefix, minimum_versions(batch), most_bytes)

    async def _run_batch(self, batch: work_pb2.Batch, runtime: ViewRuntime | None) -> None:
        items = items_of(batch)
        if runtime is None:
            await self._completer.give_back(batch, items)
            return
        began_s = asyncio.get_running_loop().time()
        sources = self._sources(batch, runtime)
        size = self._pace.slice_items()
        held = _Held(batch)
        self._held[held] = None
        slices = [items[start : start + size] for start in range(0, len(items), size)]
        withheld = Report()
        try:
            async with asyncio.TaskGroup() as group:
                held.tasks = [
                    group.create_task(self._run_slice(held, runtime, one, sources, withheld)) for one in slices
                ]
            if held.telling:
                await held.told.wait()
            runtime.took(len(items) - len(withheld.withheld), asyncio.get_running_loop().time() - began_s)
            runtime.held -= 1
            runtime = None
            self._wake.set()
            await self._give_back_later(held, withheld)
        finally:
            if runtime is not None:
                runtime.held -= 1
            self._held.pop(held, None)
            self._wake.set()

    async def _run_slice(
        self, held: _Held, runtime: ViewRuntime, items: Sequence[Item], sources: Sources, withheld: Report
    ) -> None:
        async with runtime.slots:
            # The engine gives first turns in turns with the others' work.
            await self._pace.turn()
            if self._stopping.is_set():
                await self._completer.give_back(held.batch, list(items))
                return
            await self._render_slice(held, runtime, items, sources, withheld)

    async def _render_slice(
        self,
        held: _Held,
        runtime: ViewRuntime,
        items: Sequence[Item],
        sources: Sources,
        withheld: Report,
        first: bool = False,
    ) -> None:
        now_s = asyncio.get_running_loop().time()
        allowed, refused = affordable(items, self.targets.budget, now_s)
        for item in refused:
            withheld.withhold(item, RETRY_LATER_S)
        if not allowed:
            return
        documents, caches = self._documents, self._caches
        if not first:
            documents, caches = self._paced_documents, self._paced_caches
        report = Report()
        self._pace.begin()
        try:
            report = await run_slice(runtime, allowed, held.batch, sources, documents, caches, first=first)
        finally:
            self._pace.end(len(allowed), report.size_bytes)
        for item in report.withheld:
            withheld.withhold(item, report.withheld_s)
        if len(report.withheld) < len(allowed):
            held.telling += 1
            held.told.clear()
            self._completer.tell(held.batch, report, held.answered, first=first, more=self._pace.running > 0)

    async def _give_back_later(self, held: _Held, withheld: Report) -> None:
        """What was not tried goes back to the engine when it may be tried: until then it holds a lease, but no slot."""
        if not withheld.withheld:
            return
        self.counters.withheld += len(withheld.withheld)
        await self._pause(withheld.withheld_s)
        await self._completer.give_back(held.batch, withheld.withheld)

    async def _heartbeat(self) -> None:
        """Moves the leases' deadlines, and drops the work of those that are not ours any more."""
        while True:
            await asyncio.sleep(self._options.heartbeat_s)
            held = list(self._held)
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
            await _wait(self._stopping, seconds)


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    """Until it is set, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task
