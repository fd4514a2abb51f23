"""How long ago a number of the engine's clock was given: what was new when a render began, a lagging copy may not have.

Within a life by the monotonic clock; for lives before it by the durable ticks, and so by the wall clock. Both are good
to `SPAN_S`, and where that matters a number is taken for younger than it is.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

SPAN_S = 1.0
"""Numbers given within so long are not told apart; the distance of the sequence's ticks."""

KEPT_S = 3_600.0
"""What is older is told apart no more: the longest settle delay that a views' file may ask for (views/checks.py)."""


class Ages:
    """Spans of (when it began, its last number): every number up to that was given within SPAN_S from then."""

    def __init__(self, ticks: Sequence[tuple[int, int]], last: int, now_ns: int, now_s: float) -> None:
        """`ticks` are (number, wall time) in the order of their numbers, `last` the newest number of all.

        Numbers before the first tick count as old.
        """
        firsts = [number for number, _ in ticks]
        self._spans: list[tuple[float, int]] = [(-math.inf, firsts[0] - 1 if ticks else last)]
        began_s = -math.inf
        for (_, at_ns), following in zip(ticks, [*firsts, last + 1][1:], strict=True):
            # The wall clock may have been set back meanwhile: no number is older than one before it.
            began_s = max(began_s, min(now_s, now_s - (now_ns - at_ns) / 1e9))
            self._spans.append((began_s, following - 1))

    def note(self, last: int, now_s: float) -> None:
        """All numbers up to `last` are given by now."""
        began_s, before = self._spans[-1]
        if last <= before:
            return
        if now_s - began_s < SPAN_S:
            self._spans[-1] = (began_s, last)
        else:
            self._spans.append((now_s, last))
            old = bisect_left(self._spans, now_s - KEPT_S - SPAN_S, key=lambda span: span[0])
            del self._spans[: max(0, old - 1)]

    def given_before(self, at_s: float) -> int:
        """The newest number of which it is known that it was given before `at_s`, 0 where none is."""
        old = bisect_right(self._spans, at_s - SPAN_S, key=lambda span: span[0])
        return self._spans[old - 1][1] if old else 0

    def given_by_s(self, number: int, now_s: float) -> float:
        """By when the number was given: at most SPAN_S too late, and never after `now_s`."""
        at = bisect_left(self._spans, number, key=lambda span: span[1])
        return min(now_s, self._spans[at][0] + SPAN_S) if at < len(self._spans) else now_s
