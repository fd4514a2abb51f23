"""The newest change of a record, kept beside its head until the feed has it.

sequence 8 · lane 8 · the change as the feed has it
"""

import struct
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct(">QQ")


class Outbox(NamedTuple):
    """A change and where the feed announces it."""

    sequence: int
    lane: int
    event: bytes


def encode(outbox: Outbox) -> bytes:
    """The value of the column."""
    return _HEAD.pack(outbox.sequence, outbox.lane) + outbox.event


def decode(value: bytes | None) -> Outbox | None:
    """What is in the column; None when the record has had no change yet."""
    if value is None:
        return None
    sequence, lane = _HEAD.unpack_from(value)
    return Outbox(sequence, lane, value[_HEAD.size :])
