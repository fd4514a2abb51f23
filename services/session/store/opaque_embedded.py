"""Opaque rows on this machine's disk: two families of `sessions/`.

opaque          realm \\0 name      written, end, epochs, sealed value
opaque_deleted  realm \\0 name      deleted, end

The event loop is the lock (libs/embedded): each method reads, decides and submits without waiting in between.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from libs.embedded.batch import Batch
from libs.embedded.family import Family
from libs.embedded.store import EmbeddedStore as Directory
from services.session.crypto.opaque import NAME_BYTES, pepper_of
from services.session.domain.opaque_model import OpaqueRow, OpaqueStored, OpaqueTombstone
from services.session.store import layout
from services.session.store.opaque_codec import decode_row, decode_tombstone, encode_row, encode_tombstone
from services.session.store.opaque_interface import Allowed, OpaquePatrolled

_BYTES: Final = 1 << 22
_STEP: Final = 10_000


class EmbeddedOpaque:
    """See `opaque_interface.OpaqueRows`. `keep` keeps a realm's sealed key where the store has the subjects'."""

    def __init__(self, sessions: Directory, keep: Callable[[str, bytes, bytes], Awaitable[bool]]) -> None:
        self._sessions = sessions
        self._keep = keep
        self._rows = sessions.family("opaque")
        self._deleted = sessions.family("opaque_deleted")
        self._resume: bytes | None = None

    async def read(self, realm: str, names: Sequence[bytes]) -> OpaqueStored:
        return self._read(realm, names)

    def _read(self, realm: str, names: Sequence[bytes]) -> OpaqueStored:
        row, tombstone = None, None
        for name in names:
            key = _key(realm, name)
            if (data := self._rows.get(key)) is not None:
                found = decode_row(name, data)
                row = found if row is None or row.written_us < found.written_us else row
            if (data := self._deleted.get(key)) is not None:
                stone = decode_tombstone(data)
                tombstone = stone if tombstone is None or tombstone.until_us < stone.until_us else tombstone
        return OpaqueStored(row, tombstone)

    async def write(self, realm: str, names: Sequence[bytes], row: OpaqueRow, allowed: Allowed) -> bool:
        def decide(batch: Batch) -> bool:
            if not allowed(self._read(realm, names)):
                return False
            for name in names:
                if name != row.name and self._rows.has(_key(realm, name)):
                    batch.delete(self._rows, _key(realm, name))
            batch.put(self._rows, _key(realm, row.name), encode_row(row))
            return True

        return await self._sessions.transact(decide)

    async def delete(
        self, realm: str, names: Sequence[bytes], tombstone: OpaqueTombstone, *, known: bool = False
    ) -> bool:
        def decide(batch: Batch) -> bool:
            batch.frees = True  # A deletion does not wait for room on the disk.
            there = self._deleted.get(_key(realm, names[0]))
            if there is None or decode_tombstone(there).until_us < tombstone.until_us:
                batch.put(self._deleted, _key(realm, names[0]), encode_tombstone(tombstone))
            rows = [_key(realm, name) for name in names if self._rows.has(_key(realm, name))]
            batch.delete_many(self._rows, rows)
            return bool(rows)

        return await self._sessions.transact(decide)

    async def patrol(self, resume: bytes | None, limit: int) -> OpaquePatrolled:
        page = self._rows.page(start=resume, max_items=limit, max_bytes=_BYTES)
        found = []
        for key, data in page.items:
            realm, name = _split(key)
            stone = self._deleted.get(key)
            tombstone = None if stone is None else decode_tombstone(stone)
            found.append((realm, OpaqueStored(decode_row(name, data, sealed=False), tombstone)))
        return OpaquePatrolled(found, page.resume)

    async def remove(self, realm: str, rows: Sequence[OpaqueRow]) -> int:
        def decide(batch: Batch) -> int:
            batch.frees = True
            over = []
            for row in rows:
                data = self._rows.get(_key(realm, row.name))
                if data is not None and decode_row(row.name, data, sealed=False).written_us == row.written_us:
                    over.append(_key(realm, row.name))
            batch.delete_many(self._rows, over)
            return len(over)

        return await self._sessions.transact(decide, wait=False)

    async def prune(self, now_us: int, limit: int) -> int:
        def decide(batch: Batch) -> int:
            batch.frees = True
            page = self._deleted.page(start=self._resume, max_items=limit, max_bytes=_BYTES)
            self._resume = page.resume
            over = [key for key, data in page.items if decode_tombstone(data).until_us <= now_us]
            batch.delete_many(self._deleted, over)
            return len(over)

        return await self._sessions.transact(decide)

    async def count(self, realm: str) -> int:
        return sum([len(keys) async for keys in _walk(self._rows, layout.realm_prefix(realm))])

    async def uses_pepper(self, number: int) -> str | None:
        for family in (self._rows, self._deleted):
            async for keys in _walk(family, b""):
                for realm, name in map(_split, keys):
                    if pepper_of(name) == number:
                        return realm
        return None

    async def keep_key(self, realm: str, subject: bytes, sealed: bytes, home: str) -> bool:
        return await self._keep(realm, subject, sealed)


async def _walk(family: Family, prefix: bytes) -> AsyncIterator[list[bytes]]:
    """All keys, some thousands at a time, with calls let in between."""
    resume: bytes | None = None
    while True:
        page = family.page(prefix, start=resume, max_items=_STEP, max_bytes=_BYTES)
        yield [key for key, _ in page.items]
        resume = page.resume
        if resume is None:
            return
        await asyncio.sleep(0)


def _key(realm: str, name: bytes) -> bytes:
    return layout.realm_prefix(realm) + name


def _split(key: bytes) -> tuple[str, bytes]:
    return key[: -NAME_BYTES - 1].decode(), key[-NAME_BYTES:]
