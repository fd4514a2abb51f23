"""The cells of an LWW record as bytes, and which cell of an item counts.

Cassandra keeps of two values of a cell the one with the greater timestamp, of equal timestamps the greater bytes. So a
plain item has one cell, stamped by its version's time, that begins with its version; a tombstone is a value like others
and lies above an item of the same version. An ordered item (``older_than``) has a version that is no time: each of its
versions is a cell of its own in a map, and readers take the highest.

    plain     version 16 · rank 1 · the rest of the engine's row
    ordered   stamp 8 · rank 1 · the engine's row, under its version
    range     stamp 8 · flags 1 · version 16 · due 8 · length 2 · start · end, under its digest
    head      stamp 8 · flags 1 · version 16

A stamp is the timestamp of its own cell, for whoever removes it later: a cell is removed at its own time, and what has
come since stays.
"""

import hashlib
import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from services.storage.domain.decide import Known, RangeTomb, visible
from services.storage.store import rows

_STAMPED: Final = struct.Struct(">QB")
_RANGE: Final = struct.Struct(">QB16sQH")
_HEAD: Final = struct.Struct(">QB16s")
HEAD_BYTES: Final = _HEAD.size
_ITEM: Final = b"\0"
_DEAD: Final = b"\1"
_ORDERED: Final = 1
_ENDED: Final = 2
_ENDLESS: Final = 2
LATEST: Final = (1 << 63) - 1
"""The greatest timestamp that there is."""


class Ordered(NamedTuple):
    """One version of an ordered item, or its tombstone; ``stamp``: its cell's timestamp."""

    stamp: int
    row: bytes


class Cells(NamedTuple):
    """All cells of one item: the plain row and the ordered ones by version, in the engine's form."""

    plain: bytes | None
    ordered: Mapping[bytes, Ordered]

    def shown(self, key: bytes, tombs: list[RangeTomb], now_us: int) -> tuple[bytes | None, bytes | None]:
        """(the row that counts, the other one when it is a tombstone). An item under a range tombstone does not count.

        What is visible comes before what is not, the higher version before the lower. Of a plain and an ordered row
        of which the later one cannot be told by version, the one stamped later counts: a render that was there
        before something plain was written over it does not come back when that expires.
        """
        plain = self.plain if self.plain is not None and not _covered(key, self.plain, tombs) else None
        top: Ordered | None = None
        if self.ordered:
            top = self.ordered[max(self.ordered)]
            if _covered(key, top.row, tombs):
                top = None
        if plain is None or top is None:
            return (plain if top is None else top.row), None
        first, second = rows.known(plain), rows.known(top.row)
        if visible(first, now_us):
            over = not visible(second, now_us) or first.version > second.version
        else:
            over = top.stamp <= time_of(first.version)
        chosen, other, dead = (plain, top.row, second.dead) if over else (top.row, plain, first.dead)
        return chosen, other if dead else None


NO_CELLS: Final = Cells(None, {})


class Head(NamedTuple):
    """What is known of a record as a whole: the newest version and its kind; ``ended`` as in the engine's row.
    ``stamp`` is above those of all ordered cells, and not below the sequence of its newest change."""

    stamp: int
    version: bytes
    ordered: bool
    ended: bool


class Range(NamedTuple):
    """A range tombstone and its cell's timestamp."""

    stamp: int
    tomb: RangeTomb


def merged(first: Cells, second: Cells) -> Cells:
    """The cells of an item that lies in two places, as Cassandra would have them in one."""
    plain = first.plain
    if plain is None or (second.plain is not None and encode_plain(second.plain) > encode_plain(plain)):
        plain = second.plain
    ordered = dict(first.ordered)
    for version, one in second.ordered.items():
        other = ordered.get(version)
        if other is None or encode_ordered(*one) > encode_ordered(*other):
            ordered[version] = one
    return Cells(plain, ordered)


def time_of(version: bytes) -> int:
    """The timestamp of a plain cell with this version."""
    return min(int.from_bytes(version[:8], "big"), LATEST)


def encode_plain(row: bytes) -> bytes:
    """The cell of a plain row."""
    return row[:16] + (_DEAD if rows.is_dead(row, 0) else _ITEM) + row[16:]


def encode_ordered(stamp: int, row: bytes) -> bytes:
    """The cell of an ordered row."""
    return _STAMPED.pack(stamp, rows.is_dead(row, 0)) + row


def decode_cells(value: bytes | None, more: Mapping[bytes, bytes] | None) -> Cells:
    """The cells of one item."""
    plain = None if value is None else value[:16] + value[17:]
    return Cells(plain, {version: _ordered(cell) for version, cell in more.items()} if more else {})


def _ordered(cell: bytes) -> Ordered:
    return Ordered(int(_STAMPED.unpack_from(cell)[0]), cell[_STAMPED.size :])


def encode_head(head: Head) -> bytes:
    """The record's own cell."""
    flags = (_ORDERED if head.ordered else 0) | (_ENDED if head.ended else 0)
    return _HEAD.pack(head.stamp, flags, head.version)


def decode_head(value: bytes) -> Head:
    """What :func:`encode_head` made."""
    stamp, flags, version = _HEAD.unpack(value)
    return Head(stamp, version, bool(flags & _ORDERED), bool(flags & _ENDED))


def encode_range(found: Range) -> bytes:
    """The cell of a range tombstone."""
    stamp, tomb = found
    flags = (_ORDERED if tomb.ordered else 0) | (_ENDLESS if tomb.end is None else 0)
    head = _RANGE.pack(stamp, flags, tomb.version, min(tomb.due_us, LATEST), len(tomb.start))
    return head + tomb.start + (tomb.end or b"")


def decode_range(cell: bytes) -> Range:
    """What :func:`encode_range` made."""
    stamp, flags, version, due_us, length = _RANGE.unpack_from(cell)
    at = _RANGE.size + length
    end = None if flags & _ENDLESS else cell[at:]
    return Range(stamp, RangeTomb(version, bool(flags & _ORDERED), cell[_RANGE.size : at], end, due_us))


def range_id(tomb: RangeTomb) -> bytes:
    """The key of a range tombstone in the record's map: the same for the same delete."""
    kind = _ORDERED if tomb.ordered else 0
    head = _RANGE.pack(0, kind | (_ENDLESS if tomb.end is None else 0), tomb.version, 0, len(tomb.start))
    return hashlib.blake2b(head + tomb.start + (tomb.end or b""), digest_size=16).digest()


def one_key(key: bytes, row: bytes, grace_us: int) -> RangeTomb:
    """A tombstone as one for a range of one key."""
    known = rows.known(row)
    return RangeTomb(known.version, known.ordered, key, key + b"\0", rows.write_time(row) + grace_us)


def buries(tomb: RangeTomb, key: bytes, known: Known) -> bool:
    """Whether an item lies under a range tombstone. What a render deletes and what it puts have one version, and the
    puts stay; plain deletes of a mutation that puts are a microsecond earlier."""
    if tomb.ordered is not known.ordered or not tomb.covers(key):
        return False
    return tomb.version > known.version or (tomb.version == known.version and not known.ordered)


def _covered(key: bytes, row: bytes, tombs: list[RangeTomb]) -> bool:
    if not tombs:
        return False
    known = rows.known(row)
    return not known.dead and any(buries(tomb, key, known) for tomb in tombs)
