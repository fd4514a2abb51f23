"""A clock that moves when it is told, or by itself when every task waits: hours of timeouts in milliseconds, the same
every time.

By hand, on any event loop::

    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(3600))
    await clock.advance(3600)

By itself, where ``asyncio.sleep``, ``asyncio.timeout`` and every timer of the loop follow it too::

    clock.run(main())
"""

import asyncio
import heapq
import itertools
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_START_NS = 1_700_000_000_000_000_000
"""Where wall time begins unless said otherwise: a moment in November 2023, so that forgotten conversions of units show.
"""

_STALL_S = 30.0
"""How long, in real seconds, :meth:`VirtualClock.run` waits for another thread before it calls a standstill."""


class VirtualClock:
    """A :class:`~libs.clock.clock.Clock` for tests and simulations."""

    def __init__(self, start_ns: int = _START_NS) -> None:
        self._wall_ns = start_ns
        self._elapsed_ns = 0
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def time_ns(self) -> int:
        """Wall time in nanoseconds since 1970."""
        return self._wall_ns

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed_ns / 1e9

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has moved by ``seconds``; zero and less yield to other tasks once."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_ns = self._elapsed_ns + max(1, round(seconds * 1e9))
        heapq.heappush(self._sleepers, (due_ns, next(self._order), future))
        await future

    def set_wall(self, time_ns: int) -> None:
        """Set wall time, as an administrator or a broken time server would; monotonic time does not notice."""
        self._wall_ns = time_ns

    async def advance(self, seconds: float) -> None:
        """Move by ``seconds``, stopping at each sleeper that wakes on the way and letting its task run.

        A task that goes back to sleep for a moment inside the span is woken again in it.
        """
        target_ns = self._elapsed_ns + round(seconds * 1e9)
        await _settle()
        while (due_ns := self._next_due_ns()) is not None and due_ns <= target_ns:
            self._move_to(due_ns)
            await _settle()
        self._move_to(target_ns)
        await _settle()

    def run(self, main: Coroutine[Any, Any, _Result], *, patience_s: float = 0.0) -> _Result:
        """Run ``main`` on an event loop of its own that moves this clock to the next timer whenever every task waits.

        ``patience_s``: real seconds to wait for files, sockets and other threads before the clock moves; needed where
        work is done outside the loop. Raises RuntimeError when all tasks wait, no timer is set and nothing comes from
        outside for 30 real seconds.
        """
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self, patience_s)) as runner:
            return runner.run(main)

    def jump(self, limit_s: float | None) -> bool:
        """Move to the next sleeper, or by ``limit_s`` seconds if that is sooner; False when there is neither. For event
        loops.
        """
        due_ns = self._next_due_ns()
        if limit_s is not None:
            # Rounded up: a timer of the loop must not be found a fraction of a nanosecond before it is due.
            limit_ns = self._elapsed_ns + int(limit_s * 1e9) + 1
            due_ns = limit_ns if due_ns is None else min(due_ns, limit_ns)
        if due_ns is None:
            return False
        self._move_to(due_ns)
        return True

    def _next_due_ns(self) -> int | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _move_to(self, elapsed_ns: int) -> None:
        self._wall_ns += elapsed_ns - self._elapsed_ns
        self._elapsed_ns = elapsed_ns
        while self._sleepers and self._sleepers[0][0] <= elapsed_ns:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)


async def _settle() -> None:
    """Let every task that can run do so, as far as a chain of a hundred wake-ups reaches."""
    for _ in range(100):
        await asyncio.sleep(0)


class _JumpingSelector(selectors.DefaultSelector):
    """Asks for events without waiting; when there are none, moves the clock to where the loop would have waited."""

    def __init__(self, clock: VirtualClock, patience_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._patience_s = patience_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the base class, in virtual time."""
        waits = timeout is None or timeout > 0
        events = super().select(self._patience_s if waits else 0)
        if events or not waits or self._clock.jump(timeout):
            return events
        events = super().select(_STALL_S)
        if not events:
            raise RuntimeError(
                "every task waits, no timer is set and nothing came from outside: the program stands still"
            )
        return events


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the clock's."""

    def __init__(self, clock: VirtualClock, patience_s: float) -> None:
        self._virtual = clock
        super().__init__(_JumpingSelector(clock, patience_s))

    def time(self) -> float:
        """Virtual monotonic seconds."""
        return self._virtual.monotonic()
