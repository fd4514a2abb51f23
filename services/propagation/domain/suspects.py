"""Items whose lease ended without a word: perhaps one of them kills its executor.

They are lent again apart from the others, each time in batches of an eighth of what was lost, so that the guilty one is
found alone while the others are done. How much an executor asks for plays no part: who is given little asks for little.
The sets are in memory: after a restart the search begins anew.
"""

from pyroaring import BitMap

_TURN = 4
_SHARE = 8


def most_of(lost: int) -> int:
    """How many of so many lost items, 1 and more, are lent together: a power of two, so that such numbers are few."""
    return 1 << (-(-lost // _SHARE) - 1).bit_length()


class Suspects:
    """By view and by how many of them may be lent together: items to be lent apart."""

    def __init__(self) -> None:
        self._by_view: dict[int, dict[int, BitMap]] = {}
        self._turns: dict[int, int] = {}

    def of(self, view: int) -> dict[int, BitMap]:
        """Sets by the most that are lent together; not the caller's."""
        return self._by_view.get(view, {})

    def turn(self, view: int) -> bool:
        """Whether the suspects of the view go first this time: each fourth time, so that they never wait for ever."""
        self._turns[view] = (self._turns.get(view, 0) + 1) % _TURN
        return self._turns[view] == 0

    def add(self, view: int, items: BitMap) -> None:
        """These, of which there is at least one, were lost together."""
        self.clear(view, items)
        sets = self._by_view.setdefault(view, {})
        most = most_of(len(items))
        sets[most] = sets.get(most, BitMap()) | items

    def clear(self, view: int, items: BitMap) -> None:
        """The items are no longer suspected."""
        sets = self._by_view.get(view)
        if sets:
            for most in list(sets):
                sets[most] -= items
                if not sets[most]:
                    del sets[most]
            if not sets:
                del self._by_view[view]

    def drop_all(self) -> None:
        """Suspects nothing."""
        self._by_view.clear()
