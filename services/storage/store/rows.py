"""An item as bytes: a fixed header, then its media type and attributes if it has any, then its value.

    version 16 · write_us 8 · expire_us 8 · flags 1 · [length 2 · media type · length 2 · attributes] · value

The attributes are pairs of texts, each with its length in 2 bytes. The value of a chunked item is its manifest.
A tombstone is a header alone. An item whose bytes are lost is a header and the key of its record.
"""

import struct
from functools import lru_cache
from typing import Final

from services.storage.domain.decide import Known
from services.storage.domain.errors import ChecksumMismatch
from services.storage.domain.model import Item
from services.storage.store import manifest

_HEADER = struct.Struct(">16sQQB")
_U16 = struct.Struct(">H")

HEADER_SIZE: Final = _HEADER.size
_ORDERED: Final = 1
_META: Final = 2
_CHUNKED: Final = 4
_DEAD: Final = 8
_DAMAGED: Final = 16


def encode(
    version: bytes,
    write_us: int,
    expire_us: int,
    *,
    ordered: bool,
    content_type: str,
    attributes: tuple[tuple[str, str], ...],
    value: bytes,
    chunked: bool,
) -> bytes:
    """The row of an item."""
    flags = (_ORDERED if ordered else 0) | (_CHUNKED if chunked else 0)
    if not (content_type or attributes):
        return _HEADER.pack(version, write_us, expire_us, flags) + value
    return b"".join((_HEADER.pack(version, write_us, expire_us, flags | _META), meta(content_type, attributes), value))


def header(version: bytes, write_us: int, ordered: int, has_meta: int) -> bytes:
    """What stands before the media type and the value of an item in one piece and without expiry. ``ordered`` and
    ``has_meta`` (a media type or attributes follow) are 0 or 1."""
    return _HEADER.pack(version, write_us, 0, ordered | has_meta << 1)


@lru_cache(maxsize=256)
def meta(content_type: str, attributes: tuple[tuple[str, str], ...]) -> bytes:
    """The media type and the attributes. Kept, because most items of a namespace have the same."""
    kind = content_type.encode()
    notes = b"".join(_text(text) for pair in attributes for text in pair)
    return b"".join((_U16.pack(len(kind)), kind, _U16.pack(len(notes)), notes))


def encode_tomb(version: bytes, write_us: int, *, ordered: bool) -> bytes:
    """The row of a tombstone left at ``write_us``."""
    return _HEADER.pack(version, write_us, 0, (_ORDERED if ordered else 0) | _DEAD)


def encode_damaged(version: bytes, write_us: int, record: bytes) -> bytes:
    """The row of an item of which no more is known: it may be replaced and deleted, and whoever reads it is told."""
    return _HEADER.pack(version, write_us, 0, _DAMAGED) + record


def damaged(record: bytes, key: bytes | None) -> ChecksumMismatch:
    """The error of an item that was read and is damaged; of the record itself when ``key`` is None."""
    what = "record" if key is None else "item of a record"
    named = {"record": record.hex()} | ({} if key is None else {"item": key.hex()})
    return ChecksumMismatch(
        f"a stored {what} does not match its checksum, and no replica that answers has it whole; metadata.record"
        f"{'' if key is None else ' and metadata.item'} (hexadecimal) say which: write it anew, or restore a backup",
        metadata=named,
    )


def known(row: bytes) -> Known:
    """What decisions need of a row."""
    version, _, expire_us, flags = _HEADER.unpack_from(row)
    return Known(version, expire_us, bool(flags & _ORDERED), bool(flags & _DEAD))


def write_time(row: bytes) -> int:
    """When the row was written, microseconds."""
    return int(_HEADER.unpack_from(row)[1])


def is_whole(row: bytes, at: int = 0) -> bool:
    """Whether the row at ``at`` is an item in one piece and without expiry."""
    _, _, expire_us, flags = _HEADER.unpack_from(row, at)
    return not expire_us and not flags & (_CHUNKED | _DEAD | _DAMAGED)


def is_dead(row: bytes, at: int) -> bool:
    """Whether the row at ``at`` is a tombstone."""
    return bool(row[at + HEADER_SIZE - 1] & _DEAD)


def version_at(row: bytes, at: int) -> bytes:
    """The version of the row at ``at``."""
    return row[at : at + 16]


def is_chunked(row: bytes) -> bool:
    """Whether the row's value is a manifest."""
    return bool(row[HEADER_SIZE - 1] & _CHUNKED)


def decode(key: bytes, row: bytes, *, omit_value: bool = False) -> Item:
    """The item in a row that is no tombstone. Raises ChecksumMismatch of one whose bytes are lost."""
    version, write_us, expire_us, flags = _HEADER.unpack_from(row)
    if not flags:
        size = len(row) - HEADER_SIZE
        value = b"" if omit_value else row[HEADER_SIZE:]
        return Item(key, value, version, write_us, expire_us, "", (), size, False)
    if flags & _DAMAGED:
        raise damaged(row[HEADER_SIZE:], key)
    content_type, attributes, at = _notes(row) if flags & _META else ("", (), HEADER_SIZE)
    if flags & _CHUNKED:
        size = manifest.decode(row[at:]).size
        return Item(key, b"", version, write_us, expire_us, content_type, attributes, size, True)
    value = b"" if omit_value else row[at:]
    return Item(key, value, version, write_us, expire_us, content_type, attributes, len(row) - at, False)


def raw_value(row: bytes) -> bytes:
    """The value in a row: the manifest of a chunked one."""
    return row[_notes(row)[2] :] if row[HEADER_SIZE - 1] & _META else row[HEADER_SIZE:]


def manifest_of(row: bytes) -> manifest.Manifest:
    """The manifest in the row of a chunked item."""
    return manifest.decode(raw_value(row))


def charged_size(row: bytes) -> int:
    """Bytes that a row counts for: of a chunked one, the size of its value too."""
    return len(row) + (manifest_of(row).size if is_chunked(row) else 0)


def _notes(row: bytes) -> tuple[str, tuple[tuple[str, str], ...], int]:
    (length,) = _U16.unpack_from(row, HEADER_SIZE)
    at = HEADER_SIZE + 2
    content_type = row[at : at + length].decode()
    at += length
    (length,) = _U16.unpack_from(row, at)
    at += 2
    end, texts = at + length, []
    while at < end:
        (length,) = _U16.unpack_from(row, at)
        at += 2 + length
        texts.append(row[at - length : at].decode())
    return content_type, tuple(zip(texts[::2], texts[1::2], strict=True)), end


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _U16.pack(len(encoded)) + encoded
