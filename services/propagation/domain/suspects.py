"""Items whose lease ended without a word: perhaps one of them kills its executor.

They are lent again, in ever smaller batches, apart from the others, so that the guilty one is found alone while the
others are done. The sets are in memory: after a restart the search begins anew.
"""

from pyroaring import BitMap

_TURN = 4


class Suspects:
    """By view and level of suspicion: items to be lent apart."""

    def __init__(self) -> None:
        self._by_view: dict[int, dict[int, BitMap]] = {}
        self._turns: dict[int, int] = {}

    def of(self, view: int) -> dict[int, BitMap]:
        """Sets by level; not the caller's."""
        return self._by_view.get(view, {})

    def turn(self, view: int) -> bool:
        """Whether the suspects of the view go first this time: each fourth time, so that they never wait for ever."""
        self._turns[view] = (self._turns.get(view, 0) + 1) % _TURN
        return self._turns[view] == 0

    def add(self, view: int, level: int, items: BitMap) -> None:
        """Moves items to a level of suspicion."""
        self.clear(view, items)
        levels = self._by_view.setdefault(view, {})
        levels[level] = levels.get(level, BitMap()) | items

    def clear(self, view: int, items: BitMap) -> None:
        """The items are no longer suspected."""
        levels = self._by_view.get(view)
        if levels:
            for level in list(levels):
                levels[level] -= items
                if not levels[level]:
                    del levels[level]
            if not levels:
                del self._by_view[view]

    def drop_all(self) -> None:
        """Suspects nothing."""
        self._by_view.clear()
