"""Who has the event loop: work of some milliseconds lets brief calls go first, and leaves room for those that come.

Declaring thousands of edges or folding them holds the loop for some milliseconds, and a brief call that arrives
meanwhile needs several turns of the loop (it is read, begun, made durable, answered). Long work therefore goes one
piece at a time. A piece begins when no brief call is under way, and, where brief calls have come of late, after a rest
in proportion to the piece before it, in which those arrive that nobody knows of yet. Brief calls without end cannot
stop it: it waits for them only so long.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from libs.clock.clock import Clock
from services.propagation.domain.signals import Signal

REST_SHARE = 0.5
"""Of what a piece took: the loop is left to others for so long after it."""
_LEAST_REST_S = 0.0005
"""Shorter rests are added to the next one: the loop's timers count milliseconds."""
_MOST_REST_S = 0.003
"""That much lets every call in, also where a piece took long because others had the processor."""
OF_LATE_S = 10.0
"""Where no brief call has come for so long, long work has the loop without rests; the first that comes waits more."""
PATIENCE_S = 0.010
"""A piece waits for brief calls no longer than that."""

_Answer = TypeVar("_Answer")


class LongWork:
    """The turns of long pieces of work on one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._one = asyncio.Lock()
        self._brief = 0
        self._none_brief = Signal()
        self._free_at_s = 0.0
        self._rests_until_s = 0.0

    @contextmanager
    def brief_call(self) -> Iterator[None]:
        """While it is open, a call is under way that long work lets go first."""
        self._brief += 1
        self._rests_until_s = self._clock.monotonic() + OF_LATE_S
        try:
            yield
        finally:
            self._brief -= 1
            if not self._brief:
                self._none_brief.fire()

    async def turn(self, piece: Callable[[], _Answer]) -> _Answer:
        """Calls `piece` when it is its turn, which come in the order of the calls; answers what it does."""
        async with self._one:
            rest_s = self._free_at_s - self._clock.monotonic()
            if rest_s >= _LEAST_REST_S:
                await self._clock.sleep(rest_s)
            else:
                await asyncio.sleep(0)
            if self._brief:
                await self._none_brief.wait(PATIENCE_S)
            began_s = self._clock.monotonic()
            try:
                return piece()
            finally:
                ended_s = self._clock.monotonic()
                share = REST_SHARE if ended_s < self._rests_until_s else 0.0
                rest_s = max(0.0, self._free_at_s - ended_s) + share * (ended_s - began_s)
                self._free_at_s = ended_s + min(rest_s, _MOST_REST_S)
