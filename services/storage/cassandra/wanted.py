"""Which rows of its record a mutation will ask for: they are read at once, before it is decided."""

import struct
from typing import Final

from services.storage.cassandra.partition import ITEMS, TOKENS, Place, Rows
from services.storage.domain.model import Command, Delete, Put
from services.storage.store import rows as stored
from services.storage.store.interface import Read, Write
from services.storage.store.turn import parse_token

_PREFETCHED: Final = 100
_LANE_BYTES: Final = 8


def token_row(command: Command) -> tuple[int, bytes]:
    """Where a mutation is remembered in its record's partition."""
    return TOKENS, command.token.time_us.to_bytes(8, "big") + command.token.nonce


def remembered(place: Place, row: bytes) -> tuple[bytes, int, int]:
    """(the row as the engine has it, sequence, lane) of a remembered mutation as it is stored. Raises ChecksumMismatch
    for one that can never have been written."""
    engines = row[:-_LANE_BYTES]
    try:
        return engines, parse_token(engines).sequence, int.from_bytes(row[-_LANE_BYTES:], "big")
    except (struct.error, ValueError):
        raise stored.damaged(place[1], None) from None


def wanted(write: Write) -> Rows:
    """The rows that a mutation will ask for, as far as its command names them."""
    space, command = write
    rows = [token_row(command)]
    keys: dict[bytes, None] = {}
    for _, change in command.changes():
        if isinstance(change, Put):
            keys[change.key] = None
        elif isinstance(change, Delete) and change.selection.keys is not None:
            keys.update(dict.fromkeys(change.selection.keys))
    rows += [(ITEMS, key) for key in list(keys)[:_PREFETCHED] if key]
    return Rows((space.number, command.record), tuple(rows))


def wanted_by(read: Read) -> Rows:
    """The rows that a read will ask for: without any, the record's beginning."""
    keys = read.selection.keys
    rows = () if keys is None or read.after is not None else tuple((ITEMS, key) for key in keys[:_PREFETCHED] if key)
    return Rows((read.namespace.number, read.record), rows)
