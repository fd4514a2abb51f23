"""The time that sessions live by: it never goes back, so that nothing that expired lives again."""

from libs.clock.clock import Clock


class SteadyClock:
    """Microseconds of wall time that never fall and never stand still.

    While the wall clock stands behind what was given (it was set back, or `floor_us` of a former process is ahead),
    time goes on from there by the monotonic clock.
    """

    def __init__(self, clock: Clock, floor_us: int = 0) -> None:
        self.clock = clock
        self._last_us = max(floor_us, clock.time_ns() // 1000)
        self._at = clock.monotonic()

    def now_us(self) -> int:
        """The time, in microseconds since 1970."""
        at = self.clock.monotonic()
        going_on = self._last_us + max(0, int((at - self._at) * 1e6))
        wall = self.clock.time_ns() // 1000
        if wall < going_on:
            # Measured from the same base, so that rounding does not add up.
            return going_on
        self._last_us, self._at = wall, at
        return wall
