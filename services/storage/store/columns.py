"""Puts that are alike, taken in columns: what they share is found out once, and what is left is joining bytes.

It writes of each record byte for byte what the quick path of single puts (``flat.py``) would, and of all of them
together one row of tokens and one of changes (``runs.py``); a put that it does not take is left to that path.
``columns_test.py`` holds the two against each other.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from services.storage.domain.model import ConditionKind, Outcome, Receipt
from services.storage.domain.versions import token_version
from services.storage.store import layout, rows, runs
from services.storage.store.alike import Alike
from services.storage.store.flat import FlatPuts, Lane
from services.storage.store.ledger import Account
from services.storage.store.record import FLAT_ONLY, INLINE_SIZE, ORDERED, ROW
from services.storage.store.runs import Run

_APPLIED: Final = Outcome.APPLIED
_tuple: Final = tuple.__new__


def take(
    flat: FlatPuts,
    lane: Lane,
    account: Account,
    puts: Alike,
    places: Sequence[bytes],
    stored: Sequence[bytes | None],
    token_head: bytes,
    remembered: Sequence[bytes | None],
    *,
    apart: bool,
) -> list[Receipt | None]:
    """Gives ``flat`` the rows of these puts and counts them in ``account``, the lane's; None in the place of each that
    is not plain, not new or too late, for which nothing was done.

    ``places`` are the keys of the records and ``stored`` their rows; ``token_head`` is what the keys of the puts'
    tokens have in common, and ``remembered`` are their rows. ``apart``: the row that these tokens would share is there
    already, with those of other records. Drift has been checked.
    """
    taken: list[Receipt | None] = [None] * len(puts)
    if not _plain(lane, puts):
        return taken
    mould = _Mould(puts, flat.now_us)
    version, sequence = mould.version, account.sequence
    made: list[bool] = []
    pieces = {size: mould.piece(size) for size in set(map(len, puts.values))}
    grown = 0
    for index, (record, value, place, row) in enumerate(zip(puts.records, puts.values, places, stored, strict=True)):
        piece = pieces[len(value)]
        if piece is None or remembered[index] is not None:
            continue
        if row is None:
            if layout.sampled(record):
                flat.samples.append((place, b""))
        else:
            was = mould.replaces(row)
            if was is None:
                continue
            grown -= was
        sequence += 1
        head, size = piece
        grown += size
        flat.records.append((place, head + value))
        made.append(row is None)
        taken[index] = _tuple(Receipt, (_APPLIED, version, 0, sequence, None))
    if made:
        run = _run(version, puts, made, taken)
        flat.feed.append(runs.change_row(lane.number, sequence, run, flat.now_us, puts.pattern.content_type))
        flat.tokens += runs.token_rows(token_head, run, account.sequence + 1, apart=apart)
        created = sum(made)
        account.sequence = sequence
        account.records += created
        account.items += created
        account.size += grown
        account.newest = max(account.newest, version)
        account.newest_token_us = max(account.newest_token_us, puts.token.time_us)
    return taken


def _run(version: bytes, puts: Alike, made: list[bool], taken: Sequence[Receipt | None]) -> Run:
    """The puts that were taken."""
    records, bodies, sizes = puts.records, puts.bodies, list(map(len, puts.values))
    if len(made) < len(taken):
        at = [index for index, receipt in enumerate(taken) if receipt is not None]
        records, bodies = [records[index] for index in at], [bodies[index] for index in at]
        sizes = [sizes[index] for index in at]
    return Run(version, records, bodies, made, sizes)


def _plain(lane: Lane, puts: Alike) -> bool:
    """Whether nothing that they share stands against it."""
    pattern = puts.pattern
    if lane.cas or not lane.plain or pattern.key or pattern.expire_us or pattern.chunked:
        return False
    return pattern.condition is None or pattern.condition.kind is ConditionKind.OLDER_THAN


class _Piece(NamedTuple):
    """What puts of one size share: what stands before the value in the record's row, and the size that is charged."""

    head: bytes
    size: int


class _Mould:
    """What the rows of puts that are alike share, when each of them is all that its record has."""

    def __init__(self, puts: Alike, now_us: int) -> None:
        condition = puts.pattern.condition
        self.version = token_version(puts.token) if condition is None else condition.operand
        self._ordered = 0 if condition is None else ORDERED
        self._now_us = now_us
        kind, attributes = puts.pattern.content_type, puts.pattern.attributes
        self._meta = rows.meta(kind, attributes) if kind or attributes else b""

    def piece(self, value_size: int) -> _Piece | None:
        """That of puts whose values have this size; None when they are too large to lie in their records' rows."""
        size = rows.HEADER_SIZE + len(self._meta) + value_size
        if size > INLINE_SIZE:
            return None
        head = ROW.pack(FLAT_ONLY | self._ordered, self.version, 1, 1, 0, 0, size)
        cell = rows.header(self.version, self._now_us, self._ordered, 1 if self._meta else 0)
        return _Piece(head + cell + self._meta, size)

    def replaces(self, row: bytes) -> int | None:
        """The size that a record's row was charged with, when one of these puts takes the place of all that it has."""
        flags, newest, items, immortal, last_expire_us, tombs, size = ROW.unpack_from(row)
        if flags & ~ORDERED != FLAT_ONLY or items != 1 or immortal != 1 or last_expire_us or tombs:
            return None
        if (newest, flags & ORDERED) > (self.version, self._ordered) or not rows.is_whole(row, ROW.size):
            return None
        there = rows.version_at(row, ROW.size)
        return int(size) if there < self.version or (there == self.version and not self._ordered) else None
