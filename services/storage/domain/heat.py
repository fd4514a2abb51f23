"""Which records are asked for most: a sketch of fixed size, fed with a sample of the requests.

Space-Saving (Metwally, Agrawal, El Abbadi 2005): a record that is not counted takes the place of the least one, with
its count as the error. Any record with more than 1/64 of the requests is among the 64. Counts fade by half in 10 s, so
that they tell of now.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_KEPT: Final = 64
_NAMESPACES: Final = 256
"""Those asked for last; the sketches of others are let go."""
_HALF_LIFE_S: Final = 10.0
"""As of the rates that usage shows, so that a record's share of them is right."""
_HALF_LIVES: Final = 500
"""After so many the counts begin anew from weight 1: a float holds twice as many."""
_STRIDE: Final = 16
"""One in so many operations is counted, on average."""


class Sketch:
    """The hottest records of one namespace: by record (count, error).

    Counts need not fade one by one: a later operation weighs more instead, twice as much after each half-life (forward
    decay: Cormode, Shkapenyuk, Srivastava, Xu 2009), so that they compare as they stand.
    """

    __slots__ = ("_counts", "_now_s", "_since_s")

    def __init__(self) -> None:
        self._counts: dict[bytes, tuple[float, float]] = {}
        self._now_s = self._since_s = -math.inf

    def add(self, record: bytes, weight: float, now_s: float) -> None:
        """Counts ``weight`` more operations on ``record``."""
        weight *= self._scale(now_s)
        counts = self._counts
        known = counts.get(record)
        if known is not None:
            counts[record] = (known[0] + weight, known[1])
            return
        error = 0.0
        if len(counts) >= _KEPT:
            error, _ = counts.pop(min(counts, key=counts.__getitem__))
        counts[record] = (error + weight, error)

    def hottest(self, now_s: float) -> list[tuple[bytes, float]]:
        """(record, operations a second that it has at least), the hottest first."""
        per_s = math.log(2) / _HALF_LIFE_S / self._scale(now_s)
        rates = [(record, (count - error) * per_s) for record, (count, error) in self._counts.items()]
        return sorted(rates, key=lambda one: (-one[1], one[0]))

    def _scale(self, now_s: float) -> float:
        """What an operation weighs now. A clock that goes back stands still."""
        self._now_s = now_s = max(self._now_s, now_s)
        half_lives = (now_s - self._since_s) / _HALF_LIFE_S
        if half_lives > _HALF_LIVES:
            fade = math.pow(0.5, half_lives)  # 0 at last
            self._counts = {record: (count * fade, error * fade) for record, (count, error) in self._counts.items()}
            self._since_s, half_lives = now_s, 0.0
        return math.pow(2.0, half_lives)


class Heat:
    """The sketches of all namespaces, by number. ``stride`` gives the distance to the next operation to be counted:
    ``_STRIDE`` on average, at random, so that a caller who goes round in a circle is counted as well."""

    def __init__(self, monotonic_s: Callable[[], float], below: Callable[[int], int]) -> None:
        """``below(n)`` gives a random number from 0 to n - 1."""
        self._monotonic_s = monotonic_s
        self._below = below
        self._passed = self._weight = 0
        self._next = 1
        self._sketches: OrderedDict[int, Sketch] = OrderedDict()

    def pick(self, count: int) -> int:
        """Passes ``count`` operations; the index of the one to be counted, or -1 for none. (Of a batch one at most.)"""
        self._passed += count
        if self._passed < self._next:
            return -1
        index = count - 1 - (self._passed - self._next)
        self._weight, self._passed = self._passed, 0
        self._next = 1 + self._below(2 * _STRIDE - 1)
        return index

    def add(self, number: int, record: bytes) -> None:
        """Counts the operation that was picked, for all that were passed since the one before."""
        sketch = self._sketches.get(number)
        if sketch is None:
            sketch = self._sketches[number] = Sketch()
            if len(self._sketches) > _NAMESPACES:
                self._sketches.popitem(last=False)
        else:
            self._sketches.move_to_end(number)
        sketch.add(record, float(self._weight), self._monotonic_s())

    def hottest(self, number: int) -> list[tuple[bytes, float]]:
        """As ``Sketch.hottest``, of one namespace."""
        sketch = self._sketches.get(number)
        return [] if sketch is None else sketch.hottest(self._monotonic_s())
