"""A change of the feed as bytes.

version 16 · flags 1 · time 8 · item count 4 · items named 2 · annotations 2 · length 2 · record
(length 2 · key · flags 1 · size 8 · length 1 · media type)… · (length 2 · key · length 2 · text)…

The changes of a run of puts are one row with the same head (runs.py).
"""

import struct
from typing import Final

from services.storage.domain.feed import ChangeEvent, ItemChange

_EVENT = struct.Struct(">16sBQIHHH")
_ITEM = struct.Struct(">BQB")
_FLAT = struct.Struct(">HBQB")
_U16 = struct.Struct(">H")
_CREATED: Final = 1
_DELETED: Final = 2
_IN_DOUBT: Final = 4
_RUN: Final = 8

HEAD_SIZE: Final = _EVENT.size


def encode(event: ChangeEvent) -> bytes:
    """The row of a change."""
    flags = (_CREATED if event.created else 0) | (_DELETED if event.deleted else 0)
    flags |= _IN_DOUBT if event.in_doubt else 0
    named, notes = event.items, event.annotations
    head = _EVENT.pack(event.version, flags, event.time_us, event.item_count, len(named), len(notes), len(event.record))
    parts = [head, event.record]
    for item in named:
        kind = item.content_type.encode()[:255]
        parts += (_U16.pack(len(item.key)), item.key, _ITEM.pack(item.deleted, item.size, len(kind)), kind)
    for pair in notes:
        for text in pair:
            encoded = text.encode()
            parts += (_U16.pack(len(encoded)), encoded)
    return b"".join(parts)


def encode_put(
    record: bytes,
    version: bytes,
    created: bool,
    time_us: int,
    content_type: str,
    size: int,
    annotations: tuple[tuple[str, str], ...],
) -> bytes:
    """The row of a change that put the flat item of ``record``."""
    if annotations:
        item = ItemChange(b"", False, content_type, size)
        return encode(ChangeEvent(record, version, (item,), 1, created, False, time_us, annotations))
    return encode_plain(record, version, created, time_us, content_type, size)


def encode_plain(record: bytes, version: bytes, created: bool, time_us: int, content_type: str, size: int) -> bytes:
    """The same without annotations."""
    return b"".join((plain_start(version, created, time_us, len(record)), record, plain_end(content_type, size)))


def plain_start(version: bytes, created: bool, time_us: int, record_size: int) -> bytes:
    """What stands before the record in such a row."""
    return _EVENT.pack(version, created, time_us, 1, 1, 0, record_size)


def plain_end(content_type: str, size: int) -> bytes:
    """What stands behind the record in such a row."""
    kind = content_type.encode()
    return _FLAT.pack(0, False, size, len(kind)) + kind


def decode(row: bytes) -> ChangeEvent:
    """The change in a row."""
    version, flags, time_us, count, named, notes, length = _EVENT.unpack_from(row)
    at = _EVENT.size + length
    record = row[at - length : at]
    items = []
    for _ in range(named):
        key, at = _piece(row, at)
        deleted, size, length = _ITEM.unpack_from(row, at)
        at += _ITEM.size + length
        items.append(ItemChange(key, bool(deleted), row[at - length : at].decode(), size))
    pairs = []
    for _ in range(notes):
        key, at = _piece(row, at)
        text, at = _piece(row, at)
        pairs.append((key.decode(), text.decode()))
    created, deleted, in_doubt = bool(flags & _CREATED), bool(flags & _DELETED), bool(flags & _IN_DOUBT)
    return ChangeEvent(record, version, tuple(items), count, created, deleted, time_us, tuple(pairs), in_doubt)


def run_head(version: bytes, time_us: int, count: int, kind_size: int) -> bytes:
    """The head of a run of ``count`` changes, whose media type has ``kind_size`` bytes."""
    return _EVENT.pack(version, _RUN, time_us, count, 0, 0, kind_size)


def is_run(row: bytes) -> bool:
    """Whether the row holds a run of changes."""
    return bool(row[16] & _RUN)


def run_count(row: bytes) -> int:
    """How many changes the row holds."""
    return int(_EVENT.unpack_from(row)[3]) if is_run(row) else 1


def parse_run(row: bytes) -> tuple[bytes, int, int, int]:
    """Version, time, count and size of the media type of a run."""
    version, _, time_us, count, _, _, kind_size = _EVENT.unpack_from(row)
    return version, time_us, count, kind_size


def event_version(row: bytes) -> bytes:
    """The version alone."""
    return row[:16]


def event_time(row: bytes) -> int:
    """The time alone."""
    return int(_EVENT.unpack_from(row)[2])


def _piece(row: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _U16.unpack_from(row, at)
    at += 2
    return row[at : at + length], at + length
