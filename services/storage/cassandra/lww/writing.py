"""What a step did to an LWW record, as writes of cells, each with its own timestamp: what they leave does not depend on
the order in which they arrive, nor on how often.

A row that the engine puts is a cell stamped by its version (plain) or by the step (ordered). What the engine takes away
without leaving a tombstone is removed at the time of its own cell: whatever was written since stays.
"""

import functools
from collections.abc import Sequence
from typing import Any, Final

from libs.cassandra.session import Statement
from services.storage.cassandra.commit import Change
from services.storage.cassandra.lanes import Intent
from services.storage.cassandra.lww.buckets import kinds_of, landing_of
from services.storage.cassandra.lww.cells import (
    LATEST,
    NO_CELLS,
    Cells,
    Head,
    Range,
    buries,
    encode_head,
    encode_ordered,
    encode_plain,
    encode_range,
    range_id,
    time_of,
)
from services.storage.cassandra.lww.record import LwwPartition, parsed
from services.storage.cassandra.partition import HEAD, HISTORY, ITEMS, TOKENS, TOMBS
from services.storage.cassandra.sums import ORDERED_AT, PLAIN_AT, ROW_AT, Sums
from services.storage.domain.decide import RangeTomb, visible
from services.storage.domain.model import NO_VERSION
from services.storage.store import layout as keys
from services.storage.store import rows
from services.storage.store.record import FLAT_ONLY, ROW, StoredRecord

ANNOUNCED: Final = 5
"""The kind of the rows that say that an announced change happened."""
ANNOUNCED_TTL_S: Final = 12 * 3600
"""How long such a row stays: longer than a node that was away gets writes after its return (Cassandra keeps them for 3
hours by default)."""
Writes = list[tuple[Statement, Sequence[Any]]]


