"""The commonest mutation in one pass: a put of the flat item of a record that has nothing else, plain or ordered.

It writes byte for byte what ``decide`` and ``Application`` would, in a third of the time; whatever is not so plain
is left to them. ``flat_test.py`` holds the two against each other. What costs is everything that is done anew for each
record, so what a batch's puts share is found out once (``Lane``), and their rows go into the batch family by family.
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
_OLDER_THAN: Final = ConditionKind.OLDER_THAN
_NOTHING: Final = (b"", 0)
_tuple: Final = tuple.__new__
_U64: Final = struct.Struct(">Q")
TOKEN: Final = struct.Struct(">16sB16sIQ")
Row = tuple[bytes, bytes]
"""A key and its value."""


def token_row(body: bytes, outcome: Outcome, version: bytes, deleted_items: int, sequence: int) -> bytes:
    """The row of a remembered mutation."""
    return TOKEN.pack(body, outcome.value, version, deleted_items, sequence)


class Lane:
    """What the mutations of one namespace have in common within a turn. ``plain``: nothing of its settings stands
    against the quick path; tokens between ``first_us`` and ``last_us`` do not drift too far; those after ``seen_us``
    were never seen before this turn. ``account`` is None for a namespace that is gone."""

    __slots__ = ("account", "cas", "first_us", "last_us", "namespace", "number", "plain", "prefix", "seen_us")

    def __init__(self, namespace: Namespace, account: Account | None, now_us: int) -> None:
        settings = namespace.settings
        quota = settings.quota
        self.namespace = namespace
        self.account = account
        self.number = namespace.number
        self.prefix = layout.prefix(namespace.number)
        self.cas = settings.mode is Mode.CAS
        self.plain = not (settings.retention.keeps_versions or quota.max_bytes or quota.max_records)
        self.first_us = now_us - settings.max_clock_drift_us
        self.last_us = now_us + settings.max_clock_drift_us
        self.seen_us = 0 if account is None else account.newest_token_us


class FlatPuts:
    """The quick puts of one batch: their rows by family, and the time that they carry."""

    __slots__ = ("_families", "feed", "now_us", "records", "samples", "tokens")

    def __init__(self, families: Families, now_us: int) -> None:
        self._families = families
        self.now_us = now_us
        self.records: list[Row] = []
        self.feed: list[Row] = []
        self.tokens: list[Row] = []
        self.samples: list[Row] = []

    def put(
        self, lane: Lane, account: Account, command: Command, place: bytes, row: bytes | None, token_key: bytes
    ) -> Receipt | None:
        """Takes what the command writes and counts it in ``account``, the lane's; None, having done nothing, when it is
        not that plain. ``row`` is the record's at ``place``; drift and token have been checked."""
        record, token, puts, deletes, _, body, condition, annotations, _, dry_run, want_cost = command
        if deletes or len(puts) != 1 or condition is not None or dry_run or want_cost or not lane.plain:
            return None
        key, value, content_type, attributes, expire_us, condition, chunked = puts[0]
        value_size = len(value)
        if key or expire_us or chunked or value_size > _LARGEST:
            return None
        cas = lane.cas
        if condition is not None and (cas or condition[0] is not _OLDER_THAN):
            return None
        was, before, old_version = 0, _NOTHING, b""
        if row is not None:
            flags, newest, items, immortal, last_expire_us, tombs, was = ROW.unpack_from(row)
            if flags & ~ORDERED != FLAT_ONLY or items != 1 or immortal != 1 or last_expire_us or tombs:
                return None
            if not rows.is_whole(row, ROW.size):
                return None
            before, old_version = (newest, flags & ORDERED), rows.version_at(row, ROW.size)
        now_us = self.now_us
        if cas:
            version, ordered = assigned_version(now_us, account.newest, token.nonce), 0
            newest, flags = version, 0
        else:
            if condition is None:
                version, ordered = _U64.pack(token[0]) + token[1][:8], 0
                if old_version > version:
                    return None
            else:
                version, ordered = condition[1], ORDERED
                if old_version >= version:
                    return None
            newest, flags = max(before, (version, ordered)) if row is not None else (version, ordered)
        meta = rows.meta(content_type, attributes) if content_type or attributes else b""
        size = rows.HEADER_SIZE + len(meta) + value_size
        if size > INLINE_SIZE:
            return None
        cell = rows.header(version, now_us, ordered, 1 if meta else 0)
        if row is None:
            account.records += 1
            account.items += 1
            if layout.sampled(record):
                self.samples.append((place, b""))
        account.size += size - was
        if version > account.newest:
            account.newest = version
        account.sequence = sequence = account.sequence + 1
        if token[0] > account.newest_token_us:
            account.newest_token_us = token[0]
        head = ROW.pack(FLAT_ONLY | flags, newest, 1, 1, 0, 0, size)
        self.records.append((place, b"".join((head, cell, meta, value))))
        if annotations:
            notes = tuple(sorted(annotations.items()))
            change = events.encode_put(record, version, row is None, now_us, content_type, value_size, notes)
        else:
            change = events.encode_plain(record, version, row is None, now_us, content_type, value_size)
        self.feed.append((layout.feed_key(lane.number, sequence), change))
        self.tokens.append((token_key, TOKEN.pack(body, _APPLIED_NUMBER, version, 0, sequence)))
        return _tuple(Receipt, (_APPLIED, version, 0, sequence, None))

    def fill(self, batch: Any) -> None:
        """Adds the rows to a batch, and begins anew. No place and no key is among them twice, so that their order does
        not matter."""
        if not self.records:
            return
        families = self._families
        batch.put_many(families.records, self.records)
        batch.put_many(families.feed, self.feed)
        batch.put_many(families.tokens, self.tokens)
        if self.samples:
            batch.put_many(families.samples, self.samples)
            self.samples = []
        self.records, self.feed, self.tokens = [], [], []
