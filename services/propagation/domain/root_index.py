"""Which unfinished roots may want an item: thousands of small ones cost nothing where they have no part.

The index is told of each item that becomes pending and forgets a root with its end, so it may name a root that wants
the item no more, and never misses one that does. Roots of few items in a view are found by item; the others, of which
memory bounds the number, are named always.
"""

from pyroaring import BitMap

from services.propagation.domain.roots import Root

_FEW = 32


class RootIndex:
    """Roots by view and item."""

    def __init__(self) -> None:
        self._wide: dict[int, dict[int, Root]] = {}
        self._by_item: dict[int, dict[int, dict[int, Root]]] = {}
        self._items: dict[int, BitMap] = {}
        self._noted: dict[int, dict[int, BitMap]] = {}

    def note(self, root: Root, view: int, items: BitMap) -> None:
        """The items are pending under the root, or dead letters of it."""
        if root.sequence in self._wide.get(view, ()):
            self._wide[view][root.sequence] = root
            return
        noted = self._noted.setdefault(root.sequence, {})
        every = noted.get(view, BitMap()) | items
        if len(every) > _FEW:
            self._forget(root.sequence, view, noted.pop(view, BitMap()))
            self._wide.setdefault(view, {})[root.sequence] = root
            return
        noted[view] = every
        by_item = self._by_item.setdefault(view, {})
        for item in every:
            by_item.setdefault(item, {})[root.sequence] = root
        self._items.setdefault(view, BitMap()).update(every)

    def knows(self, sequence: int) -> bool:
        """Whether items were noted for the root."""
        return sequence in self._noted

    def drop(self, sequence: int) -> None:
        """The root has ended."""
        for view, items in self._noted.pop(sequence, {}).items():
            self._forget(sequence, view, items)
        for roots in self._wide.values():
            roots.pop(sequence, None)

    def clear(self) -> None:
        """Forgets every root."""
        for kept in (self._wide, self._by_item, self._items, self._noted):
            kept.clear()

    def of(self, view: int, items: BitMap) -> list[Root]:
        """The roots that may want some of the items, oldest first."""
        found = dict(self._wide.get(view, ()))
        known = self._items.get(view)
        if known:
            by_item = self._by_item[view]
            for item in known & items:
                found.update(by_item[item])
        return [found[sequence] for sequence in sorted(found)]

    def _forget(self, sequence: int, view: int, items: BitMap) -> None:
        for item in items:
            roots = self._by_item[view][item]
            del roots[sequence]
            if not roots:
                del self._by_item[view][item]
                self._items[view].discard(item)
