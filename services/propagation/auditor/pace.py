"""So many items a second, on the clock that is passed in."""

from libs.clock.clock import Clock


class Pace:
    """Keeps a steady rate; time that was not used is not made up for."""

    def __init__(self, clock: Clock, per_s: float) -> None:
        self._clock = clock
        self._per_s = per_s
        self._next_s = clock.monotonic()

    async def take(self, count: int) -> None:
        """Ends when `count` more may go. A rate of 0 has no limit here: who means "none" does not ask."""
        if not self._per_s:
            return
        now_s = self._clock.monotonic()
        begin_s = max(now_s, self._next_s)
        self._next_s = begin_s + count / self._per_s
        if begin_s > now_s:
            await self._clock.sleep(begin_s - now_s)
