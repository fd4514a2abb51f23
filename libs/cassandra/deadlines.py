"""Answers that do not come in time, found by one timer of the driver's for all requests.

The driver would set a timer for each request, which costs a third of a small read (measured: 68 us of the client's
time in the place of 99), and almost none of them ever goes off. Here requests are noted as they are sent, and looked
through ten times a second, on the driver's thread and by the machine's clock. What was given up is still answered by
its node, or fails with its connection, whose heartbeats tell that it is dead; nobody listens then.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from cassandra import OperationTimedOut

TICK_S: Final = 0.1
"""How much later than it was to be a request may be given up."""

_Request = tuple["asyncio.Future[Any]", float]
"""What waits for its answer, and until when (of the monotonic clock, in seconds)."""


class Deadlines:
    """Those of one session. ``settle(future, result, error)`` tells a future its outcome, from any thread;
    ``create_timer(seconds, callback)`` is the driver's."""

    def __init__(
        self,
        settle: Callable[["asyncio.Future[Any]", Any, Exception | None], None],
        create_timer: Callable[[float, Callable[[], None]], Any],
    ) -> None:
        self._settle = settle
        self._create_timer = create_timer
        self._sent: deque[_Request] = deque()
        self._waiting: list[_Request] = []  # the driver's thread alone has it
        self._ticks = False

    def add(self, future: "asyncio.Future[Any]", timeout_s: float) -> None:
        """Fails the future with OperationTimedOut if it is not done in time. For the event loop's thread."""
        self._sent.append((future, time.monotonic() + timeout_s))
        if not self._ticks:
            self._ticks = True
            self._create_timer(TICK_S, self._tick)

    def _tick(self) -> None:
        # First this: a request that comes from now on sets a timer of its own, at worst for nothing.
        self._ticks = False
        requests, self._waiting = self._waiting, []
        while self._sent:
            requests.append(self._sent.popleft())
        now_s = time.monotonic()
        for request in requests:
            future, until_s = request
            if future.done():
                continue
            if until_s <= now_s:
                self._settle(future, None, OperationTimedOut())
            else:
                self._waiting.append(request)
        if self._waiting and not self._ticks:
            self._ticks = True
            self._create_timer(TICK_S, self._tick)
