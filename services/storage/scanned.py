"""A page of a scan as the bytes of its ScanResponse, written field by field where nothing is out of the ordinary.

To build the message costs more than to read the records. ``scanned_test.py`` holds the two against each other.
"""

from functools import lru_cache
from typing import Final

from services.storage import answers
from services.storage.domain import limits
from services.storage.domain.model import Item
from services.storage.store.interface import ScanPage
from wellspring.storage.v1 import storage_pb2 as pb

_US: Final = 1_000_000
_SHORT: Final = 1 << 7
_MIDDLE: Final = 1 << 14
"""Numbers below take one byte, and two, on the wire."""


def answer(page: ScanPage, token: str, *, omit_values: bool) -> bytes:
    """The response with a page's records; ``token`` goes on after it."""
    parts: list[bytes] = []
    for record, items, partial in page.records:
        begun = len(parts)
        parts += (b"", b"\x0a%b%b" % (_number(len(record)), record))
        size = len(parts[-1])
        for item in items:
            head, value, tail = _item(item, omit_value=omit_values)
            whole = len(head) + len(value) + len(tail)
            head = b"\x12%b%b" % (_number(whole), head)
            size += len(head) + len(value) + len(tail)
            parts += (head, value, tail)
        if partial:
            parts.append(b"\x18\x01")
            size += 2
        parts[begun] = b"\x0a" + _number(size)
    resume = token.encode()
    if resume:
        parts.append(b"\x12%b%b" % (_number(len(resume)), resume))
    return b"".join(parts)


def _item(item: Item, *, omit_value: bool) -> tuple[bytes, bytes, bytes]:
    """An item, serialised: what stands before its value, the value, and what stands behind it."""
    key, value, version, write_us, expire_us, content_type, attributes, _, chunked = item
    if omit_value or chunked or attributes or expire_us or len(version) != limits.VERSION_SIZE:
        message = pb.Item()
        answers.fill_item(message, item, omit_value=omit_value)
        return message.SerializeToString(), b"", b""
    head = b"\x0a%b%b" % (_number(len(key)), key) if key else b""
    if value:
        head += b"\x12" + _number(len(value))
    tail = b"\x22\x20%b\x42\x10%b\x4a%b" % (version.hex().encode(), version, _time(write_us))
    if content_type:
        kind = content_type.encode()
        tail = b"\x1a%b%b%b" % (_number(len(kind)), kind, tail)
    return head, value, tail


@lru_cache(maxsize=1024)
def _time(time_us: int) -> bytes:
    """A Timestamp behind its length. Kept, for what was written together lies together."""
    seconds, nanos = time_us // _US, time_us % _US * 1000
    told = b"\x08" + _number(seconds) if seconds else b""
    if nanos:
        told += b"\x10" + _number(nanos)
    return _number(len(told)) + told


def _number(value: int) -> bytes:
    """A length or a number of the wire: seven bits a byte, the lowest first."""
    if value < _SHORT:
        return b"%c" % value
    if value < _MIDDLE:
        return b"%c%c" % (value & 0x7F | 0x80, value >> 7)
    return b"%c%b" % (value & 0x7F | 0x80, _number(value >> 7))
