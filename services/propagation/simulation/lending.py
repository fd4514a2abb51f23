"""The shipped engine over a log, behind the interface that executors ask for work, with one root that wants many pages
of each of its views.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import cast

from libs.clock.clock import Clock
from libs.rpc.call import Call
from services.propagation.domain import edges
from services.propagation.domain.change import Change
from services.propagation.domain.edges import Mode
from services.propagation.domain.engine import Engine
from services.propagation.domain.shard import Settings
from services.propagation.simulation.log_disk import LogDisk
from services.propagation.simulation.world import NONE, declared_of
from services.propagation.store.interface import Held
from services.propagation.views.catalogue import Catalogue
from services.propagation.views.parsing import Defaults
from services.propagation.work_servicer import WorkServicer
from wellspring.propagation.v1 import work_pb2

_SOURCE = "t"


class _NoDeadline:
    remaining_s = 60.0


_CALL = cast("Call", _NoDeadline())


class Lending:
    """See executor.ports.Work; on an event loop with the clock's time. `done` is when pages were accepted, by view."""

    def __init__(self, clock: Clock, views: str, names: Sequence[str], pages: int) -> None:
        """`views` is the YAML of views of these names, each of which covers p/<its name>/."""
        self._disk = LogDisk()
        store = self._disk.open()
        catalogue = Catalogue(store, Defaults())
        rng = Random(1)  # noqa: S311  a test
        self.engine = Engine(store, clock, rng, Settings(), catalogue.views(), catalogue.revision, catalogue.older())
        self._work = WorkServicer(self.engine, catalogue)
        self._lent: dict[int, str] = {}
        self._pages = pages
        self.done: dict[str, list[float]] = {name: [] for name in names}
        catalogue.put(self.engine, views)
        for name in names:
            resources = [f"p/{name}/{at:06}".encode() for at in range(pages)]
            sets = declared_of(NONE, [[(_SOURCE, "content")]] * pages)
            edges.declare(self.engine.shard, name, resources, sets, Mode.REPLACE)
        self.engine.publish(Change("edit", _SOURCE, ("content",), bytes(15) + b"\1"))
        self._ticking = asyncio.get_running_loop().create_task(self.engine.run())

    async def views(self) -> work_pb2.GetViewsResponse:
        """See ports.Work."""
        return await self._work.GetViews(work_pb2.GetViewsRequest(), _CALL)

    async def lease(self, request: work_pb2.LeaseRequest) -> work_pb2.LeaseResponse:
        """See ports.Work."""
        response = await self._work.Lease(request, _CALL)
        self._lent |= {batch.lease_id: batch.view for batch in response.batches}
        return response

    async def complete(self, request: work_pb2.CompleteRequest) -> work_pb2.CompleteResponse:
        """See ports.Work. Nothing is refused here: the executor lives, and keeps its leases."""
        now_s = asyncio.get_running_loop().time()
        response = await self._work.Complete(request, _CALL)
        for completion, result in zip(request.completions, response.results, strict=True):
            assert not result.status.code, result
            self.done[self._lent[completion.lease_id]] += [now_s] * result.accepted
        return response

    async def extend(self, request: work_pb2.ExtendRequest) -> work_pb2.ExtendResponse:
        """See ports.Work."""
        return await self._work.Extend(request, _CALL)

    @property
    def dead(self) -> list[Held]:
        """Dead letters."""
        return list(self.engine.shard.holds.dead_letters(None))

    def finished(self, view: str) -> bool:
        """Whether the root is done, and each page of the view was accepted once."""
        return not self.engine.shard.roots and len(self.done[view]) == self._pages

    def rate(self, view: str, start_s: float, end_s: float) -> float:
        """Pages a second that were accepted meanwhile."""
        return sum(start_s <= at_s < end_s for at_s in self.done[view]) / (end_s - start_s)
