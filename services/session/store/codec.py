"""Records of sessions as bytes, for stores that keep bytes: compact, with a format number, read back strictly."""

import json
import struct
from functools import lru_cache
from typing import Final

from libs.errors.errors import DataLoss
from services.session.domain.model import (
    REVOCATIONS_KEPT_US,
    Created,
    Epoch,
    Epochs,
    Item,
    OldToken,
    RealmRecord,
    Retry,
    Revocation,
    RevocationKind,
    Session,
    TokenRecord,
    Tombstone,
)

FORMAT: Final = 1
_HEAD = struct.Struct(">BQ32sBQQQQQIQQBBB")
_TOKEN = struct.Struct(">B32sQQH")
_OLD = struct.Struct(">B16sQ")
_RETRY = struct.Struct(">16sB32s32sQQH")
_TWO = struct.Struct(">QQ")


class Damaged(DataLoss):
    """A record that this version did not write."""

    default_reason = "RECORD_DAMAGED"

    def __init__(self) -> None:
        super().__init__("a record of the store is damaged, or of a newer version")


def encode_session(s: Session) -> bytes:
    """All but realm and handle, which are its key."""
    texts = _encode_texts(s.home, s.methods, s.stamp, s.subject_stamp, s.bind)
    parts = [
        _HEAD.pack(
            FORMAT, s.revision, s.subject, s.level, s.auth_us, s.created_us, s.active_us, s.ends_us,
            s.idle_us, s.data_keys, s.data_bytes, s.floor, len(s.tokens), len(s.old), s.retry is not None,
        )
    ]  # fmt: skip
    for t in s.tokens:
        parts += (_TOKEN.pack(t.pepper, t.verifier, t.issued_us, t.dies_us, len(t.wrapped)), t.wrapped)
    parts += (_OLD.pack(*old) for old in s.old)
    if (r := s.retry) is not None:
        parts += (
            _RETRY.pack(r.request, r.pepper, r.parent, r.child, r.grace_us, r.until_us, len(r.wrapped)),
            r.wrapped,
        )
    return b"".join((*parts, texts))


def decode_session(realm: str, handle: str, data: bytes) -> Session:
    """What `encode_session` made. Raises Damaged."""
    try:
        return _session(realm, handle, data)
    except (struct.error, ValueError, TypeError, IndexError):
        raise Damaged from None


def _session(realm: str, handle: str, data: bytes) -> Session:
    (
        form, revision, subject, level, auth_us, created_us, active_us, ends_us,
        idle_us, data_keys, data_bytes, floor, token_count, old_count, has_retry,
    ) = _HEAD.unpack_from(data)  # fmt: skip
    if form != FORMAT:
        raise Damaged
    at = _HEAD.size
    tokens = []
    for _ in range(token_count):
        pepper, verifier, issued_us, dies_us, size = _TOKEN.unpack_from(data, at)
        at += _TOKEN.size
        tokens.append(TokenRecord(pepper, verifier, issued_us, dies_us, data[at : at + size]))
        at += size
    old = tuple(OldToken(*_OLD.unpack_from(data, at + i * _OLD.size)) for i in range(old_count))
    at += old_count * _OLD.size
    retry = None
    if has_retry:
        request, pepper, parent, child, grace_us, until_us, size = _RETRY.unpack_from(data, at)
        at += _RETRY.size
        retry = Retry(request, pepper, parent, child, data[at : at + size], grace_us, until_us)
        at += size
    home, methods, stamp, subject_stamp, bind = _texts(data[at:])
    return Session(
        realm=realm,
        handle=handle,
        revision=revision,
        home=home,
        subject=subject,
        level=level,
        methods=methods,
        auth_us=auth_us,
        created_us=created_us,
        active_us=active_us,
        ends_us=ends_us,
        idle_us=idle_us,
        stamp=stamp,
        subject_stamp=subject_stamp,
        tokens=tuple(tokens),
        old=old,
        retry=retry,
        data_keys=data_keys,
        data_bytes=data_bytes,
        floor=floor,
        bind=bind,
    )


@lru_cache(maxsize=256)
def _encode_texts(home: str, methods: tuple[str, ...], stamp: Epochs, subject_stamp: Epochs, bind: bytes) -> bytes:
    """What `_texts` reads. Kept, because most sessions have the same."""
    plain = [home, methods, stamp, subject_stamp, *([bind.hex()] if bind else [])]
    return json.dumps(plain, separators=(",", ":")).encode()


