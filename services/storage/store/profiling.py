"""What single records hold, read from their rows: for people who look for the ones that hurt."""

from itertools import islice
from typing import Final

from services.storage.domain.model import Selection
from services.storage.domain.namespace import Namespace
from services.storage.store import layout, rows
from services.storage.store.families import Families
from services.storage.store.interface import RecordProfile
from services.storage.store.record import StoredRecord

_BIG: Final = 64 * 1024
"""A record of less cannot have a big value; of a larger one some items are looked at."""
_LOOKED_AT: Final = 64
_READ: Final = 256 * 1024
"""Bytes of items that are looked at in a record; the one that passes the bound is the last."""


class Profiler:
    """Reads records' rows."""

    def __init__(self, families: Families) -> None:
        self._families = families

    async def profile(self, namespace: Namespace, start: bytes, limit: int) -> list[RecordProfile]:
        """As ``Store.profile``."""
        low = layout.prefix(namespace.number)
        found = islice(self._families.records.scan(low, start=low + start), limit)
        return [self._profiled(namespace.number, place[4:], row) for place, row in list(found)]

    def buckets(self, namespace: Namespace, record: bytes) -> tuple[int, int] | None:
        """As ``Store.rebucket``: here a record is one range of keys, however wide, and never cut."""
        row = self._families.records.get(layout.prefix(namespace.number) + record)
        return None if row is None else (1, 1)

    def _profiled(self, number: int, key: bytes, row: bytes) -> RecordProfile:
        record = StoredRecord(number, key, row, self._families.items, self._families.tombs)
        tombs = record.tombs_count + len(record.range_tombs)
        if record.flat is not None and rows.known(record.flat).dead:
            tombs += 1
        largest = record.size if record.items_count == 1 else self._largest(record)
        return RecordProfile(key, record.items_count, record.size, tombs, largest)

    def _largest(self, record: StoredRecord) -> int:
        """The biggest of the first items, or what one must have at least for the record to be so big."""
        if record.size < _BIG:
            return 0
        seen = read = 0
        for _, item in islice(record.rows(Selection()), _LOOKED_AT):
            seen = max(seen, rows.charged_size(item))
            read += len(item)
            if read > _READ:
                break
        return max(seen, record.size // max(1, record.items_count))
