"""Where rows lie and how long they live: shards, slots, times to live, positions."""

import zlib
from typing import Final

from services.session.domain.model import ANONYMOUS, Session

ANONYMOUS_SHARDS: Final = 16
"""Over so many partitions the sessions of nobody are spread; those of a subject are one."""
SLOT_ROWS: Final = 10_000
"""Revocations in one partition: what expired in it is stepped over by the reads of the others."""
MARGIN_S: Final = 3_600
"""Tombstones outlive what they end by this, in which servers' clocks may be apart."""
_MOST_S: Final = 20 * 365 * 86_400
"""The longest time to live that Cassandra takes: 20 years."""
_LAST_US: Final = ((1 << 31) - 86_400) * 1_000_000
"""Until when rows may live: January 2038, the end of the 31 bits of Cassandra's usual format, less a day."""


def ttl_s(until_us: int, now_us: int, margin_s: int = 0) -> int:
    """A row's time to live, never less than its time: whole seconds from now, one at least. 0 for a row that would live
    longer than Cassandra can say: it has no end, and waits for the sweeper."""
    live_s = max(1, -(-(until_us - now_us) // 1_000_000) + margin_s)
    return 0 if live_s > _MOST_S or now_us + live_s * 1_000_000 > _LAST_US else live_s


def homed(home: str, name: bytes) -> bytes:
    """A name's own in each data centre: what is decided in one has rows of its own there."""
    return bytes((len(home),)) + home.encode() + name


def unhomed(name: bytes) -> tuple[str, bytes]:
    """What `homed` was made of: home and name."""
    end = 1 + name[0]
    return name[1:end].decode(), name[end:]


def shard_of(session: Session) -> int:
    """The partition of its subject that a session is listed in."""
    return 1 + zlib.crc32(session.handle.encode()) % ANONYMOUS_SHARDS if session.anonymous else 0


def shards_of(subject: bytes) -> range:
    """All partitions that list sessions of a subject."""
    return range(1, ANONYMOUS_SHARDS + 1) if subject == ANONYMOUS else range(1)


def position(created_us: int, handle: str) -> bytes:
    """A session's place among its subject's: 51 bytes in the order of creation."""
    return created_us.to_bytes(8, "big") + handle.encode()


def placed(position: bytes) -> tuple[int, str]:
    """What `position` was made of."""
    return int.from_bytes(position[:8], "big"), position[8:].decode()


def slot_of(number: int) -> int:
    """The partition of a revocation's number."""
    return number // SLOT_ROWS
