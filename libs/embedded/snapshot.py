"""A snapshot: several families as they were at one moment, however much is written meanwhile."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import rocksdict

from libs.embedded.failures import StoreUnavailable, translate
from libs.embedded.family import Family, Page, bounds, cut


class Snapshot:
    """Reads of the chosen families at the moment of creation. Use it as a context manager: it pins files while it
    lives.

    It stands on one pinned iterator a family (the driver's own snapshot object is not honoured by its iterators), so it
    serves one read at a time: a scan ends where the next read of the same family begins.
    """

    def __init__(self, pinned: dict[str, rocksdict.RdictIter]) -> None:
        self._pinned = pinned
        self._reads = dict.fromkeys(pinned, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the pinned files go. Harmless when called twice."""
        self._pinned.clear()

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value that ``key`` had, None when it was absent."""
        iterator = self._begin(family)
        try:
            iterator.seek(key)
            if not iterator.valid():
                iterator.status()
                return None
            return bytes(iterator.value()) if iterator.key() == key else None
        except Exception as error:
            raise translate(error, f"reading {family.name}") from error

    def get_many(self, family: Family, keys: Iterable[bytes]) -> list[bytes | None]:
        """The values that ``keys`` had, in their order."""
        return [self.get(family, key) for key in keys]

    def scan(
        self,
        family: Family,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        """As ``Family.scan``, at the moment of the snapshot. Raises RuntimeError when another read of the family
        interrupts it.
        """
        low, high = bounds(prefix, start, end)
        iterator = self._begin(family)
        return self._walk(family, iterator, self._reads[family.name], low, high, reverse)

    def page(
        self,
        family: Family,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
        max_items: int = 1_000,
        max_bytes: int = 1 << 20,
    ) -> Page:
        """As ``Family.page``, at the moment of the snapshot."""
        return cut(
            self.scan(family, prefix, start=start, end=end, reverse=reverse),
            reverse,
            max_items,
            max_bytes,
        )

    def _begin(self, family: Family) -> rocksdict.RdictIter:
        iterator = self._pinned.get(family.name)
        if iterator is None:
            raise StoreUnavailable(f"the snapshot is closed or was made without the family {family.name}")
        self._reads[family.name] += 1
        return iterator

    def _walk(
        self,
        family: Family,
        iterator: rocksdict.RdictIter,
        read: int,
        low: bytes,
        high: bytes | None,
        reverse: bool,
    ) -> Iterator[tuple[bytes, bytes]]:
        try:
            self._seek(iterator, low, high, reverse)
            while iterator.valid():
                key: bytes = iterator.key()
                if (high is not None and key >= high) if not reverse else key < low:
                    return
                yield key, iterator.value()
                if self._reads[family.name] != read or family.name not in self._pinned:
                    raise RuntimeError(
                        f"the scan of {family.name} was interrupted by another read of the same snapshot"
                    )
                iterator.prev() if reverse else iterator.next()
            iterator.status()
        except RuntimeError:
            raise
        except Exception as error:
            raise translate(error, f"scanning {family.name}") from error

    @staticmethod
    def _seek(iterator: rocksdict.RdictIter, low: bytes, high: bytes | None, reverse: bool) -> None:
        if not reverse:
            iterator.seek(low)
        elif high is None:
            iterator.seek_to_last()
        else:
            iterator.seek_for_prev(high)
            if iterator.valid() and iterator.key() == high:
                iterator.prev()
