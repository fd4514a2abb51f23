"""A decision made into operations on rows: the record's own, its items', their tombstones, their past, the
sweeper's."""

from services.storage.domain import limits
from services.storage.domain.decide import Decision, RangeTomb, Stamp, merged_tombs
from services.storage.domain.errors import RangeDeletesExhausted
from services.storage.domain.feed import ItemChange
from services.storage.domain.model import Mode, Put
from services.storage.domain.namespace import Namespace
from services.storage.store import layout, rows
from services.storage.store.families import Families, Operation
from services.storage.store.history import History
from services.storage.store.record import INLINE_SIZE, StoredRecord


class Application:
    """One decision applied to one record, in memory: ``operations`` are what is left to write.

    ``changes`` are what the feed says of it (empty when readers see no difference); ``created`` and ``deleted`` its
    flags. ``added_records``, ``added_items`` and ``added_size`` go to the namespace's usage and may be negative.
    ``expiring`` says that the items removed ended by their expiry, so the record counts as alive until now.
    """

    __slots__ = (
        "_decision",
        "_families",
        "_gone",
        "_grace_us",
        "_history",
        "_namespace",
        "_now_us",
        "_put_keys",
        "_record",
        "added_items",
        "added_records",
        "added_size",
        "changes",
        "created",
        "deleted",
        "operations",
    )

    def __init__(
        self,
        families: Families,
        history: History,
        namespace: Namespace,
        record: StoredRecord,
        decision: Decision,
        *,
        now_us: int,
        grace_us: int,
        expiring: bool = False,
    ) -> None:
        """Raises RangeDeletesExhausted."""
        self._families = families
        self._history = history
        self._namespace = namespace
        self._record = record
        self._decision = decision
        self._now_us = now_us
        self._grace_us = grace_us
        self.operations: list[Operation] = []
        self.changes: list[ItemChange] = []
        self._gone: set[bytes] = set()
        self._put_keys = {put.key for put, _, _ in decision.puts}
        self._run(expiring)

    def _run(self, expiring: bool) -> None:
        record, decision = self._record, self._decision
        was_alive = expiring or record.alive(self._now_us)
        items, size, before = record.items_count, record.size, Stamp(record.version, record.ordered)
        for key in decision.removed:
            self._remove(key)
        for key, stamp in decision.tombs.items():
            if key not in self._put_keys:
                self._bury(key, stamp)
        if decision.range_tombs:
            self._bury_ranges(decision.range_tombs)
        lasting = False
        for put, version, ordered in decision.puts:
            lasting |= self._put(put, version, ordered)
        if not record.items_count:
            record.immortal = record.last_expire_us = 0
        is_alive = lasting or record.alive(self._now_us, self._gone)
        self.created = is_alive and not was_alive
        # A record whose last items had expired ends for the feed when they are taken out, by the sweep or before it,
        # unless a delete ended it already, or it never began: an item may have expired when it comes.
        taken_out = items > 0 and not record.items_count
        self.deleted = not is_alive and (expiring or (not record.ended and (was_alive or taken_out)))
        if is_alive or not record.items_count:
            record.ended = False
        elif self.deleted or not items:
            record.ended = True
        self._stamp(before if was_alive else Stamp(b"", False))
        self.added_items, self.added_size = record.items_count - items, record.size - size
        self.added_records = (record.items_count > 0) - (items > 0)
        self._write_record()

    def _remove(self, key: bytes) -> None:
        row = self._record.item_row(key)
        assert row is not None  # the decision saw it
        self._take_out(key, row, self._decision.version)
        if key not in self._put_keys:
            self.changes.append(ItemChange(key, True, "", 0))
            self._gone.add(key)

    def _take_out(self, key: bytes, row: bytes, deleted_by: bytes) -> None:
        """Counts an item out and moves it aside."""
        record = self._record
        record.items_count -= 1
        record.size -= record.charged(key, row)
        if not rows.known(row).expire_us:
            record.immortal -= 1
        if row is record.flat:
            record.flat = None
        else:
            self.operations.append((self._families.items, record.prefix + key, None))
        record.loaded[key] = None
        self._history.retire(
            self.operations,
            record.number,
            self._namespace.settings.retention,
            record.prefix,
            key,
            row,
            deleted_by,
            self._now_us,
        )

    def _bury(self, key: bytes, stamp: Stamp) -> None:
        record = self._record
        row = rows.encode_tomb(stamp.version, self._now_us, ordered=stamp.ordered)
        if key == b"":
            record.flat = row
        else:
            place = record.prefix + key
            if not record.tombs_count or self._families.tombs.get(place) is None:
                record.tombs_count += 1
            self.operations.append((self._families.tombs, place, row))
        self._due(self._now_us + self._grace_us, layout.TOMB, record.prefix[4:] + key)

    def _bury_ranges(self, tombs: list[RangeTomb]) -> None:
        record = self._record
        record.range_tombs = merged_tombs([*record.range_tombs, *tombs], self._now_us)
        if len(record.range_tombs) > limits.MAX_RANGE_TOMBS:
            raise RangeDeletesExhausted(
                f"the record has had {limits.MAX_RANGE_TOMBS} deletes of different ranges within"
                f" {self._grace_us // 1_000_000} s; delete a range that covers them, or single keys"
            )
        self._due(self._now_us + self._grace_us, layout.RANGE_TOMB, record.key)

    def _put(self, put: Put, version: bytes, ordered: bool) -> bool:
        """Writes one item; answers whether readers see it."""
        record, key, now_us = self._record, put.key, self._now_us
        old = record.item_row(key)
        if old is not None and not rows.known(old).dead:
            self._take_out(key, old, b"")
        elif record.tombs_count and key and self._families.tombs.get(record.prefix + key) is not None:
            record.tombs_count -= 1
            self.operations.append((self._families.tombs, record.prefix + key, None))
        expire_us = put.expire_us
        row = rows.encode(
            version,
            self._decision.write_us.get(key, now_us),
            expire_us,
            ordered=ordered,
            content_type=put.content_type,
            attributes=put.attributes,
            value=put.value,
            chunked=put.chunked,
        )
        record.items_count += 1
        record.size += len(key) + (rows.charged_size(row) if put.chunked else len(row))
        if expire_us:
            record.last_expire_us = max(record.last_expire_us, expire_us)
            self._due(expire_us, layout.EXPIRE, record.prefix[4:] + key)
        else:
            record.immortal += 1
        if key == b"" and len(row) <= INLINE_SIZE:
            record.flat = row
        else:
            if key == b"":
                record.flat = None
            self.operations.append((self._families.items, record.prefix + key, row))
        size = len(put.value)
        if put.chunked:
            manifest = rows.manifest_of(row)
            size = manifest.size
            self.operations.append((self._families.chunks, layout.finished_key(record.number, manifest.upload), b""))
        self.changes.append(ItemChange(key, False, put.content_type, size))
        self._gone.add(key)  # the scan for a living item would find its former row
        return not expire_us or expire_us > now_us

    def _stamp(self, before: Stamp) -> None:
        """Sets the record's version: the newest that wrote or removed something since it came into being."""
        record, decision = self._record, self._decision
        if not self.changes:
            return
        if self._namespace.settings.mode is Mode.CAS:
            record.version, record.ordered = decision.version, False
            return
        stamps = [before, *decision.tombs.values()]
        stamps += [Stamp(version, ordered) for _, version, ordered in decision.puts]
        if decision.removed:
            stamps += [Stamp(tomb.version, tomb.ordered) for tomb in decision.range_tombs]
        record.version, record.ordered = max(stamps)

    def _write_record(self) -> None:
        record, families = self._record, self._families
        place = layout.prefix(record.number) + record.key
        row = record.row()
        if row is not None or record.exists:
            self.operations.append((families.records, place, row))
        if self.added_records and layout.sampled(record.key):
            self.operations.append((families.samples, place, b"" if self.added_records > 0 else None))

    def _due(self, due_us: int, kind: int, rest: bytes) -> None:
        key = layout.due_key(due_us, self._record.number, kind, rest)
        self.operations.append((self._families.due, key, b""))
