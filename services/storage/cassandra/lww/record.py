"""A record of an LWW namespace as far as it was read: its cells, and what the engine sees in their place.

The engine (``store/``) works on a row with counts for each record. Here no row can have counts: writers do not wait for
each other. So the row is made anew from the cells that were read. As long as not all items were, it says that there are
many more than are known; whatever the engine then asks to be sure makes the rest be read.
"""

from collections.abc import Hashable
from typing import Final

from services.storage.cassandra.lww.buckets import Note
from services.storage.cassandra.lww.cells import NO_CELLS, Cells, Head, Range, one_key
from services.storage.cassandra.partition import ITEMS, TOMBS, Partition, Place, Span
from services.storage.domain.decide import RangeTomb
from services.storage.store import rows
from services.storage.store.families import Families
from services.storage.store.record import INLINE_SIZE, StoredRecord

_MANY: Final = 1 << 24
"""Items and tombstones that a record may have beside those that were read."""
_ENDLESS_US: Final = (1 << 63) - 1


class LwwPartition(Partition):
    """What was read. ``cells`` by item key; ``known``: of which keys it is known what they have. After a change of
    these call :meth:`derive`: then ``head`` and ``spans`` are as the engine wants them. ``replicas``: the
    name of those that have it, once it was asked for. ``note``: where its items are, when it was spread."""

    __slots__ = (
        "cells",
        "grace_us",
        "head_cell",
        "head_known",
        "items",
        "known",
        "note",
        "place",
        "ranges",
        "replicas",
        "size",
    )

    def __init__(self, place: Place, grace_us: int) -> None:
        super().__init__()
        self.place = place
        self.grace_us = grace_us
        self.head_known = False
        self.head_cell: Head | None = None
        self.ranges: dict[bytes, Range] = {}
        self.cells: dict[bytes, Cells] = {}
        self.known = Span()
        self.size = 0  # of the cells, bytes
        self.items = 0  # that are known to be there
        self.replicas: Hashable = None
        self.note: Note | None = None

    def put(self, key: bytes, cells: Cells | None) -> None:
        """Notes the cells of an item; None: it has none."""
        if cells is None or cells == NO_CELLS:
            self.known.put(key, None)
            self.cells.pop(key, None)
        else:
            self.known.put(key, b"")
            self.cells[key] = cells
            self.size += len(cells.plain or b"") + sum(len(one.row) for one in cells.ordered.values())

    def set_head(self, head: Head | None, ranges: dict[bytes, Range], note: Note | None = None) -> None:
        """Notes the record's own cells; without them it has no items either."""
        self.head_known, self.head_cell, self.ranges, self.note = True, head, ranges, note
        if head is None:
            self.known.cover(b"", None)

    @property
    def whole(self) -> bool:
        """Whether all items are known."""
        return any(start == b"" and end is None for start, end in self.known.covered)

    @property
    def stamp(self) -> int:
        """The newest stamp of the record; 0 for a new one."""
        return self.head_cell.stamp if self.head_cell is not None else 0

    def tombs(self) -> list[RangeTomb]:
        """The range tombstones, newest first."""
        return sorted((one.tomb for one in self.ranges.values()), key=lambda tomb: tomb.version, reverse=True)

    def derive(self, now_us: int) -> None:
        """Makes ``head`` and ``spans`` anew."""
        if self.head_known and self.head_cell is None and not self.cells and not self.ranges:
            self._derive_none()
        else:
            self._derive(now_us)

    def _derive(self, now_us: int) -> None:
        tombs = self.tombs()
        items, dead = Span(), Span()
        items.covered = dead.covered = self.known.covered
        items.absent, dead.absent = set(self.known.absent), set(self.known.absent)
        record = parsed(self.place, None)
        record.range_tombs = tombs
        others: list[RangeTomb] = []
        for key in self.known.rows:
            row, other = self.cells[key].shown(key, tombs, now_us)
            if other is not None:
                others.append(one_key(key, other, self.grace_us))
            self._place(record, key, row, items, dead)
        self.spans[ITEMS], self.spans[TOMBS] = items, dead
        self.items = record.items_count
        self.loaded = self.head_known and self.known.known(b"")
        if self.loaded:
            record.range_tombs = [*tombs, *others]
            self.head = self._row(record)

    def _derive_none(self) -> None:
        """A record that is not there, as most that are written are: nothing has to be looked through."""
        items, dead = Span(), Span()
        items.covered = dead.covered = self.known.covered
        self.spans[ITEMS], self.spans[TOMBS] = items, dead
        self.items, self.loaded, self.head = 0, True, None

    def _place(self, record: StoredRecord, key: bytes, row: bytes | None, items: Span, dead: Span) -> None:
        """Puts the row of an item where the engine looks for it, and counts it."""
        known = None if row is None else rows.known(row)
        items.put(key, None)
        dead.put(key, None)
        if row is None or known is None:
            return
        if known.dead:
            if key == b"":
                record.flat = row
            else:
                dead.put(key, row)
                record.tombs_count += 1
            return
        if key == b"" and len(row) <= INLINE_SIZE:
            record.flat = row
        else:
            items.put(key, row)
        record.items_count += 1
        record.size += len(key) + rows.charged_size(row)
        if known.expire_us:
            record.last_expire_us = max(record.last_expire_us, known.expire_us)
        else:
            record.immortal += 1

    def _row(self, record: StoredRecord) -> bytes | None:
        head = self.head_cell
        if head is not None:
            record.version, record.ordered, record.ended = head.version, head.ordered, head.ended
        if not self.whole:
            record.items_count += _MANY
            record.tombs_count += _MANY
            record.last_expire_us = _ENDLESS_US
        return record.row()


class _NoKv:
    """The families of a record that is only put together."""

    def family(self, name: str) -> None:
        return None


_NONE: Final = Families(_NoKv())  # type: ignore[arg-type]


def parsed(place: Place, row: bytes | None) -> StoredRecord:
    """The record's row as the engine reads it, without its items."""
    return StoredRecord(*place, row, _NONE.items, _NONE.tombs)
