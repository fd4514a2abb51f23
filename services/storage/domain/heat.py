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
_STRIDE: Final = 16
"""One in so many operations is counted, on average."""


class Sketch:
    """The hottest records of one namespace: by record [count, error, time of both]."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[bytes, tuple[float, float, float]] = {}

    def add(self, record: bytes, weight: float, now_s: float) -> None:
        """Counts ``weight`` more operations on ``record``."""
        counts = self._counts
        known = counts.get(record)
        if known is not None:
            share = _faded(known[2], now_s)
            counts[record] = (known[0] * share + weight, known[1] * share, now_s)
            return
        error = 0.0
        if len(counts) >= _KEPT:
            least = min(counts, key=lambda one: counts[one][0] * _faded(counts[one][2], now_s))
            count, _, at_s = counts.pop(least)
            error = count * _faded(at_s, now_s)
        counts[record] = (error + weight, error, now_s)

    def hottest(self, now_s: float) -> list[tuple[bytes, float]]:
        """(record, operations a second that it has at least), the hottest first."""
        per_s = math.log(2) / _HALF_LIFE_S
        rates = [
            (record, (count - error) * _faded(at_s, now_s) * per_s)
            for record, (count, error, at_s) in self._counts.items()
        ]
        return sorted(rates, key=lambda one: (-one[1], one[0]))


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


def _faded(since_s: float, now_s: float) -> float:
    return math.pow(0.5, max(0.0, now_s - since_s) / _HALF_LIFE_S)
