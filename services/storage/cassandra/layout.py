"""Where the rows of the tables lie: shards, slots of time, parts of big values."""

import zlib
from typing import Final

from libs.cassandra.routing import routing_key

INDEX_SHARDS: Final = 8
"""Partitions over which the record keys of a namespace are spread."""
FEED_SLOT_US: Final = 5 * 60 * 1_000_000
"""One partition of a feed's lane: at a thousand changes a second some 150 MB."""
DUE_SLOT_US: Final = 10 * 60 * 1_000_000
"""The entries of the sweeper are partitioned by this much time, and by shard."""
DUE_SHARDS: Final = 4
CHUNKS_TOGETHER: Final = 64
"""Chunks in one partition: 64 MiB at most."""
FINISHED: Final = 0xFFFFFFFF
"""The number of the mark of a finished upload."""
FINISHED_PART: Final = -1


def index_shard(record: bytes) -> int:
    """The shard of a record's key."""
    return zlib.crc32(record) % INDEX_SHARDS


def record_key(number: int, record: bytes) -> bytes:
    """The partition of a record, as the cluster hashes it."""
    return routing_key(number.to_bytes(4, "big"), record)


def feed_slot(sequence: int) -> int:
    """The slot of a change: sequences are microseconds."""
    return sequence // FEED_SLOT_US


def due_slot(due_us: int) -> int:
    """The slot of a sweeper's entry."""
    return due_us // DUE_SLOT_US


def due_shard(number: int, rest: bytes) -> int:
    """The shard of a sweeper's entry."""
    return (zlib.crc32(rest) + number) % DUE_SHARDS


def chunk_part(index: int) -> int:
    """The partition of a chunk within its upload."""
    return FINISHED_PART if index == FINISHED else index // CHUNKS_TOGETHER
