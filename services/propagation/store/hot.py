"""A bounded cache in two generations: what was asked for since the younger one was begun outlives its end.

Cheaper than an exact order of use: a hit in the younger generation, by far the most frequent, moves nothing.
"""

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)


class Hot(Generic[_Key]):
    """Numbers by key; about `most_bytes` of them, by the sizes that `put` is told."""

    def __init__(self, most_bytes: int) -> None:
        self._half = most_bytes // 2
        self._young: dict[_Key, int] = {}
        self._old: dict[_Key, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get_many(self, keys: Sequence[_Key]) -> list[int | None]:
        """The numbers of the keys, None for those not kept."""
        found = list(map(self._young.get, keys))
        if self._old:
            old = self._old
            for at, number in enumerate(found):
                if number is None and (number := old.get(keys[at])) is not None:
                    found[at] = number
                    self.put(keys[at], number, self._average())
        return found

    def put(self, key: _Key, number: int, size_bytes: int) -> None:
        """Keeps a number."""
        if self._bytes >= self._half:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young[key] = number
        self._bytes += size_bytes

    def _average(self) -> int:
        return self._half // max(1, len(self._old))
