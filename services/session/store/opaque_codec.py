"""Rows of opaque realms as bytes, for stores that keep bytes; read back strictly."""

import json
import struct
from typing import Final

from services.session.domain.model import Epochs
from services.session.domain.opaque_model import OpaqueRow, OpaqueTombstone
from services.session.store.codec import Damaged

_TIMES: Final = struct.Struct(">QQ")
_HEAD: Final = struct.Struct(">QQH")


def encode_row(row: OpaqueRow) -> bytes:
    """All but its name."""
    stamp = json.dumps(row.stamp, separators=(",", ":")).encode()
    return _HEAD.pack(row.written_us, row.until_us, len(stamp)) + stamp + row.sealed


def decode_row(name: bytes, data: bytes, *, sealed: bool = True) -> OpaqueRow:
    """What `encode_row` made; the value only if `sealed`. Raises Damaged."""
    try:
        written_us, until_us, length = _HEAD.unpack_from(data)
        end = _HEAD.size + length
        stamp: Epochs = tuple((str(at), int(count)) for at, count in json.loads(data[_HEAD.size : end]))
    except (struct.error, ValueError, TypeError):
        raise Damaged from None
    if sealed:
        return OpaqueRow(name, written_us, until_us, stamp, data[end:])
    return OpaqueRow(name, written_us, until_us, stamp, b"", left_out_bytes=len(data) - end)


def encode_tombstone(tombstone: OpaqueTombstone) -> bytes:
    """Its times."""
    return _TIMES.pack(*tombstone)


def decode_tombstone(data: bytes) -> OpaqueTombstone:
    """What `encode_tombstone` made. Raises Damaged."""
    if len(data) != _TIMES.size:
        raise Damaged
    return OpaqueTombstone(*_TIMES.unpack(data))
