"""A namespace copied out, record by record, and what was copied written in."""

import functools
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from libs.cassandra.session import QUORUM
from services.storage.cassandra.loader import Loader
from services.storage.cassandra.partition import ITEMS, Index, Loaded, Rows
from services.storage.cassandra.steps import Steps
from services.storage.cassandra.view import View
from services.storage.domain.copying import Copied
from services.storage.domain.decide import visible
from services.storage.domain.model import ALL
from services.storage.domain.namespace import Namespace
from services.storage.store import layout, rows
from services.storage.store.copying import copied
from services.storage.store.families import Families
from services.storage.store.local import LocalStore
from services.storage.store.manifest import Manifest
from services.storage.store.record import StoredRecord

_PAGE_BYTES: Final = 1 << 20
_PREFETCHED: Final = 100


class _Piece(NamedTuple):
    """Items of a record, and the key to go on after (None: these were the last)."""

    items: list[tuple[Copied, Manifest | None]]
    resume: bytes | None


class Copying:
    """Copies of one session."""

    def __init__(self, loader: Loader, steps: Steps) -> None:
        self._loader = loader
        self._steps = steps

    async def records(self, space: Namespace) -> AsyncIterator[bytes]:
        """The keys of the namespace's records, in order; some may have nothing any more."""
        start = b""
        while True:
            loaded = Loaded()
            await self._loader.load(Index(space.number, start, None, heads=False), loaded, QUORUM)
            span = loaded.index[space.number]
            for key in sorted(span.rows):
                yield key
            end = span.covered[0][1]
            if end is None:
                return
            start = end

    async def items(
        self, space: Namespace, record: bytes, now_us: int
    ) -> AsyncIterator[tuple[Copied, Manifest | None]]:
        """The items of a record that are visible at ``now_us``, by key; the manifest of each that is chunked."""
        after: bytes | None = None
        while True:
            work = functools.partial(_piece, number=space.number, record=record, after=after, now_us=now_us)
            piece = await self._steps.look(space, work)
            for item in piece.items:
                yield item
            if piece.resume is None:
                return
            after = piece.resume

    async def load(self, space: Namespace, items: Sequence[Copied], *, free: bool) -> list[bool]:
        """As ``Store.load``."""
        by_record: dict[bytes, list[int]] = {}
        for index, item in enumerate(items):
            by_record.setdefault(item.record, []).append(index)
        taken = [False] * len(items)
        for record, indexes in by_record.items():
            some = [items[index] for index in indexes]
            place = (space.number, record)
            wanted = Rows(place, tuple((ITEMS, item.put.key) for item in some[:_PREFETCHED] if item.put.key))
            work = functools.partial(_load, space=space, items=some, free=free)
            for index, done in zip(indexes, await self._steps.change(space, place, wanted, work), strict=True):
                taken[index] = done
        return taken


async def _load(store: LocalStore, space: Namespace, items: Sequence[Copied], free: bool) -> list[bool]:
    return await store.load(space, items, free=free)


async def _piece(view: View, number: int, record: bytes, after: bytes | None, now_us: int) -> _Piece:
    families = Families(view)
    row = families.records.get(layout.prefix(number) + record)
    found: list[tuple[Copied, Manifest | None]] = []
    if row is None:
        return _Piece(found, None)
    stored = StoredRecord(number, record, row, families.items, families.tombs)
    size = 0
    for key, item in stored.rows(ALL, after):
        if visible(rows.known(item), now_us):
            found.append(copied(stored, key, item))
        size += len(item)
        if size >= _PAGE_BYTES:
            return _Piece(found, key)
    return _Piece(found, None)
