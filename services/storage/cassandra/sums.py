"""A checksum of our own in each cell that holds an item, its tombstone, an earlier version, or a CAS record's own row.

It is a CRC-32C over the cell without it and over the place where the cell belongs: namespace, record, kind, key. So
what was damaged is noticed, and so is what is whole and lies in the wrong place. It stands where a cell without one has
the first byte of a time or the flags of a record, which are below 16:

    … · mark 1 · CRC-32C 4 · …

The mark is 0xC0, and one more each time that the cell is put over a damaged one: of two values of a cell with one
timestamp Cassandra takes the greater bytes. Cells that were written before there were checksums have no mark.
"""

import struct
from typing import Final

import google_crc32c

from services.storage.cassandra.partition import Place

MARK: Final = 0xC0
LAST_MARK: Final = 0xFF
_UNMARKED: Final = 0x10
_SIZE: Final = 5
_RECORD: Final = struct.Struct(">iH")
_KEY: Final = struct.Struct(">BHH")
_SUM: Final = struct.Struct(">BI")

HEAD_AT: Final = 0
"""In a CAS record's own row: before its flags."""
ROW_AT: Final = 16
"""In a row of an item, a tombstone or an earlier version: behind a version, before a time."""
PLAIN_AT: Final = 17
"""In the cell of a plain item: behind version and rank."""
ORDERED_AT: Final = 25
"""In the cell of an ordered item: behind stamp, rank and version."""

_extend: Final = google_crc32c.extend


class Damaged(Exception):
    """A cell is not what was written there."""


class Sums:
    """The checksums of one record's cells."""

    __slots__ = ("_seed",)

    def __init__(self, place: Place) -> None:
        number, record = place
        self._seed: int = google_crc32c.value(_RECORD.pack(number, len(record)) + record)

    def seal(self, kind: int, key: bytes, cell: bytes, at: int, *, version: bytes = b"", mark: int = MARK) -> bytes:
        """A cell with its checksum, which stands ``at`` so many bytes; ``version``: that of an ordered item."""
        begun = _extend(self._seed, _KEY.pack(kind, len(key), len(version)) + key + version)
        return cell[:at] + _SUM.pack(mark, _extend(begun, cell)) + cell[at:]

    def opened(self, kind: int, key: bytes, cell: bytes, at: int, *, version: bytes = b"") -> bytes:
        """What :meth:`seal` was given; a cell without a checksum as it is. Raises Damaged."""
        if len(cell) <= at:
            raise Damaged
        mark = cell[at]
        if mark < _UNMARKED:
            return cell
        if mark < MARK or len(cell) < at + _SIZE:
            raise Damaged
        found = cell[:at] + cell[at + _SIZE :]
        begun = _extend(self._seed, _KEY.pack(kind, len(key), len(version)) + key + version)
        if _SUM.unpack_from(cell, at)[1] != _extend(begun, found):
            raise Damaged
        return found


def over(sums: Sums, kind: int, key: bytes, cell: bytes, at: int, damaged: bytes, version: bytes = b"") -> bytes | None:
    """The cell that takes the place of a ``damaged`` one at the same timestamp; ``cell`` is without checksum. None when
    what is damaged lies before the mark, and no bytes of the cell come after it."""
    mark = damaged[at] + 1 if len(damaged) > at else MARK
    sealed = sums.seal(kind, key, cell, at, version=version, mark=min(max(mark, MARK), LAST_MARK))
    return sealed if sealed > damaged else None
