"""Where things lie: the families of the one-machine backend and their keys.

Every key begins with the namespace's number, 4 bytes big-endian, so that a purge is one range in each family. All
numbers are big-endian: bytewise order is their order.

    records   number, record                       the record's row: counts, and its flat item when small
    items     number, escaped record, item key     one item (all that do not lie in the record's row)
    tombs     number, escaped record, item key     stamp of a deleted item (LWW), until its grace is over
    tokens    number, time, nonce, record          what a mutation answered, for its retries; without a record, what
                                                   puts of one request did (runs.py)
    feed      number, sequence                     one change, or a run of them whose last has this sequence
    due       time, number, kind, rest             what the sweeper must look at, when
    history   number, escaped record, escaped key, inverted version   an earlier version
    samples   number, record                       one record key of about 1,024, for SplitRanges
    chunks    number, upload, index                a piece of a big value
    meta      kind, rest                           namespaces by name, the next number, usage by number, the signing key
"""

import struct
import zlib
from typing import Final

FORMAT_VERSION: Final = 2
OLDEST_FORMAT: Final = 1
"""One row for each token and each change; read as it is."""
FAMILIES: Final = (
    "records",
    "items",
    "tombs",
    "tokens",
    "feed",
    "due",
    "history",
    "samples",
    "chunks",
    "meta",
)
BY_NAMESPACE: Final = ("records", "items", "tombs", "tokens", "feed", "history", "samples", "chunks")
"""The families whose keys begin with a namespace's number."""

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_TOKEN = struct.Struct(">IQ16s")
_FEED = struct.Struct(">IQ")
TOKEN_HEAD: Final = _TOKEN.size
"""What the keys of a request's tokens have in common: all but the record."""
_DUE = struct.Struct(">QIB")
_CHUNK = struct.Struct(">I16sI")

EXPIRE: Final = 1
"""An item's expiry: rest is the escaped record and the item key."""
TOMB: Final = 2
"""The end of a tombstone's grace: rest as for EXPIRE."""
RANGE_TOMB: Final = 3
"""The end of a range tombstone's grace: rest is the record."""
VERSION: Final = 4
"""The end of an earlier version: rest is its key in ``history`` without the number."""
UPLOAD: Final = 5
"""Chunks to be removed: rest is the upload."""

UNFINISHED: Final = 6
"""Chunks to be removed unless the upload was finished: rest is the upload."""

META_NAMESPACE: Final = b"n"
META_NUMBER: Final = b"#"
META_USAGE: Final = b"u"
META_KEY: Final = b"k"

_SAMPLED: Final = 1024


def prefix(number: int) -> bytes:
    """The first bytes of all keys of a namespace."""
    return _U32.pack(number)


def after_prefix(number: int) -> bytes:
    """The first key behind all of a namespace."""
    return _U32.pack(number + 1)


def escaped(name: bytes) -> bytes:
    """``name`` so that what follows cannot be taken for a part of it, in the same order."""
    return (name.replace(b"\0", b"\0\xff") if b"\0" in name else name) + b"\0\x01"


def unescaped(key: bytes, start: int) -> tuple[bytes, int]:
    """The name that :func:`escaped` put at ``start`` of ``key``, and where it ends."""
    at = start
    while True:
        at = key.index(b"\0", at)
        if key[at + 1] == 1:
            return key[start:at].replace(b"\0\xff", b"\0"), at + 2
        at += 2


def token_key(number: int, time_us: int, nonce: bytes, record: bytes) -> bytes:
    """The key of a remembered mutation: by time, so that the oldest are one range."""
    return _TOKEN.pack(number, time_us, nonce) + record


def token_time(key: bytes) -> int:
    """The time in the key of a remembered mutation, microseconds."""
    return int(_FEED.unpack_from(key)[1])


def token_bound(number: int, time_us: int) -> bytes:
    """The first key of tokens made at ``time_us``."""
    return _FEED.pack(number, max(0, time_us))


def feed_key(number: int, sequence: int) -> bytes:
    """The key of a change."""
    return _FEED.pack(number, sequence)


def feed_sequence(key: bytes) -> int:
    """The sequence number in the key of a change."""
    return int(_FEED.unpack(key)[1])


def due_key(due_us: int, number: int, kind: int, rest: bytes) -> bytes:
    """The key of an entry for the sweeper."""
    return _DUE.pack(due_us, number, kind) + rest


def parse_due(key: bytes) -> tuple[int, int, int, bytes]:
    """Time, namespace, kind and rest of a sweeper's entry."""
    due_us, number, kind = _DUE.unpack_from(key)
    return due_us, number, kind, key[_DUE.size :]


def due_bound(now_us: int) -> bytes:
    """The first key that is not due at ``now_us`` yet."""
    return _U64.pack(now_us + 1)


def chunk_key(number: int, upload: bytes, index: int) -> bytes:
    """The key of a piece of a big value."""
    return _CHUNK.pack(number, upload, index)


def chunk_prefix(number: int, upload: bytes) -> bytes:
    """The first bytes of the keys of an upload's pieces and of its mark."""
    return prefix(number) + upload


def finished_key(number: int, upload: bytes) -> bytes:
    """The mark, behind all pieces, of an upload whose manifest was written."""
    return chunk_key(number, upload, 0xFFFFFFFF)


def inverted(version: bytes) -> bytes:
    """``version`` so that the newest comes first; its own inverse."""
    return (int.from_bytes(version, "big") ^ ((1 << 128) - 1)).to_bytes(16, "big")


def sampled(record: bytes) -> bool:
    """Whether the record is one of the about 1,024 that stand for the others: always the same answer for a key."""
    return zlib.crc32(record) % _SAMPLED == 0
