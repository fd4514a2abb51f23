"""Items whose last lease ended without an accepted render, though it may have stored and purged one.

What lies in the store may then differ from what was accepted last, and a render that equals that one must not be cut
off: a page that was A, became B in the store only, and is A again, has to be stored again. Such items are lent as if
nothing had been accepted. In memory only: after a restart it is all that is pending, failed or a dead letter.
"""

from pyroaring import BitMap


class Unsure:
    """Sets by view."""

    def __init__(self) -> None:
        self._items: dict[int, BitMap] = {}

    def of(self, view: int) -> BitMap:
        """Not the caller's."""
        return self._items.setdefault(view, BitMap())

    def add(self, view: int, items: BitMap) -> None:
        """Their lease has ended, and nobody knows how far it came."""
        self.of(view).update(items)

    def clear(self, view: int, items: BitMap) -> None:
        """A render was accepted: it was stored over whatever was there."""
        self.of(view).difference_update(items)

    def drop_all(self) -> None:
        """Before the sets are derived anew."""
        self._items.clear()
