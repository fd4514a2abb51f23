"""What a command needs besides what its caller said: the digest of its body, and the namespace's default expiry."""

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from zlib import crc32

from google_crc32c import value as crc32c

from services.storage.domain.model import Condition, ConditionKind, Delete, Put, WriteToken

_PUT = struct.Struct(">BIQQBH")
_DELETE = struct.Struct(">BBIII")
_LENGTH = struct.Struct(">I")
_SUMS = struct.Struct(">II")
_KINDS = {None: 0, ConditionKind.ABSENT: 1, ConditionKind.ETAG: 2, ConditionKind.OLDER_THAN: 3}
_OLDER_THAN: Final = ConditionKind.OLDER_THAN
_SHORT: Final = 256
"""Values up to this size go into the digest whole."""


def body_digest(
    puts: Iterable[Put],
    deletes: Iterable[Delete],
    record_condition: Condition | None,
    annotations: Mapping[str, str] | None,
    value_digest: bytes | None = None,
) -> bytes:
    """16 bytes over everything that the mutation asks for; ``value_digest`` stands for the value of an upload.

    Every part is preceded by its length, so that no two bodies flow into the same bytes. A longer value is stood for by
    its CRC-32C and its CRC-32, 64 bits together: what is told apart is a caller's mistake, and a hash of each value
    would be a tenth of what a put costs.
    """
    digest = blake2b(b"".join([_put_bytes(put, value_digest) for put in puts]), digest_size=16)
    update = digest.update
    for delete in deletes:
        selection = delete.selection
        kind, operand = _condition(delete.condition)
        keys = selection.keys
        end = b"" if selection.end is None else selection.end
        update(_DELETE.pack(2 if keys is None else 3, kind, len(keys or ()), len(selection.start), len(end)) + operand)
        update(selection.start + end)
        for key in keys or ():
            update(_LENGTH.pack(len(key)) + key)
    if record_condition is not None:
        kind, operand = _condition(record_condition)
        update(struct.pack(">BB", 4, kind) + operand)
    if annotations:
        update(_texts(text for pair in sorted(annotations.items()) for text in pair))
    return digest.digest()


def put_digest(put: Put) -> bytes:
    """The digest of one put and nothing else: that of ``body_digest``, in one call."""
    return blake2b(_put_bytes(put, None), digest_size=16).digest()


def put_digests(pattern: Put, values: Iterable[bytes]) -> list[bytes]:
    """Those of puts that are ``pattern`` with other values."""
    notes = _notes(pattern.content_type, pattern.attributes) if pattern.content_type or pattern.attributes else b""
    heads: dict[int, bytes] = {}
    digests = []
    for value in values:
        size = len(value)
        head = heads.get(size)
        if head is None:
            head = heads[size] = _put_head(pattern, size)
        content = value if size <= _SHORT else _SUMS.pack(crc32c(value), crc32(value))
        digests.append(blake2b(head + content + notes, digest_size=16).digest())
    return digests


def _put_bytes(put: Put, value_digest: bytes | None) -> bytes:
    value = put[1] if value_digest is None else value_digest
    size, content_type, attributes = len(value), put[2], put[3]
    head = _put_head(put, size)
    content = value if size <= _SHORT else _SUMS.pack(crc32c(value), crc32(value))
    if not (content_type or attributes):
        return head + content
    return b"".join((head, content, _notes(content_type, attributes)))


def _put_head(put: Put, size: int) -> bytes:
    """What stands before the content of a put whose value has that size."""
    key, _, _, attributes, expire_us, condition, _ = put
    kind, operand = 0, b""
    if condition is not None:
        how, operand = condition
        kind = 3 if how is _OLDER_THAN else _KINDS[how]  # by identity: an enum's hash is a call
    return _PUT.pack(1, len(key), size, expire_us, kind, len(attributes)) + operand + key


@lru_cache(maxsize=256)
def _notes(content_type: str, attributes: tuple[tuple[str, str], ...]) -> bytes:
    """Kept, because most items of a namespace have the same."""
    return _texts((content_type, *(text for pair in attributes for text in pair)))


def _condition(condition: Condition | None) -> tuple[int, bytes]:
    if condition is None:
        return 0, b""
    return _KINDS[condition.kind], condition.operand


def _texts(texts: Iterable[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))


def with_default_ttl(puts: tuple[Put, ...], token: WriteToken, ttl_us: int, jitter: float) -> tuple[Put, ...]:
    """``puts`` that expire ``ttl_us`` after the token's time unless they say otherwise.

    The expiries of different tokens are spread over ``jitter`` of the TTL, later, never earlier; each retry of a token
    gives the same. ``ttl_us`` 0 changes nothing.
    """
    if not ttl_us:
        return puts
    share = int.from_bytes(token.nonce[8:], "big") / (1 << 64)
    expire_us = token.time_us + int(ttl_us * (1 + jitter * share))
    return tuple(put if put.expire_us else put._replace(expire_us=expire_us) for put in puts)
