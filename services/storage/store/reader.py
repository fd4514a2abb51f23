"""Reads: a page of a record, many of them, a piece of a namespace, and where to cut one into equal parts.

Expired items are not there for a reader, swept or not. Every read is bounded in what it answers and in what it
passes over.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from libs.errors.errors import WellspringError
from services.storage.domain.errors import BatchBudgetSpent
from services.storage.domain.model import ALL, NO_VERSION, Item
from services.storage.domain.namespace import Namespace
from services.storage.store import layout, rows
from services.storage.store.families import Families
from services.storage.store.interface import Page, Read, Scan, ScannedRecord, ScanPage
from services.storage.store.ledger import Ledger
from services.storage.store.record import StoredRecord, flat_only, version_of
from services.storage.store.settling import Settling

_EXAMINED: Final = 20_000
"""Items or records that one page passes over at most: a few ten milliseconds of the loop."""
_TOGETHER: Final = 64
"""Keys fetched by one read of the store."""
_COUNTED: Final = 20_000
"""Record keys that a split reads one by one; a larger namespace is cut by its samples."""
_OVERHEAD: Final = 64
"""What an item's version, times and framing add to its key and value in an answer."""
_EMPTY: Final = Page([], None, False, NO_VERSION, 0)


class Reader:
    """The reads of a store."""

    def __init__(self, families: Families, ledger: Ledger, settling: Settling, clock_us: Callable[[], int]) -> None:
        self._families = families
        self._ledger = ledger
        self._settling = settling
        self._clock_us = clock_us

    async def read(self, read: Read) -> Page:
        """As ``Store.read``."""
        place = layout.prefix(read.namespace.number) + read.record
        page = self._page(read, self._families.records.get(place), self._clock_us())
        await self._settling.settle((place,))
        return page

    async def read_many(self, reads: Sequence[Read], max_bytes: int) -> list[Page | WellspringError]:
        """As ``Store.read_many``."""
        places = [layout.prefix(read.namespace.number) + read.record for read in reads]
        now_us, left = self._clock_us(), max_bytes
        pages: list[Page | WellspringError] = []
        for first in range(0, len(reads), _TOGETHER):
            chunk = slice(first, first + _TOGETHER)
            for read, row in zip(reads[chunk], self._families.records.get_many(places[chunk]), strict=True):
                if left <= 0:
                    pages.append(BatchBudgetSpent("the batch's answer is full; ask again for this one and the rest"))
                    continue
                page = self._page(read._replace(max_bytes=min(read.max_bytes, left)), row, now_us)
                left -= page.size
                pages.append(page)
        await self._settling.settle(places)
        return pages

    async def scan(self, scan: Scan) -> ScanPage:
        """As ``Store.scan``. A position is a record's key, escaped, and the key of the item after which to go on in it;
        without an item key the record is done."""
        page = self._scan(scan, self._clock_us())
        await self._settling.settle()
        return page

    async def split(self, namespace: Namespace, parts: int) -> list[bytes]:
        """As ``Store.split``."""
        if parts < 2:
            return []
        number = namespace.number
        few = self._ledger.account(number).records <= _COUNTED
        family = self._families.records if few else self._families.samples
        keys = [key[4:] for key in islice(family.scan_keys(layout.prefix(number)), 4 * _COUNTED)]
        await self._settling.settle()
        cuts = [keys[len(keys) * part // parts] for part in range(1, parts)] if keys else []
        return [cut for index, cut in enumerate(cuts) if cut != (cuts[index - 1] if index else keys[0])]

    def _page(self, read: Read, row: bytes | None, now_us: int) -> Page:
        if row is None:
            return _EMPTY
        flat = flat_only(row) if read.selection == ALL and read.after is None else None
        if flat is not None:
            return flat_page(flat, version_of(row), now_us, omit_value=read.omit_values)
        families = self._families
        record = StoredRecord(read.namespace.number, read.record, row, families.items, families.tombs)
        if not record.alive(now_us):
            return _EMPTY
        items, resume, size, overdue = self._items(record, read, now_us)
        return Page(items, resume, True, record.version, size, overdue)

    def _items(self, record: StoredRecord, read: Read, now_us: int) -> tuple[list[Item], bytes | None, int, bool]:
        """The page's items, the key to go on after (None at the end), their size, and whether any are overdue."""
        items: list[Item] = []
        size, last, overdue = 0, b"", False
        for examined, (key, row) in enumerate(self._selected(record, read), 1):
            if row is not None:
                known = rows.known(row)
                if known.expire_us and known.expire_us <= now_us:
                    overdue = True
                elif not known.dead:
                    item = rows.decode(key, row, omit_value=read.omit_values)
                    size += len(key) + (rows.HEADER_SIZE if read.omit_values else len(row)) + _OVERHEAD
                    if items and (len(items) >= read.max_items or size > read.max_bytes):
                        return items, last, size, overdue
                    items.append(item)
            last = key
            if examined >= _EXAMINED:
                return items, last, size, overdue
        return items, None, size, overdue

    def _selected(self, record: StoredRecord, read: Read) -> Iterator[tuple[bytes, bytes | None]]:
        selection, after = read.selection, read.after
        if selection.keys is None:
            yield from record.rows(selection, after)
            return
        keys = list(selection.keys)
        if selection.reverse:
            keys = [key for key in reversed(keys) if after is None or key < after]
        elif after is not None:
            keys = [key for key in keys if key > after]
        for first in range(0, len(keys), _TOGETHER):
            some = keys[first : first + _TOGETHER]
            if len(some) > 1:
                record.preload(some)
            for key in some:
                yield key, record.item_row(key)
            record.loaded.clear()

    def _scan(self, scan: Scan, now_us: int) -> ScanPage:
        families, number = self._families, scan.namespace.number
        start, begun, after = scan.start, None, None
        if scan.position is not None:
            begun, at = layout.unescaped(scan.position, 0)
            after = scan.position[at + 1 :] if scan.position[at : at + 1] else None
            start = begun if after is not None else begun + b"\0"
        low, high = layout.prefix(number), None if scan.end is None else layout.prefix(number) + scan.end
        records: list[ScannedRecord] = []
        size, everything = 0, scan.selection == ALL
        for examined, (place, row) in enumerate(families.records.scan(low, start=low + start, end=high), 1):
            key = place[4:]
            flat = flat_only(row) if everything and key != begun else None
            if flat is not None:
                page = flat_page(flat, b"", now_us, omit_value=scan.omit_values)
                if page.found:
                    size += page.size + len(key)
                    records.append(ScannedRecord(key, page.items, False))
            elif (record := StoredRecord(number, key, row, families.items, families.tombs)).alive(now_us):
                left, seen = scan.max_bytes - size, after if key == begun else None
                read = Read(scan.namespace, key, scan.selection, seen, left, 1 << 31, scan.omit_values)
                items, resume, added, _ = self._items(record, read, now_us)
                size += added + len(key)
                records.append(ScannedRecord(key, items, resume is not None))
                if resume is not None:
                    return ScanPage(records, layout.escaped(key) + b"\x01" + resume)
            if len(records) >= scan.max_records or size >= scan.max_bytes or examined >= _EXAMINED:
                return ScanPage(records, layout.escaped(key))
        return ScanPage(records, None)


def flat_page(row: bytes, version: bytes, now_us: int, *, omit_value: bool) -> Page:
    """The page of a record that is its flat item."""
    item = rows.decode(b"", row, omit_value=omit_value)
    if item.expire_us and item.expire_us <= now_us:
        return _EMPTY
    return Page([item], None, True, version, (rows.HEADER_SIZE if omit_value else len(row)) + _OVERHEAD)