class Writing:
    """The writes of one step. ``stamp``: that of the record after it. ``dues``: entries for the sweeper beside the
    engine's. ``before``, ``after``: removals in the buckets of a record that was spread. Before are those of what
    nobody sees; after, those of what a range tombstone in the batch hides: they are made up for when that is forgotten.
    """

    def __init__(
        self, change: Change, partition: LwwPartition, write: dict[str, Statement], now_us: int, token_ttl_s: int
    ) -> None:
        self.stamp = change.sequence
        self.dues: list[bytes] = []
        self._change = change
        self._partition = partition
        self._write = write
        self._now_us = now_us
        self._token_ttl_s = token_ttl_s
        self._sums = Sums(partition.place)
        self._kind = landing_of(partition.note)
        self.before: Writes = []
        self.after: Writes = []
        self._writes: Writes = []

    def cells(self) -> None:
        """Adds what the step did to the record. Call it once."""
        change = self._change
        partition = self._partition
        new = partition.head_cell is None and not partition.cells and not partition.ranges
        if new and not change.rows and self._flat():
            return
        touched = self._touched()
        for cells in (partition.cells.get(key, NO_CELLS) for key in touched):
            if cells.plain is not None:
                # Above what was written by a clock that is ahead, for what comes later to count.
                self.stamp = max(self.stamp, min(time_of(rows.known(cells.plain).version) + 1, LATEST))
        for key, row in touched.items():
            self._item(key, row)
        for (kind, key), value in change.rows.items():
            if kind == HISTORY:
                self._row(HISTORY, key, value)
        if change.has_head:
            self._own()

    def _flat(self) -> bool:
        """Adds the cells of a record that was not there and is nothing but its plain flat item now; False, having
        added nothing, when it is more than that. What the rest of this class would add, in a tenth of the time."""
        head, place = self._change.head, self._partition.place
        if head is None or head[0] != FLAT_ONLY:
            return False
        version, row = ROW.unpack_from(head)[1], head[ROW.size :]
        known = rows.known(row)
        if known.dead or known.ordered or known.version != version:
            return False
        self._plain(b"", version, row)
        self._add("lww_put", (self.stamp, encode_head(Head(self.stamp, version, False, False)), *place, HEAD, b""))
        return True

    def batch(self, intent: Intent | None) -> Writes:
        """All of it; ``intent`` announced the change, if there is one: by its token, when the word that it happened is
        to lie with what is remembered of it. Call it once, after the rest."""
        change = self._change
        lane = intent.lane if intent is not None else 0
        if intent is not None and intent.token and change.token is not None and change.event is not None:
            token, row = change.token
            values = (change.sequence, max(self._token_ttl_s, ANNOUNCED_TTL_S), row + lane.to_bytes(8, "big"))
            word = (announced_key(lane, change.sequence), change.event)
            self._add("lww_remember", (*values, *word, *self._partition.place, TOKENS, token))
            return self._writes
        if change.token is not None:
            token, row = change.token
            values = (change.sequence, self._token_ttl_s, row + lane.to_bytes(8, "big"))
            self._add("lww_lasting", (*values, *self._partition.place, TOKENS, token))
        if lane and change.event is not None:
            values = (change.sequence, ANNOUNCED_TTL_S, change.event)
            self._add("lww_lasting", (*values, *self._partition.place, ANNOUNCED, announced_key(lane, change.sequence)))
        return self._writes

    def covered(self, ended: Sequence[RangeTomb]) -> Writes:
        """Removes what lies under range tombstones that are forgotten: nothing would hide it any more."""
        writes: Writes = []
        for key, cells in self._partition.cells.items():
            for row, version in [(cells.plain, b""), *((one.row, version) for version, one in cells.ordered.items())]:
                if row is None or rows.known(row).dead:
                    continue
                if any(buries(tomb, key, rows.known(row)) for tomb in ended):
                    writes += self._removal(key, cells, version, self.before)
        return writes

    def ended(self) -> list[RangeTomb]:
        """The range tombstones that the step forgets because their time is over."""
        if not self._change.has_head:
            return []
        after = {range_id(tomb) for tomb in self._after.range_tombs}
        before = self._partition.ranges.items()
        return [one.tomb for name, one in before if name not in after and one.tomb.due_us <= self._now_us]

    @functools.cached_property
    def _after(self) -> StoredRecord:
        return parsed(self._partition.place, self._change.head)

    def _touched(self) -> dict[bytes, bytes | None]:
        """The items that were written, with the row that each has now: an item's, a tombstone, None for neither."""
        touched: dict[bytes, bytes | None] = {}
        for (kind, key), value in self._change.rows.items():
            if kind in (ITEMS, TOMBS) and (value is not None or touched.get(key) is None):
                touched[key] = value
        if self._change.has_head:
            head = self._partition.head
            before = parsed(self._partition.place, head).flat
            after = self._after.flat
            if after != before and (after is not None or b"" not in touched):
                touched[b""] = after
        return touched

    # Items

    def _item(self, key: bytes, row: bytes | None) -> None:
        cells = self._partition.cells.get(key, NO_CELLS)
        if row is None:
            self._take_away(key, cells)
        elif rows.known(row).ordered:
            self._put_ordered(key, row, cells)
        else:
            version = rows.known(row).version
            self._plain(key, version, row)
            for one in cells.ordered:
                if not self._holds_off(cells.ordered[one].row):
                    self._writes += self._removal(key, cells, one)

    def _put_ordered(self, key: bytes, row: bytes, cells: Cells) -> None:
        known, place = rows.known(row), self._partition.place
        cell = encode_ordered(self.stamp, row)
        cell = self._sums.seal(ITEMS, key, cell, ORDERED_AT, version=known.version)
        self._add("lww_put_more", (self.stamp, known.version, cell, *place, self._kind, key))
        for version in cells.ordered:
            if version < known.version:
                self._writes += self._removal(key, cells, version)
        plain = cells.plain
        if plain is not None and not rows.is_dead(plain, 0):
            # Gone from here on; what is older than it must not come after it.
            version = rows.known(plain).version
            self._plain(key, version, rows.encode_tomb(version, self._now_us, ordered=False))
            self._due_tomb(key)

    def _plain(self, key: bytes, version: bytes, row: bytes) -> None:
        cell = self._sums.seal(ITEMS, key, encode_plain(row), PLAIN_AT)
        self._add("lww_put", (time_of(version), cell, *self._partition.place, self._kind, key))

    def _take_away(self, key: bytes, cells: Cells) -> None:
        row, _ = cells.shown(key, [], self._now_us)
        apart = self.after if row is not None and visible(rows.known(row), self._now_us) else self.before
        for version in cells.ordered:
            if cells.ordered[version].row is row or not self._holds_off(cells.ordered[version].row):
                self._writes += self._removal(key, cells, version)
        if cells.plain is None or self._shares_its_time(key, cells.plain):
            return
        if cells.plain is row or not self._holds_off(cells.plain):
            self._writes += self._removal(key, cells, b"", apart)

    def _shares_its_time(self, key: bytes, plain: bytes) -> bool:
        """Whether a plain row lies under a range tombstone of its very microsecond: a removal at that time would take
        a put of it with a greater nonce as well, which is not here yet and is above the tombstone. ``covered`` comes
        for the row when the tombstone is forgotten."""
        known = rows.known(plain)
        same = [one for one in self._after.range_tombs if time_of(one.version) == time_of(known.version)]
        return any(buries(one, key, known) for one in same)

    def _holds_off(self, row: bytes) -> bool:
        """Whether a row is a tombstone whose grace is not over."""
        return rows.is_dead(row, 0) and rows.write_time(row) + self._partition.grace_us > self._now_us

    def _removal(self, key: bytes, cells: Cells, version: bytes, apart: Writes | None = None) -> Writes:
        """The removal of one cell, at its own time: of the plain one without a version. With it goes what is older in
        other places; plain cells lie in buckets too: removals there are added to ``apart``."""
        place, note = self._partition.place, self._partition.note
        if version:
            stamp = cells.ordered[version].stamp
            drop = self._write["lww_drop_more"]
            return [(drop, (version, stamp, *place, kind, key)) for kind in kinds_of(note)]
        assert cells.plain is not None
        stamp = time_of(cells.plain[:16])
        if note is not None and apart is not None:
            drop = self._write["spread_drop"]
            apart += [(drop, (stamp, *place, run.name, run.of(key), ITEMS, key)) for run in note.runs]
        return [(self._write["lww_drop"], (stamp, *place, kind, key)) for kind in kinds_of(note)]

    def _due_tomb(self, key: bytes) -> None:
        number, record = self._partition.place
        rest = keys.escaped(record) + key
        self.dues.append(keys.due_key(self._now_us + self._partition.grace_us, number, keys.TOMB, rest))

    # The record as a whole

    def _own(self) -> None:
        """Its newest version and its range tombstones. A record that has nothing left keeps its own cell for a while:
        see ``burial.py``."""
        partition, place = self._partition, self._partition.place
        after = self._after
        known = {range_id(one) for one in after.range_tombs}
        # With tombstones of single items among them.
        old = {range_id(tomb) for tomb in parsed(place, partition.head).range_tombs}
        for tomb in after.range_tombs:
            name = range_id(tomb)
            if name not in old and name not in partition.ranges:
                cell = encode_range(Range(self.stamp, tomb))
                self._add("lww_put_more", (self.stamp, name, cell, *place, HEAD, b""))
        for name, one in partition.ranges.items():
            if name not in known:
                self._add("lww_drop_more", (name, one.stamp, *place, HEAD, b""))
        if self._change.head is not None:
            head = Head(self.stamp, after.version or NO_VERSION.ljust(16, b"\0"), after.ordered, after.ended)
            self._add("lww_put", (self.stamp, encode_head(head), *place, HEAD, b""))

    def _row(self, kind: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._add("lww_drop", (self.stamp, *self._partition.place, kind, key))
        else:
            value = self._sums.seal(kind, key, value, ROW_AT)
            self._add("lww_put", (self.stamp, value, *self._partition.place, kind, key))

    def _add(self, name: str, values: Sequence[Any]) -> None:
        self._writes.append((self._write[name], values))


def announced_key(lane: int, sequence: int) -> bytes:
    """The key of the row that says that an announced change happened."""
    return lane.to_bytes(8, "big") + sequence.to_bytes(8, "big")
