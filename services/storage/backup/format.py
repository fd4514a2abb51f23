"""The bytes of a snapshot, an export and an import: frames with checksums, and what is in them (README.md).

Written by :class:`Encoder`, cut into checked frames by :class:`Frames`; what frames mean together is ``contents.py``.
"""

import enum
import hashlib
import json
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import google_crc32c

from services.storage.domain.copying import Copied
from services.storage.domain.errors import ChecksumMismatch, ExportInvalid
from services.storage.domain.model import Put
from services.storage.domain.namespace import Namespace
from services.storage.store import catalog

MAGIC: Final = b"wellspring export 1\n"
MAX_FRAME: Final = 8 * 1024 * 1024
"""Bytes of a frame's payload: an item's value has at most 4 MiB by any configuration."""

_PREFIX: Final = struct.Struct(">IB")
_CRC: Final = struct.Struct(">I")
_HEAD_SIZE: Final = _PREFIX.size + _CRC.size
_RECORD: Final = struct.Struct(">16s")
_ITEM: Final = struct.Struct(">16sQQBHHHQI")
_LENGTH: Final = struct.Struct(">H")
_END: Final = struct.Struct(">QQQ32s")
END_SIZE: Final = _HEAD_SIZE + _END.size
"""Bytes of the last frame, which carries the checksum of all bytes before it."""
_ORDERED: Final = 1
_CHUNKED: Final = 2


class Kind(enum.Enum):
    """What a frame holds."""

    HEADER = 1
    RECORD = 2
    ITEM = 3
    CHUNK = 4
    END = 5


class Header(NamedTuple):
    """What is said first: the namespace as it was, when (microseconds since 1970), and which operation took it."""

    namespace: Namespace
    taken_us: int
    operation: str


class End(NamedTuple):
    """What is said last. ``size_bytes`` counts item keys and values; ``sha256`` is the checksum of the stream."""

    records: int
    items: int
    size_bytes: int
    sha256: bytes


class Frame(NamedTuple):
    """A frame whose checksum holds, and where in the stream it begins."""

    kind: Kind
    payload: bytes
    at: int


