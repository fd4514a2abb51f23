"""A uniform sample of a stream whose length is not known (Vitter's algorithm R, ACM TOMS 11(1), 1985)."""

from random import Random
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Reservoir(Generic[_Item]):
    """Of all that was offered since the last `take`, each with the same chance, at most `size`."""

    def __init__(self, size: int, rng: Random) -> None:
        self._size = size
        self._rng = rng
        self._kept: list[_Item] = []
        self._offered = 0

    def offer(self, item: _Item) -> None:
        """One more of the stream."""
        self._offered += 1
        if len(self._kept) < self._size:
            self._kept.append(item)
            return
        at = self._rng.randrange(self._offered)
        if at < self._size:
            self._kept[at] = item

    def __len__(self) -> int:
        return len(self._kept)

    def choose(self) -> _Item | None:
        """One of the kept, at random; None when there is none."""
        return self._kept[self._rng.randrange(len(self._kept))] if self._kept else None

    def take(self) -> list[_Item]:
        """The sample; the next one begins anew."""
        kept, self._kept, self._offered = self._kept, [], 0
        return kept
