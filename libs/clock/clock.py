"""Time, passed in: what code asks for instead of the ``time`` module, so that a test or a simulation decides what time
it is.

Two kinds of time are never mixed: wall time (``time_ns``) is for people, expiry and the order of last-writer-wins, and
may jump; monotonic time (``monotonic``, ``sleep``) is for waiting and measuring, and does not.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

_Result = TypeVar("_Result")


class Clock(Protocol):
    """A source of time."""

    def time_ns(self) -> int:
        """Wall time: nanoseconds since 1970-01-01 UTC. May go back."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment. Never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait on monotonic time; zero and less yield to other tasks once."""
        ...


class SystemClock:
    """The machine's clocks."""

    def time_ns(self) -> int:
        """As :meth:`Clock.time_ns`."""
        return time.time_ns()

    def monotonic(self) -> float:
        """As :meth:`Clock.monotonic`."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """As :meth:`Clock.sleep`."""
        await asyncio.sleep(seconds)


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of ``work``, or TimeoutError when ``clock`` counts ``seconds`` first; ``work`` is cancelled and over
    by then.
    """
    task = asyncio.ensure_future(work)
    alarm = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise TimeoutError
    finally:
        alarm.cancel()
        task.cancel()
        await asyncio.gather(task, alarm, return_exceptions=True)


class MonotoneMicros:
    """Microseconds of wall time that strictly increase, whatever the wall clock does: each call of :meth:`next` gives a
    new number.

    While the wall clock stands behind what was given (it was set back, or numbers are taken faster than one a
    microsecond) the numbers go on by one; ``lead_us`` says how far they are ahead of it, for the caller to refuse when
    that is too much. Give ``floor_us`` the highest number that a former process used, as far as it is recorded.
    """

    def __init__(self, clock: Clock, floor_us: int = 0) -> None:
        self._clock = clock
        self._last_us = floor_us

    @property
    def last_us(self) -> int:
        """The highest number given or observed."""
        return self._last_us

    @property
    def lead_us(self) -> int:
        """How many microseconds the numbers are ahead of the wall clock; 0 when they are not."""
        return max(0, self._last_us - self._clock.time_ns() // 1000)

    def next(self) -> int:
        """A number greater than all before, and the wall clock's whenever that is possible."""
        self._last_us = max(self._last_us + 1, self._clock.time_ns() // 1000)
        return self._last_us

    def observe(self, us: int) -> None:
        """Never give ``us`` or less from now on."""
        self._last_us = max(self._last_us, us)