class Encoder:
    """Makes the bytes of one stream; each method answers those to be written next."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._record: bytes | None = None
        self.records = 0
        self.items = 0
        self.size_bytes = 0

    def header(self, header: Header) -> bytes:
        """First."""
        words = {
            "taken_us": header.taken_us,
            "operation": header.operation,
            "namespace": json.loads(catalog.encode(header.namespace)),
        }
        return self._said(MAGIC + frame(Kind.HEADER, json.dumps(words, sort_keys=True).encode()))

    def item(self, item: Copied) -> bytes:
        """An item, and before the first of a record the record."""
        said = b""
        if item.record != self._record:
            self._record = item.record
            self.records += 1
            said = frame(Kind.RECORD, _RECORD.pack(item.record_version) + item.record)
        self.items += 1
        self.size_bytes += len(item.put.key) + item.size
        return self._said(said + frame(Kind.ITEM, encode_item(item)))

    def chunk(self, piece: bytes) -> bytes:
        """A piece of the chunked item before it."""
        return self._said(frame(Kind.CHUNK, piece))

    def end(self) -> tuple[bytes, End]:
        """Last."""
        end = End(self.records, self.items, self.size_bytes, self._sha.digest())
        return frame(Kind.END, _END.pack(*end)), end

    def _said(self, data: bytes) -> bytes:
        self._sha.update(data)
        return data


class Frames:
    """Cuts a stream that comes in pieces into frames, and checks them; keeps no more than one frame."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._buffer = bytearray()
        self._at = 0
        self.end: End | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that ``data`` completes; use the iterator up. Raises ExportInvalid when it is no export of this
        format, ChecksumMismatch, with the place, when it is a damaged one."""
        buffer = self._buffer
        buffer += data
        if not self._at:
            if not MAGIC.startswith(buffer[: len(MAGIC)]):
                raise ExportInvalid("this is no export that this release reads: it begins with something else")
            if len(buffer) < len(MAGIC):
                return
            self._drop(len(MAGIC))
        while len(buffer) >= _HEAD_SIZE:
            length, kind = _PREFIX.unpack_from(buffer)
            if length > MAX_FRAME or not Kind.HEADER.value <= kind <= Kind.END.value:
                raise self._damaged("no frame begins here")
            if self.end is not None:
                raise self._damaged("something comes behind the end")
            if len(buffer) < _HEAD_SIZE + length:
                return
            payload = bytes(buffer[_HEAD_SIZE : _HEAD_SIZE + length])
            (crc,) = _CRC.unpack_from(buffer, _PREFIX.size)
            if _checksum(bytes(buffer[: _PREFIX.size]), payload) != crc:
                raise self._damaged("the frame that begins here does not match its checksum")
            found = Frame(Kind(kind), payload, self._at)
            if found.kind is Kind.END:
                self.end = decode_end(payload, self._at)
                if self.end.sha256 != self._sha.digest():
                    raise ChecksumMismatch("the export does not match the checksum in its end: something is missing")
            self._drop(_HEAD_SIZE + length)
            yield found

    def finish(self) -> End:
        """The end, which must have come. Raises ChecksumMismatch."""
        if self.end is None or self._buffer:
            raise self._damaged("the export is cut off here")
        return self.end

    def _drop(self, size: int) -> None:
        self._sha.update(self._buffer[:size])
        del self._buffer[:size]
        self._at += size

    def _damaged(self, what: str) -> ChecksumMismatch:
        return ChecksumMismatch(f"byte {self._at} of the export: {what}", metadata={"offset": str(self._at)})


def frame(kind: Kind, payload: bytes) -> bytes:
    """A frame."""
    prefix = _PREFIX.pack(len(payload), kind.value)
    return b"".join((prefix, _CRC.pack(_checksum(prefix, payload)), payload))


def encode_item(item: Copied) -> bytes:
    """The payload of an ITEM frame."""
    put = item.put
    flags = (_ORDERED if item.ordered else 0) | (_CHUNKED if put.chunked else 0)
    kind = put.content_type.encode()
    head = _ITEM.pack(
        item.version,
        item.write_us,
        put.expire_us,
        flags,
        len(put.key),
        len(kind),
        len(put.attributes),
        item.size,
        item.crc32c,
    )
    notes = b"".join(_text(text) for pair in put.attributes for text in pair)
    return b"".join((head, put.key, kind, notes, b"" if put.chunked else put.value))


def decode_item(payload: bytes, record: bytes, record_version: bytes) -> Copied:
    """The item in an ITEM frame of ``record``. Raises ValueError or struct.error for a payload that is none."""
    version, write_us, expire_us, flags, key_size, kind_size, notes, size, crc = _ITEM.unpack_from(payload)
    at = _ITEM.size + key_size + kind_size
    key = payload[_ITEM.size : _ITEM.size + key_size]
    content_type = payload[_ITEM.size + key_size : at].decode()
    texts = []
    for _ in range(2 * notes):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size + length
        texts.append(payload[at - length : at].decode())
    chunked = bool(flags & _CHUNKED)
    value = payload[at:]
    if at > len(payload) or len(value) != (0 if chunked else size):
        raise ValueError("the item has another size than it says")
    pairs = tuple(zip(texts[::2], texts[1::2], strict=True))
    put = Put(key, value, content_type, pairs, expire_us, None, chunked)
    return Copied(record, record_version, put, version, bool(flags & _ORDERED), write_us, size, crc)


def decode_record(payload: bytes) -> tuple[bytes, bytes]:
    """(version, key) of a RECORD frame. Raises struct.error."""
    (version,) = _RECORD.unpack_from(payload)
    return version, payload[_RECORD.size :]


def decode_header(payload: bytes) -> Header:
    """What a HEADER frame says. Raises ExportInvalid."""
    try:
        words = json.loads(payload)
        namespace = catalog.decode(json.dumps(words["namespace"]).encode())
        return Header(namespace, int(words["taken_us"]), str(words["operation"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ExportInvalid("the header of the export is not one that this release reads") from None


def decode_end(payload: bytes, at: int) -> End:
    """What an END frame says. Raises ChecksumMismatch."""
    if len(payload) != _END.size:
        raise ChecksumMismatch(f"byte {at} of the export: the end has a wrong size", metadata={"offset": str(at)})
    return End(*_END.unpack(payload))


def read_end(tail: bytes) -> End:
    """The end in the last ``END_SIZE`` bytes of a file. Raises ChecksumMismatch."""
    payload = tail[_HEAD_SIZE:]
    if len(tail) != END_SIZE or tail != frame(Kind.END, payload):
        raise ChecksumMismatch("the file does not end as an export does: it is cut off or damaged")
    return decode_end(payload, 0)


def _checksum(prefix: bytes, payload: bytes) -> int:
    return int(google_crc32c.extend(google_crc32c.value(prefix), payload))


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded
