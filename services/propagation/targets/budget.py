"""The retry budget: attempts beyond the first are a share of the first ones, over all targets together.

Without it a target that fails is asked several times as often as one that works, just when it can bear it least.
"""

MOST_SAVED = 1_000.0
"""Retries that good times may save up for bad ones."""


class RetryBudget:
    """`share` of first attempts, and always `min_per_s` a second. Times are monotonic seconds, told by the caller."""

    def __init__(self, share: float = 0.2, min_per_s: float = 10.0) -> None:
        self._share = share
        self._min_per_s = min_per_s
        self._saved = 0.0
        self._always = float(min_per_s)
        self._filled_s: float | None = None
        self.refused = 0
        """Since the start."""

    def first(self, count: int) -> None:
        """So many first attempts are made."""
        self._saved = min(MOST_SAVED, self._saved + self._share * count)

    def retry(self, now_s: float) -> bool:
        """Takes one retry out of the budget; False: there is none left."""
        if self._filled_s is not None:
            self._always = min(max(1.0, self._min_per_s), self._always + self._min_per_s * (now_s - self._filled_s))
        self._filled_s = now_s
        if self._always >= 1:
            self._always -= 1
        elif self._saved >= 1:
            self._saved -= 1
        else:
            self.refused += 1
            return False
        return True
