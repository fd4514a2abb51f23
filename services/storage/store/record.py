"""A record's row, and the record as decisions see it.

The row holds counts and the newest version; the flat item (that with the empty key) lies in it too when it is small, so
that a flat record is one row: read by one get, written by one put. Range tombstones are few and lie here as well. The
flags: the version is ordered, a flat row is there, range tombstones are there, the feed has told the record's end.

    flags 1 · version 16 · items 4 · immortal 4 · last_expire 8 · tombs 4 · size 8
    [count 2 · (flags 1 · version 16 · due 8 · length 2 · start · length 2 · end)…] · [flat row]
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from services.storage.domain import limits
from services.storage.domain.decide import Known, RangeTomb
from services.storage.domain.errors import DeleteTooLarge
from services.storage.domain.model import NO_VERSION, Selection
from services.storage.store import layout, rows
from services.storage.store.kv import Family

ROW: Final = struct.Struct(">B16sIIQIQ")
_TOMB = struct.Struct(">B16sQH")
_U16 = struct.Struct(">H")
ORDERED: Final = 1
_FLAT: Final = 2
_RANGES: Final = 4
_ENDED: Final = 8
_SMALL: Final = 512
FLAT_ONLY: Final = _FLAT
"""The flags of a record whose row ends with its flat item and has no range tombstones."""
_ENDLESS: Final = 0xFFFF

INLINE_SIZE: Final = 16 * 1024
"""A flat item's row up to this size lies in the record's row."""


def flat_only(row: bytes) -> bytes | None:
    """The flat item's row of a record that has nothing else; None for any other."""
    flags, _, items, _, _, _, _ = ROW.unpack_from(row)
    if items != 1 or flags & ~ORDERED != _FLAT or rows.is_dead(row, ROW.size):
        return None
    return row[ROW.size :]


def version_of(row: bytes) -> bytes:
    """The version in a record's row."""
    return row[1:17]


