"""A whole namespace as it was at one moment: its records and their items read side by side from pinned iterators."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

from services.storage.domain.copying import Copied
from services.storage.domain.decide import visible
from services.storage.domain.model import Put
from services.storage.domain.namespace import Namespace
from services.storage.store import layout, rows
from services.storage.store.families import Families
from services.storage.store.kv import Kv, Snapshot
from services.storage.store.manifest import Manifest
from services.storage.store.record import StoredRecord
from services.storage.store.uploads import checked_chunk

_TURN_BYTES: Final = 256 * 1024
_TURN_ROWS: Final = 256
"""What is read in one turn of the loop: about a millisecond."""


class Copier:
    """Copies out of a store."""

    def __init__(self, kv: Kv, families: Families, clock_us: Callable[[], int]) -> None:
        self._kv = kv
        self._families = families
        self._clock_us = clock_us

    async def copy(self, namespace: Namespace, records: Sequence[bytes] | None = None) -> AsyncIterator[Copied | bytes]:
        """As ``Store.copy``."""
        families, now_us = self._families, self._clock_us()
        snapshot: Snapshot = self._kv.snapshot("records", "items", "chunks")
        try:
            await self._kv.durable()
            size = 0
            for count, found in enumerate(_chosen(families, snapshot, namespace.number, records), 1):
                record, key, row = found
                size += len(row)
                if count % _TURN_ROWS == 0 or size > _TURN_BYTES:
                    size = 0
                    await asyncio.sleep(0)
                if not visible(rows.known(row), now_us):
                    continue
                item, manifest = copied(record, key, row)
                yield item
                for index, length in enumerate(manifest.chunk_sizes if manifest else ()):
                    assert manifest is not None
                    place = layout.chunk_key(namespace.number, manifest.upload, index)
                    yield checked_chunk(snapshot.get(families.chunks, place), length)
                    await asyncio.sleep(0)
        finally:
            snapshot.close()


def _chosen(
    families: Families, snapshot: Snapshot, number: int, records: Sequence[bytes] | None
) -> Iterator[tuple[StoredRecord, bytes, bytes]]:
    """As ``_rows``, of ``records`` alone when they are given."""
    if records is None:
        yield from _rows(families, snapshot, number)
        return
    for key in dict.fromkeys(records):
        row = snapshot.get(families.records, layout.prefix(number) + key)
        if row is not None:
            record = StoredRecord(number, key, row, families.items, families.tombs)
            if record.flat is not None:
                yield record, b"", record.flat
            if record.outside:
                for place, item in snapshot.scan(families.items, record.prefix):
                    yield record, place[len(record.prefix) :], item


def _rows(families: Families, snapshot: Snapshot, number: int) -> Iterator[tuple[StoredRecord, bytes, bytes]]:
    """(record, item key, item's row) of all items, by record and key: both families are in the order of records."""
    outside: Any = snapshot.scan(families.items, layout.prefix(number))
    ahead = next(outside, None)
    for place, row in snapshot.scan(families.records, layout.prefix(number)):
        record = StoredRecord(number, place[4:], row, families.items, families.tombs)
        if record.flat is not None:
            yield record, b"", record.flat
        while ahead is not None and ahead[0] < record.prefix:
            ahead = next(outside, None)
        while ahead is not None and ahead[0].startswith(record.prefix):
            yield record, ahead[0][len(record.prefix) :], ahead[1]
            ahead = next(outside, None)


def copied(record: StoredRecord, key: bytes, row: bytes) -> tuple[Copied, Manifest | None]:
    """An item in its row, and the manifest of a chunked one."""
    item = rows.decode(key, row)
    manifest = rows.manifest_of(row) if item.chunked else None
    put = Put(key, item.value, item.content_type, item.attributes, item.expire_us, None, item.chunked)
    crc = manifest.crc32c if manifest is not None else 0
    ordered = rows.known(row).ordered
    return Copied(record.key, record.version, put, item.version, ordered, item.write_us, item.size, crc), manifest
