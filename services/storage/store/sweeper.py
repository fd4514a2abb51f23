"""Removes what time has ended: expired items, tombstones, earlier versions, chunks, old tokens, the feed's far end.

Each turn is bounded, and each of its batches is one step of the loop. An entry of ``due`` only says where to look:
what is found there now decides, so an entry that was overtaken does nothing.
"""

from collections.abc import Callable
from itertools import groupby, islice
from typing import Final

from libs.errors.errors import WellspringError
from services.storage.domain.decide import Decision, Known, Stamp, visible
from services.storage.domain.feed import EXPIRED_ANNOTATION
from services.storage.domain.model import Mode
from services.storage.domain.namespace import Namespace
from services.storage.domain.versions import expiry_version
from services.storage.store import events, layout, rows
from services.storage.store.catalog import Catalog
from services.storage.store.families import Families, Operation, fill
from services.storage.store.history import History
from services.storage.store.kv import Kv
from services.storage.store.ledger import Ledger, usage_key
from services.storage.store.record import StoredRecord
from services.storage.store.settling import Settling
from services.storage.store.writer import Writer

_STEP: Final = 500
"""Entries of one batch: some milliseconds of the loop."""
_NAMESPACES: Final = 100
"""Namespaces whose tokens and feed one turn looks at; the next turn goes on behind them."""


