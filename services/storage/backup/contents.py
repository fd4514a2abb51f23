"""What the frames of a stream mean together: a header, records with their items, big values behind theirs, an end.

A stream that keeps its checksums and yet says something impossible was made by something else: it is refused as well,
before anything of it is written.
"""

import struct
from collections.abc import Iterator
from typing import Final

import google_crc32c

from services.storage.backup.format import End, Frame, Frames, Header, Kind, decode_header, decode_item, decode_record
from services.storage.domain import limits
from services.storage.domain.copying import Copied
from services.storage.domain.errors import ChecksumMismatch, ExportInvalid
from services.storage.domain.namespace import DAY_US, check_bound_record

Part = Header | Copied | bytes | End
"""A big value follows its item in pieces of bytes."""
_MAX_INLINE: Final = 4 * limits.MIB


class Contents:
    """Reads a stream that comes in pieces. ``now_us`` is the time at which it is read; ``bound``: into a namespace that
    is bound to propagation, whose records are named as resources are."""

    def __init__(self, now_us: int, *, bound: bool = False) -> None:
        self._frames = Frames()
        self._latest_us = now_us + DAY_US
        self._bound = bound
        self._header: Header | None = None
        self._record: tuple[bytes, bytes] | None = None
        self._key: bytes | None = None
        self._big: Copied | None = None
        self._left = self._crc = 0
        self._records = self._items = self._size_bytes = 0

    def feed(self, data: bytes) -> Iterator[Part]:
        """The parts that ``data`` completes; use the iterator up. Raises ExportInvalid, ChecksumMismatch."""
        for frame in self._frames.feed(data):
            try:
                part = self._part(frame)
            except (ValueError, struct.error):
                raise _impossible(frame, "it is not what its kind says") from None
            if part is not None:
                yield part

    def finish(self) -> End:
        """The end, which must have come. Raises ChecksumMismatch."""
        return self._frames.finish()

    def _part(self, frame: Frame) -> Part | None:
        if (frame.kind is Kind.HEADER) != (self._header is None):
            raise _impossible(frame, "the header comes first, and once")
        if (frame.kind is Kind.CHUNK) != (self._left > 0):
            raise _impossible(frame, f"{self._left} bytes of a big value are to come")
        match frame.kind:
            case Kind.HEADER:
                self._header = decode_header(frame.payload)
                return self._header
            case Kind.RECORD:
                self._begin(frame)
                return None
            case Kind.ITEM:
                return self._item(frame)
            case Kind.CHUNK:
                return self._chunk(frame)
            case Kind.END:
                return self._end(frame)

    def _begin(self, frame: Frame) -> None:
        version, key = decode_record(frame.payload)
        if not 1 <= len(key) <= limits.MAX_RECORD_KEY:
            raise _impossible(frame, f"a record's key has 1 to {limits.MAX_RECORD_KEY} bytes")
        if self._bound:
            check_bound_record(key, "data")
        if self._key is None and self._record is not None:
            raise _impossible(frame, "the record before it has no item")
        self._record, self._key = (key, version), None
        self._records += 1

    def _item(self, frame: Frame) -> Copied:
        if self._record is None:
            raise _impossible(frame, "it belongs to no record")
        item = decode_item(frame.payload, *self._record)
        put = item.put
        if len(put.key) > limits.MAX_ITEM_KEY or (self._key is not None and put.key <= self._key):
            raise _impossible(frame, f"item keys rise, and have at most {limits.MAX_ITEM_KEY} bytes")
        if not item.ordered and int.from_bytes(item.version[:8], "big") > self._latest_us:
            raise _impossible(frame, "its version is from the future")
        times = (put.expire_us, item.write_us)
        if max(times) > limits.MAX_TIME_US or len(put.content_type.encode()) > limits.MAX_CONTENT_TYPE:
            raise _impossible(frame, "a time or a media type is beyond its limit")
        if len(put.attributes) > limits.MAX_ATTRIBUTES or item.size > (
            64 * limits.MAX_UPLOAD if put.chunked else _MAX_INLINE
        ):
            raise _impossible(frame, "its attributes or its value are beyond their limit")
        self._key = put.key
        self._items += 1
        self._size_bytes += len(put.key) + item.size
        if put.chunked:
            self._big, self._left, self._crc = item, item.size, 0
        return item

    def _chunk(self, frame: Frame) -> bytes:
        piece = frame.payload
        if not 1 <= len(piece) <= min(limits.MAX_CHUNK, self._left):
            raise _impossible(frame, "the piece of the big value has a wrong size")
        self._left -= len(piece)
        self._crc = google_crc32c.extend(self._crc, piece)
        if not self._left and self._big is not None and self._crc != self._big.crc32c:
            raise ChecksumMismatch(f"byte {frame.at} of the export: a big value does not match its checksum")
        return piece

    def _end(self, frame: Frame) -> End:
        end = self._frames.end
        assert end is not None  # the frame was it
        if (end.records, end.items, end.size_bytes) != (self._records, self._items, self._size_bytes):
            raise _impossible(frame, "it counts other records and items than there were")
        return end


def _impossible(frame: Frame, what: str) -> ExportInvalid:
    return ExportInvalid(
        f"byte {frame.at} of the export, {frame.kind.name}: {what}", metadata={"offset": str(frame.at)}
    )