@lru_cache(maxsize=256)
def _texts(data: bytes) -> tuple[str, tuple[str, ...], Epochs, Epochs, bytes]:
    """Home, methods, both stamps and the binding. Kept, because most sessions have the same."""
    home, methods, stamp, subject_stamp, *bound = json.loads(data)
    return home, tuple(methods), _epochs(stamp), _epochs(subject_stamp), bytes.fromhex(bound[0]) if bound else b""


def revision_of(data: bytes) -> int:
    """The revision of an encoded session, without the rest."""
    revision: int = _HEAD.unpack_from(data)[1]
    return revision


def encode_item(item: Item) -> bytes:
    """All but its key."""
    return _TWO.pack(item.version, item.until_us) + item.sealed


def decode_item(key: bytes, data: bytes) -> Item:
    """What `encode_item` made. Raises Damaged."""
    if len(data) < _TWO.size:
        raise Damaged
    version, until_us = _TWO.unpack_from(data)
    return Item(key, version, data[_TWO.size :], until_us)


def encode_epoch(epoch: Epoch) -> bytes:
    """Counters and time."""
    return json.dumps([epoch.counters, epoch.raised_us], separators=(",", ":")).encode()


def decode_epoch(data: bytes | None) -> Epoch:
    """What `encode_epoch` made; of nothing: never raised. Raises Damaged."""
    if data is None:
        return Epoch()
    try:
        counters, raised_us = json.loads(data)
        return Epoch(_epochs(counters), raised_us)
    except (ValueError, TypeError):
        raise Damaged from None


def encode_revocation(revocation: Revocation) -> bytes:
    """All but its number."""
    until_us = revocation.at_us + REVOCATIONS_KEPT_US
    return _TWO.pack(revocation.at_us, until_us) + bytes((revocation.kind,)) + revocation.name


def decode_revocation(sequence: int, data: bytes) -> Revocation:
    """What `encode_revocation` made. Raises Damaged."""
    try:
        at_us, _ = _TWO.unpack_from(data)
        return Revocation(sequence, RevocationKind(data[_TWO.size]), data[_TWO.size + 1 :], at_us)
    except (struct.error, ValueError, IndexError):
        raise Damaged from None


def encode_tombstone(tombstone: Tombstone) -> bytes:
    """Times and cause."""
    return _TWO.pack(tombstone.at_us, tombstone.until_us) + tombstone.cause.encode()


def decode_tombstone(data: bytes | None) -> Tombstone | None:
    """What `encode_tombstone` made; of nothing: none. Raises Damaged."""
    if data is None:
        return None
    if len(data) < _TWO.size:
        raise Damaged
    at_us, until_us = _TWO.unpack_from(data)
    return Tombstone(at_us, until_us, _text(data[_TWO.size :]))


def encode_created(created: Created) -> bytes:
    """Until when first, as in tombstones and items that end."""
    return _TWO.pack(0, created.until_us) + created.subject + created.handle.encode()


def decode_created(data: bytes | None) -> Created | None:
    """What `encode_created` made; of nothing: none. Raises Damaged."""
    if data is None:
        return None
    if len(data) < _TWO.size + 32:
        raise Damaged
    return Created(_text(data[_TWO.size + 32 :]), data[_TWO.size : _TWO.size + 32], until_of(data))


def until_of(data: bytes) -> int:
    """The end of an encoded item, tombstone or Created."""
    until_us: int = _TWO.unpack_from(data)[1]
    return until_us


def encode_realm(record: RealmRecord) -> bytes:
    """All but its name."""
    return _TWO.pack(record.version, record.created_us) + record.body


def decode_realm(name: str, data: bytes) -> RealmRecord:
    """What `encode_realm` made. Raises Damaged."""
    if len(data) < _TWO.size:
        raise Damaged
    version, created_us = _TWO.unpack_from(data)
    return RealmRecord(name, version, created_us, data[_TWO.size :])


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Damaged from None


def _epochs(plain: list[list[object]]) -> Epochs:
    return tuple((str(datacentre), int(str(count))) for datacentre, count in plain)