class StoredRecord:
    """One record as loaded; also the ``RecordView`` of decisions.

    ``items`` counts what is there physically (expired items that were not swept yet too), ``immortal`` those without
    expiry, ``last_expire_us`` is no earlier than the last expiry of the others, ``tombs`` counts rows in ``tombs``;
    ``size`` is what the items are charged. ``loaded`` keeps the rows that a decision looked at, by key; without
    ``keep_rows`` only the headers of large ones that a range went over. ``ended``: of a record whose items have all
    expired, that the feed has told its end, or never its beginning.
    """

    __slots__ = (
        "ended",
        "exists",
        "flat",
        "immortal",
        "items_count",
        "keep_rows",
        "key",
        "last_expire_us",
        "loaded",
        "number",
        "ordered",
        "prefix",
        "range_tombs",
        "size",
        "tombs_count",
        "version",
        "_items",
        "_sizes",
        "_tombs",
    )

    def __init__(self, number: int, key: bytes, row: bytes | None, items: Family, tombs: Family) -> None:
        """``row`` is that of the family ``records``, None when there is none."""
        self.number = number
        self.key = key
        self._items = items
        self._tombs = tombs
        self.prefix = layout.prefix(number) + layout.escaped(key)
        self.loaded: dict[bytes, bytes | None] = {}
        self.keep_rows = True
        self._sizes: dict[bytes, int] = {}
        self.range_tombs: list[RangeTomb] = []
        self.flat: bytes | None = None
        self.exists = row is not None
        if row is None:
            self.version, self.ordered, self.ended = NO_VERSION, False, False
            self.items_count = self.immortal = self.last_expire_us = self.tombs_count = self.size = 0
            return
        flags, self.version, self.items_count, self.immortal, self.last_expire_us, self.tombs_count, self.size = (
            ROW.unpack_from(row)
        )
        self.ordered = bool(flags & ORDERED)
        self.ended = bool(flags & _ENDED)
        at = ROW.size
        if flags & _RANGES:
            at = self._load_ranges(row, at)
        if flags & _FLAT:
            self.flat = row[at:]

    def row(self) -> bytes | None:
        """The row to be written; None when nothing is left to be remembered."""
        if not (self.items_count or self.tombs_count or self.range_tombs or self.flat is not None):
            return None
        flags = (ORDERED if self.ordered else 0) | (_FLAT if self.flat is not None else 0)
        flags |= (_RANGES if self.range_tombs else 0) | (_ENDED if self.ended else 0)
        head = ROW.pack(
            flags, self.version, self.items_count, self.immortal, self.last_expire_us, self.tombs_count, self.size
        )
        if self.range_tombs:
            head += self._dump_ranges()
        return head + self.flat if self.flat is not None else head

    # What decisions ask

    def alive(self, now_us: int, without: Iterable[bytes] = ()) -> bool:
        """Whether it has an item that has not expired, those with the keys ``without`` aside (they are counted out)."""
        if self.immortal:
            return True
        if not self.items_count or self.last_expire_us <= now_us:
            return False
        gone = frozenset(without)
        return any(rows.known(row).expire_us > now_us for key, row in self.rows(Selection()) if key not in gone)

    def item(self, key: bytes) -> Known | None:
        """The item or tombstone at ``key``."""
        row = self.item_row(key)
        if row is not None:
            return rows.known(row)
        if self.tombs_count:
            row = self._tombs.get(self.prefix + key)
        return None if row is None else rows.known(row)

    def items(self, selection: Selection) -> Iterator[tuple[bytes, Known]]:
        """The items selected, without tombstones; their rows are kept in ``loaded``."""
        if selection.keys is not None:
            for key in selection.keys:
                row = self.item_row(key)
                if row is not None and not (found := rows.known(row)).dead:
                    yield key, found
            return
        for count, (key, row) in enumerate(self.rows(selection)):
            if count >= limits.MAX_DELETED:
                raise DeleteTooLarge(
                    f"the delete selects more than {limits.MAX_DELETED} items; delete smaller ranges one by one"
                )
            if self.keep_rows or len(row) <= _SMALL or rows.is_chunked(row):
                self.loaded[key] = row
            else:
                self.loaded[key], self._sizes[key] = row[: rows.HEADER_SIZE], len(row)
            yield key, rows.known(row)

    def charged(self, key: bytes, row: bytes) -> int:
        """What an item counts for, its row as ``item_row`` gave it."""
        return len(key) + (self._sizes.pop(key, 0) or rows.charged_size(row))

    # Rows

    @property
    def outside(self) -> int:
        """How many items lie outside of the record's row."""
        inside = self.flat is not None and not rows.known(self.flat).dead
        return self.items_count - 1 if inside else self.items_count

    def item_row(self, key: bytes) -> bytes | None:
        """The row of the item at ``key``; the flat one may be a tombstone."""
        if key == b"" and self.flat is not None:
            return self.flat
        if not self.items_count:
            return None
        if key in self.loaded:
            return self.loaded[key]
        row = self.loaded[key] = self._items.get(self.prefix + key)
        return row

    def preload(self, keys: list[bytes]) -> None:
        """Loads the rows of ``keys`` by one read, or by none where nothing can be."""
        if self.outside:
            prefix = self.prefix
            self.loaded.update(zip(keys, self._items.get_many([prefix + key for key in keys]), strict=True))
        else:
            self.loaded.update(dict.fromkeys(keys))

    def rows(self, selection: Selection, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """(key, row) of the items in the selection's range, in its direction, behind the key ``after``."""
        start, end = selection.start, selection.end
        if after is not None:
            start, end = (start, after) if selection.reverse else (max(start, after + b"\0"), end)
        flat = self.flat
        inside = flat is not None and start == b"" and end != b"" and not rows.known(flat).dead
        if flat is not None and inside and not selection.reverse:
            yield b"", flat
        if self.outside:
            low, cut = self.prefix + start, len(self.prefix)
            high = None if end is None else self.prefix + end
            for key, row in self._items.scan(self.prefix, start=low, end=high, reverse=selection.reverse):
                yield key[cut:], row
        if flat is not None and inside and selection.reverse:
            yield b"", flat

    # Range tombstones

    def _load_ranges(self, row: bytes, at: int) -> int:
        (count,) = _U16.unpack_from(row, at)
        at += 2
        for _ in range(count):
            flags, version, due_us, length = _TOMB.unpack_from(row, at)
            at += _TOMB.size + length
            start = row[at - length : at]
            (length,) = _U16.unpack_from(row, at)
            at += 2
            end = None
            if length != _ENDLESS:
                end = row[at : at + length]
                at += length
            self.range_tombs.append(RangeTomb(version, bool(flags), start, end, due_us))
        return at

    def _dump_ranges(self) -> bytes:
        parts = [_U16.pack(len(self.range_tombs))]
        for tomb in self.range_tombs:
            parts.append(_TOMB.pack(tomb.ordered, tomb.version, tomb.due_us, len(tomb.start)) + tomb.start)
            parts.append(_U16.pack(_ENDLESS) if tomb.end is None else _U16.pack(len(tomb.end)) + tomb.end)
        return b"".join(parts)
