"""Which namespaces read through the cache, and which writes are marked: more than those, while servers disagree.

Servers of one store learn of a changed setting one after the other. So writes of a namespace whose cache was switched
off are marked for a while longer, for those that still read from it; and one that was switched on is read through it
only when all have surely begun to mark.
"""

from collections.abc import Callable
from typing import Final

from services.storage.domain.namespace import Consistency, Namespace

CACHEABLE: Final = (Consistency.EVENTUAL, Consistency.LOCAL)
"""What a page may answer: stronger reads are the store's alone."""


class Switch:
    """``settle_s``: within which the other servers have learned of a change; 0 when there are none."""

    def __init__(self, monotonic_s: Callable[[], float], settle_s: float) -> None:
        self._monotonic_s = monotonic_s
        self._settle_s = settle_s
        self._seen: dict[int, tuple[bool, float]] = {}

    def reads(self, namespace: Namespace) -> bool:
        """Whether a read may be answered from the cache."""
        if not _on(namespace):
            self._note(namespace.number, on=False)
            return False
        return self._note(namespace.number, on=True) >= self._settle_s

    def marks(self, namespace: Namespace) -> bool:
        """Whether a write must be marked."""
        if _on(namespace):
            self._note(namespace.number, on=True)
            return True
        return namespace.number in self._seen and self._note(namespace.number, on=False) < self._settle_s

    def forget(self, number: int) -> None:
        """The namespace is gone."""
        self._seen.pop(number, None)

    def _note(self, number: int, *, on: bool) -> float:
        """For how long this process has seen the namespace so, in seconds."""
        now_s = self._monotonic_s()
        was_on, since_s = self._seen.get(number, (None, now_s))
        if was_on is not on:
            if was_on is None and not on:
                return self._settle_s  # never seen on: nothing to remember
            self._seen[number] = (on, now_s)
            since_s = now_s
        return now_s - since_s


def _on(namespace: Namespace) -> bool:
    return namespace.settings.cache.enabled
