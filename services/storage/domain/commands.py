"""What a command needs besides what its caller said: the digest of its body, and the namespace's default expiry."""

import hashlib
import struct
from collections.abc import Iterable, Mapping

from services.storage.domain.model import Condition, ConditionKind, Delete, Put, WriteToken

_PUT = struct.Struct(">BIQQBH")
_DELETE = struct.Struct(">BBIII")
_LENGTH = struct.Struct(">I")
_KINDS = {None: 0, ConditionKind.ABSENT: 1, ConditionKind.ETAG: 2, ConditionKind.OLDER_THAN: 3}


def body_digest(
    puts: Iterable[Put],
    deletes: Iterable[Delete],
    record_condition: Condition | None,
    annotations: Mapping[str, str] | None,
    value_digest: bytes | None = None,
) -> bytes:
    """16 bytes over everything that the mutation asks for; ``value_digest`` stands for the value of an upload.

    Every part is preceded by its length, so that no two bodies flow into the same bytes.
    """
    digest = hashlib.blake2b(digest_size=16)
    update = digest.update
    for put in puts:
        key, value, content_type, attributes, expire_us, condition, _ = put
        if value_digest is not None:
            value = value_digest
        kind, operand = _condition(condition)
        update(_PUT.pack(1, len(key), len(value), expire_us, kind, len(attributes)) + operand + key + value)
        if content_type or attributes:
            _texts(update, (content_type, *(text for pair in attributes for text in pair)))
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
        _texts(update, (text for pair in sorted(annotations.items()) for text in pair))
    return digest.digest()


def put_digest(put: Put) -> bytes:
    """The digest of one put and nothing else: that of ``body_digest``, in one call."""
    key, value, content_type, attributes, expire_us, condition, _ = put
    kind, operand = (0, b"") if condition is None else (_KINDS[condition.kind], condition.operand)
    head = _PUT.pack(1, len(key), len(value), expire_us, kind, len(attributes))
    if not (content_type or attributes):
        return hashlib.blake2b(head + operand + key + value, digest_size=16).digest()
    parts = [head, operand, key, value]
    for text in (content_type, *(text for pair in attributes for text in pair)):
        encoded = text.encode()
        parts += (_LENGTH.pack(len(encoded)), encoded)
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def _condition(condition: Condition | None) -> tuple[int, bytes]:
    if condition is None:
        return 0, b""
    return _KINDS[condition.kind], condition.operand


def _texts(update: object, texts: Iterable[str]) -> None:
    assert callable(update)
    for text in texts:
        encoded = text.encode()
        update(_LENGTH.pack(len(encoded)) + encoded)


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
