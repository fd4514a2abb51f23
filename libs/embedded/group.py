"""Group commit: many batches, already applied, made durable by one sync of the write-ahead log.

One thread does nothing but sync. While it waits for the disk the event loop goes on applying batches; the next sync
covers all of them. The loop hands the thread one token at a time, so the two share no lock.

A batch may be patient: it waits for company a little, so that the disk is free when one comes that is not.
"""

import asyncio
import collections
import functools
import heapq
import math
import queue
import threading
from collections.abc import Callable

from libs.embedded.failures import QueueFull, translate
from libs.errors.errors import WellspringError


class GroupCommit:
    """Futures of batches that wait for the disk, in the order in which the batches were applied."""

    def __init__(self, sync: Callable[[], None], max_pending: int, doing: str) -> None:
        """``sync`` makes durable all that is applied when it is called; it runs in the group's thread and may raise
        anything.
        """
        self._sync = sync
        self._max_pending = max_pending
        self._doing = doing
        self._pending: collections.deque[asyncio.Future[None]] = collections.deque()
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._syncing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None
        # When the next sync has to begin, on the loop's clock; and the timer for it.
        self._due_s = math.inf
        self._alarm: asyncio.TimerHandle | None = None
        self._barriers: list[tuple[int, int, asyncio.Future[None]]] = []
        self.written = 0
        self.durable = 0
        self.failure: WellspringError | None = None
        self.syncs = 0

    @property
    def pending(self) -> int:
        """How many commits wait for the disk."""
        return len(self._pending)

    def check_room(self) -> None:
        """Raises QueueFull when as many commits wait as may."""
        if len(self._pending) >= self._max_pending:
            raise QueueFull(
                f"{len(self._pending)} commits wait for the disk, as many as may; try again later",
                retry_after_s=0.1,
            )

    async def room(self) -> None:
        """Wait until a commit fits."""
        while len(self._pending) >= self._max_pending and self.failure is None:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def enter(self, patience_s: float = 0.0) -> asyncio.Future[None]:
        """The future of the batch that was applied just now: done when it is durable. Call it on the event loop.

        Its sync begins at most ``patience_s`` later than it could, and at once when a batch without patience comes.
        """
        loop = self._loop
        if loop is None:
            loop = self._start()
        future: asyncio.Future[None] = loop.create_future()
        self._pending.append(future)
        self.written += 1
        self._hurry(loop, patience_s)
        return future

    async def barrier(self, number: int) -> None:
        """Wait until batch ``number`` is durable. Raises as its commit does."""
        if number <= self.durable:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._barriers, (min(number, self.written), id(future), future))
        self._hurry(loop, 0.0)
        await future

    def fail(self, failure: WellspringError) -> None:
        """Refuse what waits and all that comes, with ``failure``."""
        if self.failure is None:
            self.failure = failure
        for future in [*self._pending, *(future for _, _, future in self._barriers)]:
            if not future.done():
                future.set_exception(self.failure)
                future.exception()  # nothing is logged for a caller that went away
        self._pending.clear()
        self._barriers.clear()
        self._disarm()
        self._make_room()

    def stop(self) -> None:
        """End the thread; blocks for the sync in progress. What waits is left to :meth:`finish` or :meth:`fail`."""
        self._disarm()
        if self._thread is not None:
            self._tokens.put(False)
            self._thread.join()
            self._thread = None
        self._loop = None

    def finish(self) -> None:
        """Complete all that waits: the caller has synced."""
        self._release(len(self._pending))

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="embedded-sync", daemon=True)
        self._thread.start()
        return self._loop

    def _hurry(self, loop: asyncio.AbstractEventLoop, patience_s: float) -> None:
        """The next sync has to begin within ``patience_s``."""
        due_s = loop.time() + patience_s
        if due_s < self._due_s:
            self._due_s = due_s
            if not self._syncing:
                self._next(loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins the sync that is due, or sees to it that it is begun in time."""
        self._disarm()
        if not self._pending or self._thread is None:
            self._due_s = math.inf
        elif self._due_s <= loop.time():
            self._due_s = math.inf
            self._syncing = True
            self._tokens.put(True)
        else:
            self._alarm = loop.call_at(self._due_s, self._next, loop)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._tokens.get():
            count = len(self._pending)  # all of them are applied: the sync that starts now covers them
            try:
                self._sync()
            except Exception as error:
                _tell(loop, functools.partial(self.fail, translate(error, self._doing)))
                return
            if not _tell(loop, functools.partial(self._synced, count)):
                return

    def _synced(self, count: int) -> None:
        if self._loop is None or self.failure is not None:
            return
        self.syncs += 1
        self._syncing = False
        self._release(count)
        self._next(self._loop)

    def _release(self, count: int) -> None:
        for _ in range(min(count, len(self._pending))):
            _done(self._pending.popleft())
            self.durable += 1
        while self._barriers and self._barriers[0][0] <= self.durable:
            _done(heapq.heappop(self._barriers)[2])
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None and (len(self._pending) < self._max_pending or self.failure is not None):
            _done(self._room)
            self._room = None


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> bool:
    """Have the loop run ``call``; False when the loop is closed, and so nobody waits any more."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return False
    return True
