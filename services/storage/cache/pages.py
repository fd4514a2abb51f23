"""The page of a whole record as sealed bytes: what was damaged, forged or belongs to another record is not opened.

seal 16 · format 1 · flags 1 · size 8 · version length 1 · items 4 · version, then of each item: version 16 · lengths of
key 2, value 4, media type 2 and attributes 4 · write time 8 · expiry 8 · size 8 · flags 1 · those bytes
"""

import hashlib
import struct
from typing import Final

from services.storage.cache.entries import Place
from services.storage.domain.model import Item
from services.storage.store.interface import Page

_FORMAT: Final = 1
_SEAL: Final = 16
_HEAD: Final = struct.Struct(">BBQBI")
_ITEM: Final = struct.Struct(">16sHIHIQQQB")
_U16: Final = struct.Struct(">H")
_WHOLE: Final = 1
_FOUND: Final = 2
_CHUNKED: Final = 1
_PURPOSE: Final = b"storage page"

TOO_BIG: Final = Page([], b"", True, b"", 0)
"""In place of the page of a record that is too big to be kept: it has more to go on to."""


def close(page: Page, place: Place, key: bytes) -> bytes:
    """A page of a whole record, or ``TOO_BIG``, as bytes sealed with ``key`` (up to 64 bytes)."""
    flags = (_WHOLE if page.resume is None else 0) | (_FOUND if page.found else 0)
    head = _HEAD.pack(_FORMAT, flags, page.size, len(page.version), len(page.items))
    parts = [head, page.version]
    for item in page.items:
        kind = item.content_type.encode()
        notes = b"".join(_text(text) for pair in item.attributes for text in pair)
        parts.append(
            _ITEM.pack(
                item.version,
                len(item.key),
                len(item.value),
                len(kind),
                len(notes),
                item.write_us,
                item.expire_us,
                item.size,
                _CHUNKED if item.chunked else 0,
            )
        )
        parts += (item.key, item.value, kind, notes)
    body = b"".join(parts)
    return _seal(body, place, key) + body


def open_page(sealed: bytes, place: Place, key: bytes) -> Page | None:
    """What :func:`close` sealed; None when the bytes are not just what it made for this record with this key."""
    body = sealed[_SEAL:]
    if sealed[:_SEAL] != _seal(body, place, key) or body[0] != _FORMAT:
        return None
    _, flags, size, length, count = _HEAD.unpack_from(body)
    if not flags & _WHOLE:
        return TOO_BIG
    at = _HEAD.size + length
    version = body[_HEAD.size : at]
    items = []
    for _ in range(count):
        item, at = _item(body, at)
        items.append(item)
    return Page(items, None, bool(flags & _FOUND), version, size)


def _item(body: bytes, at: int) -> tuple[Item, int]:
    """The item at ``at``, and where the next one begins."""
    version, key_size, value_size, kind_size, notes_size, write_us, expire_us, size, flags = _ITEM.unpack_from(body, at)
    key_at = at + _ITEM.size
    value_at = key_at + key_size
    kind_at = value_at + value_size
    notes_at = kind_at + kind_size
    end = notes_at + notes_size
    key, value = body[key_at:value_at], body[value_at:kind_at]
    kind, notes = body[kind_at:notes_at].decode(), _attributes(body[notes_at:end])
    return Item(key, value, version, write_us, expire_us, kind, notes, size, bool(flags & _CHUNKED)), end


def _attributes(notes: bytes) -> tuple[tuple[str, str], ...]:
    texts, at = [], 0
    while at < len(notes):
        (length,) = _U16.unpack_from(notes, at)
        at += 2 + length
        texts.append(notes[at - length : at].decode())
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _U16.pack(len(encoded)) + encoded


def _seal(body: bytes, place: Place, key: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=_SEAL, key=key, person=_PURPOSE)
    digest.update(b"%d.%d." % (place.number, len(place.record)))
    digest.update(place.record)
    digest.update(body)
    return digest.digest()