class Sweeper:
    """The sweeper of a store."""

    def __init__(
        self,
        kv: Kv,
        families: Families,
        history: History,
        ledger: Ledger,
        catalog: Catalog,
        settling: Settling,
        writer: Writer,
        *,
        grace_us: int,
        token_window_us: int,
    ) -> None:
        self._kv = kv
        self._families = families
        self._history = history
        self._ledger = ledger
        self._catalog = catalog
        self._settling = settling
        self._writer = writer
        self._grace_us = grace_us
        self._token_window_us = token_window_us
        self._trimmed = 0  # the number of the namespace that was trimmed last

    async def sweep(self, now_us: int, budget: int) -> bool:
        """As ``Store.sweep``."""
        more = False
        while budget > 0:
            swept = await self._sweep_due(now_us, min(budget, _STEP))
            budget -= max(swept, 1)
            more = swept == _STEP
            if not swept:
                break
        numbers = sorted(self._catalog.by_number)
        after = [number for number in numbers if number > self._trimmed][:_NAMESPACES]
        for number in after:
            space = self._catalog.by_number.get(number)
            if space is not None:
                more |= await self._trim(space, now_us, _STEP)
        self._trimmed = after[-1] if len(after) == _NAMESPACES else 0
        return more

    async def _sweep_due(self, now_us: int, limit: int) -> int:
        """Works on the first entries that are due; answers how many."""
        scan = self._families.due.scan_keys(end=layout.due_bound(now_us))
        entries = [(key, *layout.parse_due(key)) for key in islice(scan, limit)]
        if not entries:
            return 0
        by_kind = sorted(entries, key=lambda entry: entry[2:])
        for (number, kind), group in groupby(by_kind, key=lambda entry: entry[2:4]):
            mine = list(group)
            operations: list[Operation] = [(self._families.due, entry[0], None) for entry in mine]
            space = self._catalog.by_number.get(number)
            if space is not None:
                self._sweepers()[kind](operations, space, [entry[4] for entry in mine], now_us)
            await self._write(operations, number if space is not None else None)
        return len(entries)

    def _sweepers(self) -> dict[int, Callable[[list[Operation], Namespace, list[bytes], int], None]]:
        return {
            layout.EXPIRE: self._expire,
            layout.TOMB: self._forget_tombs,
            layout.RANGE_TOMB: self._forget_ranges,
            layout.VERSION: self._forget_versions,
            layout.UPLOAD: self._drop_chunks,
            layout.UNFINISHED: self._drop_unfinished,
        }

    async def _write(self, operations: list[Operation], number: int | None) -> None:
        batch = self._kv.batch()
        batch.frees = True
        fill(batch, operations)
        account = None if number is None else self._ledger.account(number)
        if account is not None:
            batch.put(self._families.meta, usage_key(account.number), account.usage_row())
        try:
            durable = self._kv.submit(batch)
        except WellspringError:
            if account is not None:
                self._ledger.reload(account)
            raise
        self._settling.mark(())
        if account is not None:
            account.wake()
        await self._settling.wait(durable)

    # Each of these gets the rests of due entries of one namespace and kind, sorted, and adds the operations of one
    # batch. Entries of one record come together and are one change of it: two of a record in one batch would not see
    # each other.

    def _expire(self, operations: list[Operation], space: Namespace, rests: list[bytes], now_us: int) -> None:
        for key, places in groupby(rests, key=lambda rest: layout.unescaped(rest, 0)[0]):
            record = self._writer.load(space.number, key)
            if not record.items_count:
                continue
            removed: dict[bytes, Known] = {}
            tombs: dict[bytes, Stamp] = {}
            skip = len(layout.escaped(key))
            for item_key in dict.fromkeys(place[skip:] for place in places):
                row = record.item_row(item_key)
                known = None if row is None else rows.known(row)
                if row is None or known is None or known.dead or visible(known, now_us):
                    continue
                removed[item_key] = known
                # Until its grace is over, a late write must still find what it is behind.
                if space.settings.mode is Mode.LWW and rows.write_time(row) + self._grace_us > now_us:
                    tombs[item_key] = Stamp(known.version, known.ordered)
            if removed:
                decision = Decision(max(expiry_version(known.expire_us, known.version) for known in removed.values()))
                decision.removed, decision.tombs = removed, tombs
                self._writer.apply(
                    operations,
                    space,
                    record,
                    decision,
                    now_us=now_us,
                    annotations=(EXPIRED_ANNOTATION,),
                    expiring=True,
                    free=True,
                )

    def _forget_tombs(self, operations: list[Operation], space: Namespace, rests: list[bytes], now_us: int) -> None:
        for key, places in groupby(rests, key=lambda rest: layout.unescaped(rest, 0)[0]):
            record = self._writer.load(space.number, key)
            skip, changed = len(layout.escaped(key)), False
            for item_key in dict.fromkeys(place[skip:] for place in places):
                if item_key == b"":
                    row = record.flat
                    if row is not None and self._is_old_tomb(row, now_us):
                        record.flat, changed = None, True
                    continue
                place = record.prefix + item_key
                row = self._families.tombs.get(place)
                if row is not None and self._is_old_tomb(row, now_us):
                    operations.append((self._families.tombs, place, None))
                    record.tombs_count -= 1
                    changed = True
            if changed:
                self._rewrite(operations, record)

    def _forget_ranges(self, operations: list[Operation], space: Namespace, rests: list[bytes], now_us: int) -> None:
        for key in dict.fromkeys(rests):
            record = self._writer.load(space.number, key)
            kept = [tomb for tomb in record.range_tombs if tomb.due_us > now_us]
            if len(kept) < len(record.range_tombs):
                record.range_tombs = kept
                self._rewrite(operations, record)

    def _forget_versions(self, operations: list[Operation], space: Namespace, rests: list[bytes], now_us: int) -> None:
        for rest in rests:
            key = layout.prefix(space.number) + rest
            past = self._history.get(key)
            if past is not None:
                operations.append((self._families.history, key, None))
                self._history.release(operations, space.number, past.row, now_us)

    def _drop_chunks(self, operations: list[Operation], space: Namespace, rests: list[bytes], now_us: int) -> None:
        for upload in rests:
            prefix = layout.chunk_prefix(space.number, upload)
            operations += [(self._families.chunks, key, None) for key in self._families.chunks.scan_keys(prefix)]

    def _drop_unfinished(self, operations: list[Operation], space: Namespace, rests: list[bytes], now_us: int) -> None:
        open_ones = [
            rest for rest in rests if self._families.chunks.get(layout.finished_key(space.number, rest)) is None
        ]
        self._drop_chunks(operations, space, open_ones, now_us)

    def _is_old_tomb(self, row: bytes, now_us: int) -> bool:
        return rows.known(row).dead and rows.write_time(row) + self._grace_us <= now_us

    def _rewrite(self, operations: list[Operation], record: StoredRecord) -> None:
        operations.append((self._families.records, layout.prefix(record.number) + record.key, record.row()))

    async def _trim(self, space: Namespace, now_us: int, limit: int) -> bool:
        """Shortens the tokens and the feed of one namespace; True when there is more to do."""
        number, families = space.number, self._families
        end = layout.token_bound(number, now_us - self._token_window_us)
        old = list(islice(families.tokens.scan_keys(layout.prefix(number), end=end), limit))
        operations: list[Operation] = [(families.tokens, key, None) for key in old]
        newest = layout.feed_key(number, self._ledger.account(number).sequence)
        horizon_us = now_us - space.settings.retention.feed_window_us
        changes = 0
        for key, row in islice(families.feed.scan(layout.prefix(number), end=newest), limit):
            if events.event_time(row) >= horizon_us:
                break
            operations.append((families.feed, key, None))
            changes += 1
        if operations:
            await self._write(operations, None)
        return len(old) == limit or changes == limit
