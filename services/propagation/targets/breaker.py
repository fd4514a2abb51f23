"""A circuit breaker: a target that only fails is left alone for a while, then tried with a few requests.

closed ── too many failures ──▶ open ── its time is over ──▶ half-open ── all probes good ──▶ closed
                                 ▲                              └── one fails: twice as long ──┘
"""

from random import Random

CONSECUTIVE = 10
"""So many failures in a row open it …"""
SHARE = 0.5
SHARE_OF_AT_LEAST = 20
WINDOW_S = 10.0
"""… or more than this share of at least so many ends in a window."""
FIRST_OPEN_S = 1.0
MOST_OPEN_S = 30.0
PROBES = 3
"""At once while half-open; so many good ones close it."""


class Breaker:
    """Of one target. Times are seconds of one monotonic clock, told by the caller."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._consecutive = 0
        self._window_began_s = float("-inf")
        self._ends = 0
        self._failures = 0
        self._open_until_s: float | None = None
        self._open_s = FIRST_OPEN_S
        self._proved = 0
        self.opened = 0
        """How often it has opened."""

    @property
    def closed(self) -> bool:
        """Whether all is well, as far as is known."""
        return self._open_until_s is None

    def room(self, now_s: float) -> int | None:
        """How many may run at once; None: the breaker sets no bound."""
        if self._open_until_s is None:
            return None
        return PROBES if now_s >= self._open_until_s else 0

    def retry_after_s(self, now_s: float) -> float:
        """When to ask again; 0: now."""
        return max(0.0, self._open_until_s - now_s) if self._open_until_s is not None else 0.0

    def succeeded(self, now_s: float, count: int = 1) -> bool:
        """So many ended well. True when that closed the breaker."""
        self._consecutive = 0
        if self._open_until_s is None:
            self._count(now_s, count)
        elif now_s >= self._open_until_s:  # an answer to what was sent before it opened proves nothing
            self._proved += count
            if self._proved >= PROBES:
                self._open_until_s = None
                self._open_s = FIRST_OPEN_S
                self._ends = self._failures = 0
                return True
        return False

    def failed(self, now_s: float) -> bool:
        """One failed. True when that opened the breaker."""
        if self._open_until_s is not None:
            if now_s < self._open_until_s:
                return False
            self._open_s = min(MOST_OPEN_S, 2 * self._open_s)
        else:
            self._consecutive += 1
            self._count(now_s, 1)
            self._failures += 1
            share = self._failures > SHARE * self._ends and self._ends >= SHARE_OF_AT_LEAST
            if self._consecutive < CONSECUTIVE and not share:
                return False
        # Jitter, so that many callers do not come back in one moment.
        self._open_until_s = now_s + self._open_s * (0.75 + 0.5 * self._rng.random())
        self._proved = self._consecutive = self._ends = self._failures = 0
        self.opened += 1
        return True

    def _count(self, now_s: float, count: int) -> None:
        if now_s - self._window_began_s > WINDOW_S:
            self._window_began_s = now_s
            self._ends = self._failures = 0
        self._ends += count
