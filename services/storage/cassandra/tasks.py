"""Work that goes on when its caller has gone away: a mutation that has begun ends, so that its change is settled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K")


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


class KeyedLocks(Generic[K]):
    """One lock for each key that is being used."""

    def __init__(self) -> None:
        self._locks: dict[K, tuple[asyncio.Lock, int]] = {}

    def hold(self, key: K) -> "_Held[K]":
        """``async with locks.hold(key):``."""
        return _Held(self._locks, key)


class _Held(Generic[K]):
    def __init__(self, locks: dict[K, tuple[asyncio.Lock, int]], key: K) -> None:
        self._locks = locks
        self._key = key

    async def __aenter__(self) -> None:
        lock, users = self._locks.get(self._key, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[self._key] = (lock, users + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._locks[self._key][0].release()
        self._leave()

    def _leave(self) -> None:
        lock, users = self._locks.pop(self._key)
        if users > 1:
            self._locks[self._key] = (lock, users - 1)
