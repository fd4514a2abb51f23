"""A view and all that this executor uses to serve it; and the views as the engine has them."""

import asyncio
import logging

from libs.telemetry.logs import fields
from services.propagation.executor.calls import ViewCalls
from services.propagation.executor.entry_points import EntryPointRenderer
from services.propagation.executor.grpc_renderer import GrpcRenderer
from services.propagation.executor.http_renderer import HttpRenderer
from services.propagation.executor.ports import Work
from services.propagation.executor.publications import ViewPublications
from services.propagation.executor.publishing import Publisher
from services.propagation.executor.renderers import Renderer, RendererUnusable
from services.propagation.executor.take_renderer import TakeRenderer
from services.propagation.targets.settings import TargetInvalid
from services.propagation.targets.target import Target
from services.propagation.targets.targets import Targets
from services.propagation.targets.wire import RequestInvalid
from wellspring.propagation.v1 import work_pb2

logger = logging.getLogger(__name__)


class ViewRuntime:
    """One view in one revision. `slots` bounds its slices under way, `held` counts its batches."""

    def __init__(self, view: work_pb2.View, renderer: Renderer, publisher: Publisher, slices: int) -> None:
        self.view = view
        self.renderer = renderer
        self.publisher = publisher
        self.slots = asyncio.Semaphore(slices)
        self.held = 0
        self.items_per_s = 0.0
        """Of its last batches, as a running average."""
        told = [*publisher.publications.targets, *publisher.calls.targets]
        targets = [*told, *([renderer.target] if renderer.target is not None else [])]
        self._targets: list[Target] = list(dict.fromkeys(targets))

    def room(self) -> int | None:
        """How many items its targets can be given: 0 while one of them is left alone, None for any number."""
        rooms = [room for target in self._targets if (room := target.room()) is not None]
        return min(rooms) if rooms else None

    def took(self, items: int, seconds: float) -> None:
        """A batch has ended after so long, in which so many were rendered."""
        if not items:
            return
        rate = items / max(seconds, 1e-3)
        self.items_per_s = rate if not self.items_per_s else self.items_per_s + 0.3 * (rate - self.items_per_s)

    def limit(self) -> float:
        """How many renders may run at once."""
        if isinstance(self.renderer, EntryPointRenderer):
            return self.renderer.slots.limit.limit
        target = self.renderer.target
        return target.limit.limit if target is not None else 0.0

    async def close(self) -> None:
        """Gives back what is held; connections are the targets'."""
        await self.renderer.close()
        await self.publisher.close()


class Runtimes:
    """The views that can be served here, at the revision that was last read: `by_view` those that are asked for, the
    present ones and retired ones that are still at work."""

    def __init__(self, work: Work, targets: Targets, slices: int) -> None:
        self._work = work
        self._targets = targets
        self._slices = slices
        self._reading = asyncio.Lock()
        self.revision = -1
        self.by_view: dict[str, ViewRuntime] = {}
        self._older: dict[tuple[str, int], ViewRuntime | None] = {}
        # Of batches that are still held; closed at a later reading, or at the end.
        self._leaving: set[ViewRuntime] = set()

    def of(self, view: str, revision: int) -> ViewRuntime | None:
        """What renders a batch of the view and revision; None when that cannot be done here."""
        if (view, revision) in self._older:
            return self._older[view, revision]
        return self.by_view.get(view)

    def held(self, view: str) -> int:
        """Batches of the view that are held, in all its revisions."""
        older = (one for (name, _), one in self._older.items() if name == view and one is not None)
        present = self.by_view.get(view)
        return sum(one.held for one in {present, *older} if one is not None)

    async def read(self, revision: int) -> None:
        """Reads the views, unless they have been read at this revision. Raises the SDK's errors."""
        async with self._reading:
            if revision == self.revision:
                return
            response = await self._work.views()
            runtimes: dict[str, ViewRuntime] = {}
            for view in response.views:
                old = self.by_view.get(view.name)
                if old is not None and old.view == view:
                    runtimes[view.name] = old
                elif (made := self._make(view)) is not None:
                    runtimes[view.name] = made
            older = {(view.name, view.revision): self._runtime_of(view) for view in response.older}
            for (name, _), one in sorted(older.items(), key=lambda found: -found[0][1]):
                if one is not None:
                    runtimes.setdefault(name, one)
            before = self._all()
            self.by_view, self._older, self.revision = runtimes, older, response.revision
            self._leaving |= before - self._all()
            for gone in [one for one in self._leaving if not one.held]:
                self._leaving.discard(gone)
                await gone.close()

    def _runtime_of(self, view: work_pb2.View) -> ViewRuntime | None:
        """Of a view of an earlier revision: the one that served it until now, or a new one."""
        for one in (self.by_view.get(view.name), self._older.get((view.name, view.revision))):
            if one is not None and one.view == view:
                return one
        return self._make(view)

    async def close(self) -> None:
        """Ends the renderers."""
        for runtime in self._all() | self._leaving:
            await runtime.close()

    def _all(self) -> set[ViewRuntime]:
        return {*self.by_view.values(), *(one for one in self._older.values() if one is not None)}

    def _make(self, view: work_pb2.View) -> ViewRuntime | None:
        try:
            renderer = make_renderer(view, self._targets)
            return ViewRuntime(view, renderer, make_publisher(view, self._targets), self._slices)
        except (RendererUnusable, TargetInvalid, RequestInvalid, KeyError) as error:
            # Other views are served; this one's pages wait for an executor that can.
            logger.error("view cannot be served here", extra=fields(view=view.name, problem=str(error)))
            return None


def make_publisher(view: work_pb2.View, targets: Targets) -> Publisher:
    """What publishes a view's pages. Raises TargetInvalid, RequestInvalid."""
    return Publisher(view, ViewCalls(view, targets), ViewPublications(view, targets))


def make_renderer(view: work_pb2.View, targets: Targets) -> Renderer:
    """The renderer that a view asks for. Raises RendererUnusable, TargetInvalid, RequestInvalid."""
    kind = view.render.WhichOneof("kind")
    if kind == "entry_point":
        return EntryPointRenderer(view)
    if kind == "http":
        return HttpRenderer(view, targets)
    if kind == "grpc":
        return GrpcRenderer(view, targets)
    if kind == "take":
        return TakeRenderer(view)
    raise RendererUnusable("the view does not say how it is rendered: entry_point, http and grpc are what is known")
