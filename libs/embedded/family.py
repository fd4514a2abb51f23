"""Reading one family: points, bounded ranges in either direction, pages."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import rocksdict

from libs.embedded.failures import translate


class Page(NamedTuple):
    """A bounded piece of a range: its (key, value) pairs, and where to go on (None at the end of the range).

    ``resume`` is the ``start`` of the next page going forward, its ``end`` in reverse.
    """

    items: list[tuple[bytes, bytes]]
    resume: bytes | None


class FamilySize(NamedTuple):
    """What a family takes, in bytes: on disk with and without what is deleted or overwritten, in memory; about how many
    keys.
    """

    live_bytes: int
    disk_bytes: int
    memory_bytes: int
    keys: int


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key after all that begin with ``prefix``; None when there is none (empty, or all 0xff)."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def bounds(prefix: bytes | None, start: bytes | None, end: bytes | None) -> tuple[bytes, bytes | None]:
    """The range [start, end) asked for by a prefix, by bounds, or by both (their intersection); None is without end."""
    low, high = start or b"", end
    if prefix:
        low = max(low, prefix)
        after = prefix_end(prefix)
        if after is not None:
            high = after if high is None else min(high, after)
    return low, high


def cut(items: Iterator[tuple[bytes, bytes]], reverse: bool, max_items: int, max_bytes: int) -> Page:
    """Take from ``items`` until a bound is reached; one item always, however large. Raises ValueError for bounds below
    1.
    """
    if max_items < 1 or max_bytes < 1:
        raise ValueError("a page has at least one item and one byte")
    taken: list[tuple[bytes, bytes]] = []
    size = 0
    for item in items:
        size += len(item[0]) + len(item[1])
        if taken and (len(taken) >= max_items or size > max_bytes):
            last = taken[-1][0]
            return Page(taken, last if reverse else last + b"\0")
        taken.append(item)
    return Page(taken, None)


class Family:
    """One family of an open store. Reads return at once (microseconds from memory, a disk read at worst) and see every
    batch that was submitted before, durable already or not. Get one from ``store.family(name)``."""

    __slots__ = ("_db", "handle", "name")

    def __init__(self, name: str, db: rocksdict.Rdict, handle: rocksdict.ColumnFamily) -> None:
        self.name = name
        self.handle = handle
        self._db = db

    def get(self, key: bytes) -> bytes | None:
        """The value of ``key``, None when absent."""
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise translate(error, f"reading {self.name}") from error
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of ``keys`` in their order, None for each that is absent."""
        try:
            values: list[bytes | None] = self._db.get(list(keys)) or []
        except Exception as error:
            raise translate(error, f"reading {self.name}") from error
        return values

    def has(self, key: bytes) -> bool:
        """Whether ``key`` is there."""
        return self.get(key) is not None

    def scan(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) with ``prefix`` and in [start, end), ascending, or descending in ``reverse``.

        The iterator shows the family as it is at its first step, whatever is written later, and pins files while it
        lives: use it up without waiting in between, and use :meth:`page` for more.
        """
        low, high = bounds(prefix, start, end)
        return self._iterate(low, high, reverse, "items")

    def scan_keys(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[bytes]:
        """The keys alone, as :meth:`scan`."""
        low, high = bounds(prefix, start, end)
        return self._iterate(low, high, reverse, "keys")

    def page(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
        max_items: int = 1_000,
        max_bytes: int = 1 << 20,
    ) -> Page:
        """A piece of the range of :meth:`scan` with at most ``max_items`` and ``max_bytes`` (one item always), and
        where to go on.
        """
        return cut(
            self.scan(prefix, start=start, end=end, reverse=reverse),
            reverse,
            max_items,
            max_bytes,
        )

    def first(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
    ) -> tuple[bytes, bytes] | None:
        """The lowest (key, value) of the range, None when it is empty."""
        return next(self.scan(prefix, start=start, end=end), None)

    def last(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
    ) -> tuple[bytes, bytes] | None:
        """The highest (key, value) of the range, None when it is empty."""
        return next(self.scan(prefix, start=start, end=end, reverse=True), None)

    def size(self) -> FamilySize:
        """What the family takes; estimates of RocksDB, cheap."""
        try:
            value = self._db.property_int_value
            return FamilySize(
                live_bytes=(value("rocksdb.estimate-live-data-size") or 0)
                + (value("rocksdb.live-blob-file-size") or 0),
                disk_bytes=(value("rocksdb.total-sst-files-size") or 0) + (value("rocksdb.total-blob-file-size") or 0),
                memory_bytes=value("rocksdb.cur-size-all-mem-tables") or 0,
                keys=value("rocksdb.estimate-num-keys") or 0,
            )
        except Exception as error:
            raise translate(error, f"inspecting {self.name}") from error

    def iterator(self) -> rocksdict.RdictIter:
        """A driver's iterator, pinned to this moment: for snapshots."""
        return self._db.iter()

    def ingest(self, paths: list[str]) -> None:
        """Take in finished files, moving them: for bulk loading. Raises what the driver raises."""
        options = rocksdict.IngestExternalFileOptions()
        options.set_move_files(True)
        self._db.ingest_external_file(paths, options)

    def write_out(self) -> None:
        """Write the memory table to a file. Raises what the driver raises."""
        self._db.flush(True)

    def compact(self, start: bytes | None, end: bytes | None) -> None:
        """Rewrite [start, end) without what is gone. Blocks. Raises typed errors."""
        options = rocksdict.CompactOptions()
        options.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force_optimized())
        try:
            self._db.flush(True)
            self._db.compact_range(start, end, options)
        except Exception as error:
            raise translate(error, f"compacting {self.name}") from error

    def close(self) -> None:
        """Let the driver's handles go; every later read raises StoreUnavailable."""
        self._db.close()
        del self.handle

    def _iterate(self, low: bytes, high: bytes | None, reverse: bool, what: str) -> Iterator[Any]:
        if high is not None and low >= high:
            return
        options = rocksdict.ReadOptions()
        if high is not None:
            options.set_iterate_upper_bound(high)
        try:
            if not reverse:
                yield from getattr(self._db, what)(from_key=low, read_opt=options)
                return
            # The driver ignores a lower bound: a descent ends by comparing.
            for found in getattr(self._db, what)(backwards=True, read_opt=options):
                if (found if what == "keys" else found[0]) < low:
                    return
                yield found
        except Exception as error:
            raise translate(error, f"scanning {self.name}") from error
