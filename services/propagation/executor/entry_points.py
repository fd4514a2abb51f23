"""Rendering by a Python function of the deployment's, in this process."""

import asyncio
import importlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from libs.render.types import RenderError, RenderRequest, RenderResult
from libs.telemetry.logs import fields
from services.propagation.executor.pages import DEFAULT_RENDER_TIMEOUT_S, Item, Outcome, Page, RenderFailed, SawOlder
from services.propagation.executor.renderers import RendererUnusable, Slice
from services.propagation.targets.limits import AdaptiveLimit
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import WellspringError

logger = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 16


class EntryPointRenderer:
    """Calls `module:function`, an async function from RenderRequest to RenderResult. Raises RendererUnusable."""

    target = None

    def __init__(self, view: work_pb2.View) -> None:
        function = view.render.entry_point.function
        module_name, _, name = function.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise RendererUnusable(
                f"the renderer {function!r} cannot be loaded: {error}; it is given as package.module:function, "
                "on the executor's Python path"
            ) from error
        self._function: Callable[[RenderRequest], Awaitable[RenderResult]] = found
        self._view = view.name
        self._timeout_s = view.render.timeout.ToNanoseconds() / 1e9 or DEFAULT_RENDER_TIMEOUT_S
        self.slots = Slots(AdaptiveLimit(view.max_concurrency or DEFAULT_CONCURRENCY))

    async def render(self, items: Sequence[Item], given: Slice) -> list[Outcome]:
        """A task for each: the function is the deployment's, and may wait for anything."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(item, given)) for item in items]
        return [task.result() for task in tasks]

    async def close(self) -> None:
        """Nothing is held."""

    async def _one(self, item: Item, given: Slice) -> Outcome:
        request = RenderRequest(resource=item.resource, view=self._view, fetch=given.sources.fetch)
        await self.slots.take(given.first)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        good = False
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await self._function(request)
            good = True
            return _page(result)
        except SawOlder as error:
            good = True
            return error
        except RenderFailed as error:
            return error
        except RenderError as error:
            good = not error.retryable
            return RenderFailed("RENDER_ERROR", error.reason, retryable=error.retryable)
        except TimeoutError:
            return RenderFailed("RENDER_TIMEOUT", f"no page in {self._timeout_s:g} s")
        except WellspringError as error:
            return RenderFailed(error.reason or "SOURCE_UNAVAILABLE", error.message)
        except Exception as error:
            # A deployment's own code may raise anything; its page goes to the dead letters, the rest goes on.
            logger.exception("renderer failed", extra=fields(resource=item.resource, view=self._view))
            return RenderFailed("RENDERER_RAISED", type(error).__name__)
        finally:
            took_s = loop.time() - began_s
            given.seconds += took_s
            self.slots.give_back(took_s, good)


class Slots:
    """As many at once as an adaptive limit says; the others wait in their order."""

    def __init__(self, limit: AdaptiveLimit) -> None:
        self.limit = limit
        self.running = 0
        # As many as there are callers, whom their slices bound.
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def take(self, first: bool = False) -> None:
        """Waits until one more may run; `first`: before the others that wait."""
        loop = asyncio.get_running_loop()
        while self.running >= int(self.limit.limit):
            self.limit.pressed = True
            future = loop.create_future()
            if first:
                self._waiters.appendleft(future)
            else:
                self._waiters.append(future)
            try:
                await future
            except asyncio.CancelledError:
                self._wake()
                raise
        self.running += 1

    def give_back(self, took_s: float, good: bool) -> None:
        """One has ended, after so long, well or not."""
        self.running -= 1
        self.limit.ended(asyncio.get_running_loop().time(), took_s, bad=not good)
        self._wake()

    def _wake(self) -> None:
        room = int(self.limit.limit) - self.running
        while room > 0 and self._waiters:
            future = self._waiters.popleft()
            if not future.done():
                future.set_result(None)
                room -= 1


def _page(result: RenderResult) -> Outcome:
    """The result, if it has the types that it promises."""
    if not isinstance(result, RenderResult):
        return _garbage(f"gave {type(result).__name__}, not a RenderResult")
    if not isinstance(result.body, bytes) or not isinstance(result.content_type, str):
        return _garbage("a body is bytes, its content type str")
    try:
        dependencies, keys = tuple(result.dependencies), tuple(result.surrogate_keys)
    except TypeError:
        return _garbage("dependencies and surrogate keys are lists")
    if not all(isinstance(key, str) for key in keys):
        return _garbage("surrogate keys are str")
    for pair in dependencies:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            return _garbage("a dependency is a tuple of resource and aspect, both str")
    return Page(result.body, result.content_type, dependencies, keys, bool(result.missing))


def _garbage(detail: str) -> RenderFailed:
    return RenderFailed("RENDERER_GARBAGE", detail, retryable=False)
