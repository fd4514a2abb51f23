"""How much may run at once, by feedback: one more while all goes well, half when it does not.

Judged by rounds: as many ends as the limit was wide. A round is bad when a tenth of it failed, or when it took on
average more than `SLOW_FACTOR` times the usual. Slowness lowers the limit in proportion only (a target ten times as
slow is asked a tenth as much): its cause need not be our asking. Failures lower it to one.
"""

SLOW_FACTOR = 3.0
SLOW_AT_LEAST_S = 0.05
"""So much above the usual, at least: below that the scheduling of our own process is what is measured."""
BAD_SHARE = 0.1
USUAL_GROWS_S = 300.0
"""A slow spell becomes the usual in about this time."""
CUT_EVERY_S = 0.25


class AdaptiveLimit:
    """Additive increase, multiplicative decrease over what runs at once: `limit`, from 1 to `maximum`.

    Times are seconds of one monotonic clock, told by the caller.
    """

    __slots__ = (
        "_bad",
        "_count",
        "_cut_at_s",
        "_good_limit",
        "_judged_at_s",
        "_total_s",
        "_usual_s",
        "limit",
        "maximum",
        "pressed",
    )

    def __init__(self, maximum: int, *, start: int | None = None) -> None:
        self.maximum = maximum
        self.limit = float(min(maximum, start) if start is not None else max(1, maximum // 4))
        self.pressed = False
        """Set by the caller when more would have run but for the limit: one that is not used does not grow."""
        self._good_limit = self.limit
        self._usual_s = 0.0
        self._judged_at_s = 0.0
        self._cut_at_s = float("-inf")
        self._count = 0
        self._bad = 0
        self._total_s = 0.0

    @property
    def slow_s(self) -> float:
        """What takes longer than this is slow; 0 while nothing is known."""
        return max(SLOW_FACTOR * self._usual_s, self._usual_s + SLOW_AT_LEAST_S) if self._usual_s else 0.0

    def ended(self, now_s: float, took_s: float, count: int = 1, bad: int = 0) -> None:
        """So many that ran have ended, after `took_s` all together; so many of them badly."""
        self._count += count
        self._total_s += took_s
        self._bad += bad
        if self._count >= self.limit:
            self._judge(now_s)

    def overdue(self, now_s: float, age_s: float) -> None:
        """Most of what runs has run for `age_s` or longer, and is slow already."""
        if self.slow_s and age_s > self.slow_s and now_s - self._cut_at_s >= CUT_EVERY_S:
            self._cut(now_s, age_s)

    def restart(self) -> None:
        """Begins again at one: the target has just come back."""
        self.limit = self._good_limit = 1.0
        self._clear()

    def _judge(self, now_s: float) -> None:
        mean_s = self._total_s / self._count
        failing = self._bad > BAD_SHARE * self._count
        if failing:
            self.limit = max(1.0, self.limit / 2)
            self._cut_at_s = now_s
        elif self._usual_s and mean_s > self.slow_s:
            self._learn(now_s, mean_s)
            self._cut(now_s, mean_s)
        else:
            self._learn(now_s, mean_s)
            if self.pressed:
                self.limit = min(float(self.maximum), self.limit + 1)
            self._good_limit = self.limit
        self._clear()

    def _cut(self, now_s: float, took_s: float) -> None:
        floor = max(1.0, self._good_limit * self._usual_s / took_s)
        self.limit = max(floor, self.limit / 2) if self.limit > floor else self.limit
        self._cut_at_s = now_s
        self._clear()

    def _learn(self, now_s: float, mean_s: float) -> None:
        """The usual follows down at once and up slowly."""
        if not self._usual_s:
            self._usual_s = mean_s
        elif mean_s < self._usual_s:
            self._usual_s += 0.3 * (mean_s - self._usual_s)
        else:
            passed_s = max(0.0, now_s - self._judged_at_s)
            self._usual_s += min(1.0, passed_s / USUAL_GROWS_S) * (mean_s - self._usual_s)
        self._judged_at_s = now_s

    def _clear(self) -> None:
        self._count = self._bad = 0
        self._total_s = 0.0
        self.pressed = False
