"""Executors: the real worker over ports that lose, delay and repeat, and that kill or stop it at every boundary.

The worker, its slices, the packed completions and the engine's work interface are the shipped code; only the network,
the store, the caches and the renderer's bytes are simulated. So what is tried is what runs, and not a second opinion
of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar
from urllib.parse import unquote

from libs.errors.errors import WellspringError as EngineError
from libs.purge.client import Purge, PurgeFailed
from libs.render.types import Document
from services.propagation.executor.ports import Output, Stored
from services.propagation.executor.worker import Worker, WorkerOptions
from services.propagation.simulation.seeded.caches import REBOUND_S, Cache
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.host import CALL, Host
from services.propagation.simulation.seeded.site import Place, Site
from services.propagation.simulation.seeded.trace import Trace, Violation, violation_in
from services.propagation.simulation.seeded.wire import Process
from services.propagation.targets.targets import Targets
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import Unavailable

_Answer = TypeVar("_Answer")

RENDER_S = 0.01
"""Renderer time of a page, as reported: the real clock must not come into a simulation."""


class EnginePort:
    """The engine, over the wire."""

    def __init__(self, process: Process, host: Host) -> None:
        self.process = process
        self.host = host

    async def lease(self, request: work_pb2.LeaseRequest) -> work_pb2.LeaseResponse:
        """Not repeated by the network: each answer is another lease."""
        answer = await self._ask("lease", lambda: self.host.work.Lease(request, CALL), repeatable=False)
        for batch in answer.batches:
            self.process.take(frozenset(one.resource for root in batch.roots for one in root.inputs))
        return answer

    async def complete(self, request: work_pb2.CompleteRequest) -> work_pb2.CompleteResponse:
        """With the renderer's time made even."""
        for completion in request.completions:
            completion.renderer_seconds = RENDER_S * (len(completion.hashes) // 16)
        return await self._ask("complete", lambda: self.host.work.Complete(request, CALL), repeatable=True)

    async def extend(self, request: work_pb2.ExtendRequest) -> work_pb2.ExtendResponse:
        """A heartbeat."""
        return await self._ask("extend", lambda: self.host.work.Extend(request, CALL), repeatable=True)

    async def views(self) -> work_pb2.GetViewsResponse:
        """The views."""
        request = work_pb2.GetViewsRequest()
        return await self._ask("views", lambda: self.host.work.GetViews(request, CALL), repeatable=False)

    async def _ask(self, what: str, method: Callable[[], Awaitable[_Answer]], *, repeatable: bool) -> _Answer:
        async def effect() -> _Answer:
            try:
                return await self.host.call(method)
            except EngineError as error:
                raise Unavailable(error.message, reason=error.reason) from None

        return await self.process.exchange(what, effect, repeatable=repeatable)


class StorePort:
    """Documents and pages, over the wire.

    Reads of inputs that a batch names see the lagging copy; others see the store. An input that no batch names (a page
    reads it for the first time, soon after it changed) has no minimum that an old copy could be told by: where copies
    lag, its view needs a settle delay.
    """

    def __init__(self, process: Process, site: Site, stored: Callable[[], None]) -> None:
        self.process = process
        self.site = site
        self._stored = stored

    async def fetch(self, namespace: str, records: Sequence[bytes], *, strong: bool = False) -> list[Document | None]:
        """As the copy has them, or as the store itself does."""

        async def effect() -> list[Document | None]:
            names = [record.decode() for record in records]
            held = [
                self.site.replica.read(name) if not strong and self.process.must_see_new(name) else self.site.read(name)
                for name in names
            ]
            return [
                Document(one.value, one.version, "text/plain") if one is not None and one.value is not None else None
                for one in held
            ]

        return await self.process.exchange("fetch", effect, repeatable=False)

    async def stored(self, namespace: str, item_key: bytes, records: Sequence[bytes]) -> list[Stored | None]:
        """As the store has them."""

        async def effect() -> list[Stored | None]:
            held = [self.site.pages.get((namespace, record.decode())) for record in records]
            return [
                Stored(one.value, "text/plain", (), one.version) if one is not None and one.value is not None else None
                for one in held
            ]

        return await self.process.exchange("stored", effect, repeatable=False)

    async def put(self, namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes) -> list[str | None]:
        """Over what is older; what a newer render overtook is no problem."""

        async def effect() -> list[str | None]:
            self.keep(namespace, outputs, version)
            return [None for _ in outputs]

        return await self.process.exchange(f"put {len(outputs)} of {namespace}", effect, repeatable=True)

    def keep(self, namespace: str, outputs: Sequence[Output], version: bytes) -> None:
        """The store's own part."""
        for output in outputs:
            place = (namespace, output.record.decode())
            kept = self.site.put(place, version, output.body)
            said = output.body.decode() if output.body is not None else "gone"
            refused = "" if kept else " (refused)"
            self.process.trace(self.process.name, f"stores {place} {short(version)}{refused}: {said}")
        self._stored()


class CachesPort:
    """The caches, over the wire: each wholly before the next."""

    def __init__(self, process: Process, caches: Sequence[Cache], lost: set[tuple[str, Place]], lag_s: float) -> None:
        self.process = process
        self.caches = caches
        self.lost = lost
        self._lag_s = lag_s

    async def purge(self, purges: Sequence[Purge]) -> dict[int, PurgeFailed]:
        """By index, those that not every cache has acknowledged."""
        for cache in (*self.caches, None):
            if cache is None:
                await asyncio.sleep(REBOUND_S + self._lag_s)
            failed = await self._purge(cache or self.caches[-1], purges) if purges else None
            if failed is not None:
                return dict.fromkeys(range(len(purges)), failed)
        return {}

    async def _purge(self, cache: Cache, purges: Sequence[Purge]) -> PurgeFailed | None:
        async def effect() -> None:
            self.forget(cache, purges)

        try:
            await self.process.exchange(f"purge {len(purges)} of {cache.name}", effect, repeatable=True)
        except Unavailable as error:
            return PurgeFailed(cache.name, error.message)
        return None

    def forget(self, cache: Cache, purges: Sequence[Purge]) -> None:
        """A cache's own part: one purge or another is acknowledged and has no effect."""
        for purge in purges:
            place = place_of(purge)
            if self.process.rng.random() < self.process.faults().purge_lost:
                self.process.trace(cache.name, f"loses the purge of {place} {short(purge.min_version)}")
                # What reads through it may keep what it still serves.
                self.lost |= {(cache.name, place), *((outer.name, place) for outer in self.caches[1:2])}
                continue
            cache.purge(place, purge.min_version)
            self.process.trace(cache.name, f"purges {place} {short(purge.min_version)}")


def short(version: bytes) -> str:
    """A rendered version as epoch.sequence."""
    return f"{int.from_bytes(version[:8], 'big')}.{int.from_bytes(version[8:], 'big')}"


def place_of(purge: Purge) -> Place:
    """The page that a purge is about: its path is /<view>/<resource>."""
    view, resource = purge.path[1:].split("/", 1)
    return view, unquote(resource)


Ports = Callable[[Process], tuple[EnginePort, StorePort, CachesPort, Targets]]


async def executor(name: str, rng: Random, faults: Callable[[], Faults], trace: Trace, ports: Ports) -> None:
    """Lives of one executor, one after another, for ever. Raises Violation when the worker ends by itself."""
    options = WorkerOptions(
        name, lease_items=rng.choice([3, 8, 40]), slice_items=4, slices=2, leases=2, wait_s=5.0, heartbeat_s=2.0
    )
    while True:
        process = Process(name, rng, faults, trace)
        worker = Worker(options, *ports(process))
        process.task = asyncio.ensure_future(worker.run())
        try:
            await asyncio.wait([process.task])
        except asyncio.CancelledError:
            process.task.cancel()
            raise
        if not process.dead:
            error = None if process.task.cancelled() else process.task.exception()
            if (broken := violation_in(error)) is not None:
                raise broken
            raise Violation("the worker runs", f"{name} ended by itself: {error!r}") from error
        await asyncio.sleep(rng.uniform(0.1, 3.0))
        trace(name, "starts")
