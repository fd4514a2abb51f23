"""The cells of an LWW record's own row as they are read: they carry no checksum, and are looked at all the same.

Each begins with the timestamp at which it was put; of a range tombstone its name is a digest of all but its times.
What can never have been written is had from another replica.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.storage.cassandra.checking import LWW, Replicas, Spot
from services.storage.cassandra.lww.buckets import NOTE, decode_note, encode_note
from services.storage.cassandra.lww.cells import HEAD_BYTES, decode_range, encode_range, range_id
from services.storage.cassandra.partition import HEAD, Place
from services.storage.store import rows

_FIRST_BITS: Final = 4
"""The first byte of a timestamp is below: microseconds to which no clock gets."""
_FLAGS: Final = 4
_FLAGS_AT: Final = 8


async def checked(replicas: Replicas, place: Place, found: Sequence[Any]) -> Sequence[Any]:
    """Rows (kind, key, value, more) of ``lww``. Raises ChecksumMismatch when a cell of the record's own row is lost:
    what it hides would come back."""
    for index, (kind, key, value, more) in enumerate(found):
        if kind == HEAD and not ((value is None or is_well(b"", value)) and (not more or _all_well(more))):
            row = await _mended(replicas, place, key, value, more)
            return [*found[:index], row, *found[index + 1 :]]
    return found


def is_well(name: bytes, cell: bytes, stamp: int | None = None) -> bool:
    """Whether the cell with a ``name`` in the map, or the row's value (no name), can have been written; ``stamp``: the
    timestamp that it has, where that was read."""
    if len(cell) <= _FLAGS_AT or cell[0] >= _FIRST_BITS:
        return False
    if stamp is not None and int.from_bytes(cell[:_FLAGS_AT], "big") != stamp:
        return False
    if not name:
        return len(cell) == HEAD_BYTES and cell[_FLAGS_AT] < _FLAGS
    try:
        if name == NOTE:
            return encode_note(decode_note(cell)) == cell
        found = decode_range(cell)
        return range_id(found.tomb) == name and encode_range(found) == cell
    except (struct.error, IndexError):
        return False


def _all_well(more: Mapping[bytes, bytes]) -> bool:
    return all(is_well(name, cell) for name, cell in more.items())


async def _mended(
    replicas: Replicas, place: Place, key: bytes, value: bytes | None, more: Mapping[bytes, bytes] | None
) -> Any:
    seen = await replicas.cells(Spot(LWW, place, HEAD, key, 0, (*place, HEAD, key)))
    cells = dict(more or {}) | ({} if value is None else {b"": value})
    for name, cell in cells.items():
        if is_well(name, cell):
            continue
        whole = seen[name].whole if name in seen else None
        if whole is None:
            raise rows.damaged(place[1], None)
        cells[name] = whole
    return HEAD, key, cells.pop(b"", None), cells or None
