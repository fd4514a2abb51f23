"""The commonest mutation in one pass: a put of the flat item of a record that has nothing else, plain or ordered.

It writes byte for byte what ``decide`` and ``Application`` would, in a third of the time; whatever is not so plain
is left to them. ``flat_test.py`` holds the two against each other.
"""

import struct
from typing import Any, Final

from services.storage.domain.model import Command, ConditionKind, Mode, Outcome, Receipt
from services.storage.domain.namespace import Namespace
from services.storage.domain.versions import assigned_version
from services.storage.store import events, layout, rows
from services.storage.store.families import Families
from services.storage.store.ledger import Account
from services.storage.store.record import FLAT_ONLY, INLINE_SIZE, ORDERED, ROW

_LARGEST: Final = INLINE_SIZE - 1024
"""Of a value: with header and media type the row stays within the record's."""
_APPLIED: Final = Outcome.APPLIED
_APPLIED_NUMBER: Final = Outcome.APPLIED.value
_NOTHING: Final = (b"", 0)
TOKEN: Final = struct.Struct(">16sB16sIQ")


def token_row(body: bytes, outcome: Outcome, version: bytes, deleted_items: int, sequence: int) -> bytes:
    """The row of a remembered mutation."""
    return TOKEN.pack(body, outcome.value, version, deleted_items, sequence)


def put_flat(
    batch: Any,
    families: Families,
    namespace: Namespace,
    command: Command,
    place: bytes,
    row: bytes | None,
    token_key: bytes,
    account: Account,
    now_us: int,
) -> Receipt | None:
    """Puts into ``batch`` what the command writes and counts it in ``account``; None, having done nothing, when it
    is not that plain. ``row`` is the record's at ``place``; drift and token have been checked."""
    record, token, puts, deletes, _, body, condition, annotations, _, dry_run, want_cost = command
    if deletes or len(puts) != 1 or condition is not None or dry_run or want_cost:
        return None
    key, value, content_type, attributes, expire_us, condition, chunked = puts[0]
    if key or expire_us or chunked or len(value) > _LARGEST:
        return None
    settings = namespace.settings
    quota = settings.quota
    if settings.retention.keeps_versions or quota.max_bytes or quota.max_records:
        return None
    cas = settings.mode is Mode.CAS
    if condition is not None and (cas or condition.kind is not ConditionKind.OLDER_THAN):
        return None
    was, before, old_version = 0, _NOTHING, b""
    if row is not None:
        flags, newest, items, immortal, last_expire_us, tombs, was = ROW.unpack_from(row)
        if flags & ~ORDERED != FLAT_ONLY or items != 1 or immortal != 1 or last_expire_us or tombs:
            return None
        if not rows.is_whole(row, ROW.size):
            return None
        before, old_version = (newest, flags & ORDERED), rows.version_at(row, ROW.size)
    if cas:
        version, ordered = assigned_version(now_us, account.newest, token.nonce), False
        newest, flags = version, 0
    else:
        if condition is None:
            version, ordered = token.time_us.to_bytes(8, "big") + token.nonce[:8], False
            if old_version > version:
                return None
        else:
            version, ordered = condition.operand, True
            if old_version >= version:
                return None
        newest, flags = max(before, (version, ORDERED if ordered else 0))
    cell = rows.encode(
        version,
        now_us,
        0,
        ordered=ordered,
        content_type=content_type,
        attributes=attributes,
        value=value,
        chunked=False,
    )
    if len(cell) > INLINE_SIZE:
        return None
    size = len(cell)
    if row is None:
        account.records += 1
        account.items += 1
        if layout.sampled(record):
            batch.put(families.samples, place, b"")
    account.size += size - was
    account.newest = max(account.newest, version)
    account.sequence = sequence = account.sequence + 1
    batch.put(families.records, place, ROW.pack(FLAT_ONLY | flags, newest, 1, 1, 0, 0, size) + cell)
    notes = tuple(sorted(annotations.items())) if annotations else ()
    change = events.encode_put(record, version, row is None, now_us, content_type, len(value), notes)
    batch.put(families.feed, layout.feed_key(namespace.number, sequence), change)
    batch.put(families.tokens, token_key, TOKEN.pack(body, _APPLIED_NUMBER, version, 0, sequence))
    return Receipt(_APPLIED, version, 0, sequence)
