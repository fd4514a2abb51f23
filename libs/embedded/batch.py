"""A batch: changes to any families of one store that become durable together or not at all."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import rocksdict

if TYPE_CHECKING:
    from libs.embedded.family import Family


class Batch:
    """Puts and deletes, applied in the order in which they were added. Get one from ``store.batch()``; it is used up by
    a commit.

    Keep batches under about 2,000 changes where latency matters: applying one holds the interpreter for about a
    microsecond a change. ``frees`` says that it is for making room, or must not wait for it (a delete that leaves a
    tombstone, a revocation): its puts may use half of the disk's reserve.
    """

    __slots__ = ("_used", "frees", "puts", "raw", "size_bytes")

    def __init__(self) -> None:
        self.raw = rocksdict.WriteBatch(raw_mode=True)
        self.puts = 0
        self.size_bytes = 0
        self.frees = False
        self._used = False

    def __len__(self) -> int:
        return len(self.raw)

    def put(self, family: "Family", key: bytes, value: bytes) -> None:
        """Set ``key`` to ``value``."""
        self.raw.put(key, value, family.handle)
        self.puts += 1
        self.size_bytes += len(key) + len(value)

    def put_many(self, family: "Family", items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set every (key, value): cheaper than as many calls of :meth:`put`."""
        put, handle, size, count = self.raw.put, family.handle, 0, 0
        for key, value in items:
            put(key, value, handle)
            size += len(key) + len(value)
            count += 1
        self.puts += count
        self.size_bytes += size

    def delete(self, family: "Family", key: bytes) -> None:
        """Remove ``key``, whether it is there or not."""
        self.raw.delete(key, family.handle)
        self.size_bytes += len(key)

    def delete_many(self, family: "Family", keys: Iterable[bytes]) -> None:
        """Remove every key."""
        for key in keys:
            self.raw.delete(key, family.handle)
            self.size_bytes += len(key)

    def delete_range(self, family: "Family", start: bytes, end: bytes) -> None:
        """Remove every key in [start, end) by one record. An empty range is nothing; raises ValueError when ``start`` >
        ``end``.

        Many live range deletes in one family slow its reads until compaction removes them: for whole records, not for
        single keys.
        """
        # The driver would write a range that runs backwards to its log and stop the database when it reads it back.
        if start > end:
            raise ValueError("delete_range: start lies after end")
        if start < end:
            self.raw.delete_range(start, end, family.handle)
            self.size_bytes += len(start) + len(end)

    def take(self) -> rocksdict.WriteBatch:
        """The driver's batch, once. Raises ValueError when the batch was committed before."""
        if self._used:
            raise ValueError("this batch was committed before; make a new one by store.batch()")
        self._used = True
        return self.raw
