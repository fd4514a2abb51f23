"""Items whose last render saw an older input than the change brought: tried again after the lag, ever more slowly.

A lagging replica catches up in a moment, so the first tries come quickly; a version that its source never shows would
otherwise be tried for as long as its root lives. It stays pending all the same: nothing is dropped. In memory only: a
restart tries at once.
"""

from collections.abc import Iterator

from pyroaring import BitMap

_QUICK = 5
"""Tries after the plain delay, before it doubles."""
LONGEST_S = 60.0
_SHORTEST_S = 0.1


class HeldBack:
    """Sets by view: `turns[k]` are the items held back more than k times since they were last rendered."""

    def __init__(self) -> None:
        self._turns: dict[int, list[BitMap]] = {}

    def of(self, view: int) -> BitMap:
        """Items held back; not the caller's."""
        turns = self._turns.get(view)
        return turns[0] if turns else BitMap()

    def again(self, view: int, items: BitMap, delay_s: float) -> Iterator[tuple[BitMap, float]]:
        """Counts the items as held back once more; answers them with the seconds to wait."""
        turns = self._turns.setdefault(view, [])
        delay_s = max(delay_s, _SHORTEST_S)
        most = 0
        while delay_s * 2**most < LONGEST_S:
            most += 1
        left = items
        for turn in range(_QUICK + most):
            if turn == len(turns):
                turns.append(BitMap())
            before = left & turns[turn]
            fresh = left - before
            turns[turn] |= fresh
            if fresh:
                yield fresh, min(LONGEST_S, delay_s * 2 ** max(0, turn - _QUICK + 1))
            left = before
        if left:
            yield left, LONGEST_S

    def clear(self, view: int, items: BitMap) -> None:
        """Their renders saw what they had to, or failed for another reason."""
        for turn in self._turns.get(view, []):
            turn -= items

    def drop_all(self) -> None:
        """Nothing is held back."""
        self._turns.clear()
