"""One family of a view, as the engine reads it: of most, a step never reads anything."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from libs.embedded.family import bounds

if TYPE_CHECKING:
    from services.storage.cassandra.view import View


class Op(NamedTuple):
    """One row written: to a family, at its key there; None deletes it."""

    family: str
    key: bytes
    value: bytes | None


class Family:
    """One family of a view. What a step never reads of a family is empty."""

    def __init__(self, view: "View", name: str) -> None:
        self.view = view
        self.name = name

    def get(self, key: bytes) -> bytes | None:
        return None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def scan(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        low, high = bounds(prefix, start, end)
        for key in self.keys(low, high, reverse):
            value = self.get(key)
            if value is not None:
                yield key, value

    def scan_keys(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[bytes]:
        low, high = bounds(prefix, start, end)
        return self.keys(low, high, reverse)

    def first(
        self, prefix: bytes | None = None, *, start: bytes | None = None, end: bytes | None = None
    ) -> tuple[bytes, bytes] | None:
        return next(self.scan(prefix, start=start, end=end), None)

    def last(
        self, prefix: bytes | None = None, *, start: bytes | None = None, end: bytes | None = None
    ) -> tuple[bytes, bytes] | None:
        return next(self.scan(prefix, start=start, end=end, reverse=True), None)

    def keys(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[bytes]:
        """The keys in [low, high)."""
        return iter(())

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Shows a write of this step to what the step reads later."""
