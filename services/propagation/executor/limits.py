"""How much may run at once, by feedback: a little more while all goes well, half when it does not."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class AdaptiveLimit:
    """Additive increase, multiplicative decrease over what runs at once (1 .. maximum).

    A run that failed, or took more than `slow_factor` times the usual, halves the limit, at most once for each round of
    runs; each round without one raises it by one. Use it as `async with limit.slot():` and tell it of failures by
    letting them leave the block.
    """

    def __init__(self, maximum: int, *, start: int | None = None, slow_factor: float = 4.0) -> None:
        self.maximum = maximum
        self.limit = float(start if start is not None else max(1, maximum // 2))
        self.running = 0
        self._slow_factor = slow_factor
        self._usual_s = 0.0
        self._since_cut = 0
        # As many as there are callers, whom their slices bound.
        self._waiters: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits until one more may run."""
        loop = asyncio.get_running_loop()
        while self.running >= int(self.limit):
            future = loop.create_future()
            self._waiters.append(future)
            await future
        self.running += 1
        began = loop.time()
        good = False
        try:
            yield
            good = True
        finally:
            self.running -= 1
            self._learn(loop.time() - began, good)
            self._wake()

    def _learn(self, took_s: float, good: bool) -> None:
        self._since_cut += 1
        usual = self._usual_s or took_s
        slow = took_s > self._slow_factor * usual
        # An average that follows slowly, so that one slow spell is seen as one before it becomes the usual.
        self._usual_s = usual + 0.05 * (took_s - usual)
        if good and not slow:
            self.limit = min(self.maximum, self.limit + 1 / max(1.0, self.limit))
        elif self._since_cut >= self.limit:
            self.limit = max(1.0, self.limit / 2)
            self._since_cut = 0

    def _wake(self) -> None:
        room = int(self.limit) - self.running
        while room > 0 and self._waiters:
            future = self._waiters.popleft()
            if not future.done():
                future.set_result(None)
                room -= 1
