"""Work that goes on when its caller has gone away: what has begun to write ends, so that it is settled what it did."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """A task group with a life of its own. Use :meth:`start` and :meth:`close`."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._started = asyncio.Event()
        self._ending = asyncio.Event()
        self._host: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the group."""
        self._host = asyncio.create_task(self._live())
        await self._started.wait()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, which ends also when the caller is cancelled."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._group.create_task(_settle(work, future))
        return await asyncio.shield(future)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Has ``work`` done, which raises nothing, without waiting for it."""
        self._group.create_task(work)

    async def close(self) -> None:
        """Waits for what is under way."""
        self._ending.set()
        if self._host is not None:
            await self._host

    async def _live(self) -> None:
        async with self._group:
            self._started.set()
            await self._ending.wait()


async def _settle(work: Coroutine[Any, Any, T], future: asyncio.Future[T]) -> None:
    try:
        result = await work
    except Exception as error:
        if not future.done():
            future.set_exception(error)
            future.exception()  # whoever asked may be gone
    else:
        if not future.done():
            future.set_result(result)
