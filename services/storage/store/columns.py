"""Puts that are alike, taken in columns: what they share is found out once, and what is left is joining bytes.

It writes byte for byte what the quick path of single puts (``flat.py``) would, in less than half of the time; a put
that it does not take is left to that. ``columns_test.py`` holds the two against each other.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from services.storage.domain.model import ConditionKind, Outcome, Receipt
from services.storage.domain.versions import token_version
from services.storage.store import events, layout, rows
from services.storage.store.alike import Alike
from services.storage.store.flat import TOKEN, FlatPuts, Lane
from services.storage.store.ledger import Account
from services.storage.store.record import FLAT_ONLY, INLINE_SIZE, ORDERED, ROW

_APPLIED: Final = Outcome.APPLIED
_APPLIED_NUMBER: Final = Outcome.APPLIED.value
_tuple: Final = tuple.__new__


def take(
    flat: FlatPuts,
    lane: Lane,
    account: Account,
    puts: Alike,
    places: Sequence[bytes],
    stored: Sequence[bytes | None],
    token_keys: Sequence[bytes],
    remembered: Sequence[bytes | None],
) -> list[Receipt | None]:
    """Gives ``flat`` the rows of these puts and counts them in ``account``, the lane's; None in the place of each that
    is not plain, not new or too late, for which nothing was done.

    ``places`` are the keys of the records and ``stored`` their rows, ``token_keys`` and ``remembered`` those of the
    puts' tokens. Drift has been checked.
    """
    taken: list[Receipt | None] = [None] * len(puts)
    if not _plain(lane, puts):
        return taken
    mould = _Mould(puts, flat.now_us)
    version, number, sequence, bodies = mould.version, lane.number, account.sequence, puts.bodies
    starts = {size: mould.starts(size) for size in set(map(len, puts.records))}
    pieces = {size: mould.piece(size) for size in set(map(len, puts.values))}
    created = grown = 0
    for index, (record, value, place, row) in enumerate(zip(puts.records, puts.values, places, stored, strict=True)):
        piece, start = pieces[len(value)], starts[len(record)]
        if piece is None or remembered[index] is not None:
            continue
        if row is None:
            created += 1
            before = start.created
            if layout.sampled(record):
                flat.samples.append((place, b""))
        else:
            was = mould.replaces(row)
            if was is None:
                continue
            grown -= was
            before = start.replaced
        sequence += 1
        head, end, size = piece
        grown += size
        flat.records.append((place, head + value))
        flat.feed.append((layout.feed_key(number, sequence), before + record + end))
        flat.tokens.append((token_keys[index], TOKEN.pack(bodies[index], _APPLIED_NUMBER, version, 0, sequence)))
        taken[index] = _tuple(Receipt, (_APPLIED, version, 0, sequence, None))
    if sequence > account.sequence:
        account.sequence = sequence
        account.records += created
        account.items += created
        account.size += grown
        account.newest = max(account.newest, version)
        account.newest_token_us = max(account.newest_token_us, puts.token.time_us)
    return taken


def _plain(lane: Lane, puts: Alike) -> bool:
    """Whether nothing that they share stands against it."""
    pattern = puts.pattern
    if lane.cas or not lane.plain or pattern.key or pattern.expire_us or pattern.chunked:
        return False
    return pattern.condition is None or pattern.condition.kind is ConditionKind.OLDER_THAN


class _Piece(NamedTuple):
    """What puts of one size share: what stands before the value in the record's row, what ends the row of the change,
    and the size that is charged."""

    head: bytes
    end: bytes
    size: int


class _Starts(NamedTuple):
    """What begins the row of a change that made its record, and of one that did not."""

    created: bytes
    replaced: bytes


class _Mould:
    """What the rows of puts that are alike share, when each of them is all that its record has."""

    def __init__(self, puts: Alike, now_us: int) -> None:
        condition = puts.pattern.condition
        self.version = token_version(puts.token) if condition is None else condition.operand
        self._ordered = 0 if condition is None else ORDERED
        self._now_us = now_us
        self._kind, attributes = puts.pattern.content_type, puts.pattern.attributes
        self._meta = rows.meta(self._kind, attributes) if self._kind or attributes else b""

    def starts(self, record_size: int) -> _Starts:
        """Those of records whose names have this size."""
        made, replaced = (events.plain_start(self.version, new, self._now_us, record_size) for new in (True, False))
        return _Starts(made, replaced)

    def piece(self, value_size: int) -> _Piece | None:
        """That of puts whose values have this size; None when they are too large to lie in their records' rows."""
        size = rows.HEADER_SIZE + len(self._meta) + value_size
        if size > INLINE_SIZE:
            return None
        head = ROW.pack(FLAT_ONLY | self._ordered, self.version, 1, 1, 0, 0, size)
        cell = rows.header(self.version, self._now_us, self._ordered, 1 if self._meta else 0)
        return _Piece(head + cell + self._meta, events.plain_end(self._kind, value_size), size)

    def replaces(self, row: bytes) -> int | None:
        """The size that a record's row was charged with, when one of these puts takes the place of all that it has."""
        flags, newest, items, immortal, last_expire_us, tombs, size = ROW.unpack_from(row)
        if flags & ~ORDERED != FLAT_ONLY or items != 1 or immortal != 1 or last_expire_us or tombs:
            return None
        if (newest, flags & ORDERED) > (self.version, self._ordered) or not rows.is_whole(row, ROW.size):
            return None
        there = rows.version_at(row, ROW.size)
        return int(size) if there < self.version or (there == self.version and not self._ordered) else None
