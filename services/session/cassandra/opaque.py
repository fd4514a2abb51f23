"""Opaque rows on the cluster: the last write wins, and a deletion beats every write of its time.

Tombstones are added and never changed, in a table of their own. A row that was written while one stood shows nothing,
also when that tombstone's time is over: it slipped past whoever looked.

Over several data centres a deletion is told in the feed of revocations, so that the others have it within the bound
(`bury`), whatever the replication brings; values come by that alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from services.session.cassandra.cluster import Cluster
from services.session.cassandra.feed import Feed, Told
from services.session.cassandra.layout import MARGIN_S, ttl_s
from services.session.cassandra.walks import resume_of, token_of
from services.session.crypto.opaque import pepper_of
from services.session.domain.model import RevocationKind
from services.session.domain.opaque_model import OpaqueRow, OpaqueStored, OpaqueTombstone
from services.session.store import opaque_codec
from services.session.store.opaque_interface import Allowed, OpaquePatrolled

Keep = Callable[[str], Callable[[str, bytes, bytes], Awaitable[bool]]]
Ask = Callable[[str], Cluster]


class CassandraOpaque:
    """See `opaque_interface.OpaqueRows`. `keep(home)` is what keeps realms' sealed keys where that home has the
    subjects'; `feed` is told of deletions, for the data centres that `ask` asks, if there are `others`."""

    def __init__(self, cluster: Cluster, keep: Keep, feed: Feed, others: Sequence[str], ask: Ask) -> None:
        self._cluster = cluster
        self._keep = keep
        self._feed = feed
        self._others = others
        self._ask = ask

    async def read(self, realm: str, names: Sequence[bytes]) -> OpaqueStored:
        return (await self._find(realm, names)).stored

    async def _find(self, realm: str, names: Sequence[bytes]) -> "_Found":
        found = await asyncio.gather(*(self._cell(realm, name) for name in names))
        stones = await self._tombstones(realm, names)
        tombstone = max((stone for stone, _ in stones), key=lambda stone: stone.until_us, default=None)
        rows = [cell.row for cell in found if cell is not None and not _slipped(cell.row, tombstone)]
        stored = OpaqueStored(max(rows, key=lambda row: row.written_us, default=None), tombstone)
        above_us = max([0, *(cell.at_us for cell in found if cell is not None), *(at_us for _, at_us in stones)])
        return _Found(stored, above_us)

    async def write(self, realm: str, names: Sequence[bytes], row: OpaqueRow, allowed: Allowed) -> bool:
        found = await self._find(realm, names)
        if not allowed(found.stored):
            return False
        # Above all that was there: whoever comes after an answer comes after it here, whatever clocks say.
        at_us = max(row.written_us, found.above_us + 1)
        live_s = ttl_s(row.until_us, self._cluster.now_us())
        await self._cluster.put("put_opaque", at_us, live_s, opaque_codec.encode_row(row), realm, row.name)
        others = (name for name in names if name != row.name)
        await asyncio.gather(*(self._cluster.put("drop_opaque", at_us, realm, name) for name in others))
        return True

    async def delete(
        self, realm: str, names: Sequence[bytes], tombstone: OpaqueTombstone, *, known: bool = False
    ) -> bool:
        cells = await asyncio.gather(*(self._cell(realm, name) for name in names))
        removed_us = max([tombstone.at_us, *(cell.at_us for cell in cells if cell is not None)])
        stones = await self._tombstones(realm, names[:1])
        if all(stone.until_us < tombstone.until_us for stone, _ in stones):
            await self._put_tombstone(realm, names[0], tombstone, removed_us)
        if self._others and not known:
            # Also of one that was there: whoever wrote it has perhaps not come so far.
            stone, at_us = max([*stones, (tombstone, removed_us)], key=lambda one: one[0].until_us)
            told = Told(RevocationKind.OPAQUE, names[0], stone.at_us, until_us=stone.until_us, counter=at_us)
            await self._feed.tell(realm, [told])
        there = [cell.row.name for cell in cells if cell is not None]
        await asyncio.gather(*(self._cluster.put("drop_opaque", removed_us, realm, name) for name in there))
        return bool(there)

    async def bury(self, realm: str, name: bytes, tombstone: OpaqueTombstone, removed_us: int) -> None:
        """A deletion in another data centre counts here. What was written under this name while nobody here had heard
        of it goes: it would outlive the tombstone."""
        await self._put_tombstone(realm, name, tombstone, removed_us)
        cell = await self._cell(realm, name)
        if cell is not None and _slipped(cell.row, tombstone):
            await self._cluster.put("drop_opaque", max(removed_us, cell.at_us), realm, name)

    async def resynchronise(self, there: Cluster) -> None:
        """All deletions that can be read in another data centre count here. Raises Unavailable."""
        async for page in there.pages("all_opaque_tombstones"):
            found = [(row[0], row[1], OpaqueTombstone(row[3], row[2]), row[4] or 0) for row in page]
            await asyncio.gather(*(self.bury(*one) for one in found))

    async def _put_tombstone(self, realm: str, name: bytes, tombstone: OpaqueTombstone, removed_us: int) -> None:
        live_s = ttl_s(tombstone.until_us, self._cluster.now_us(), MARGIN_S)
        values = realm, name, tombstone.until_us, tombstone.at_us, removed_us, live_s
        await self._cluster.put("opaque_tombstone", *values)

    async def patrol(self, resume: bytes | None, limit: int) -> OpaquePatrolled:
        rows = await self._cluster.rows("opaques", token_of(resume), limit)
        stones = await asyncio.gather(*(self._tombstones(row[0], [row[1]]) for row in rows))
        found = []
        for (realm, name, value, _), some in zip(rows, stones, strict=True):
            if value is not None:
                stone = max((one for one, _ in some), key=lambda one: one.until_us, default=None)
                found.append((realm, OpaqueStored(opaque_codec.decode_row(name, value, sealed=False), stone)))
        return OpaquePatrolled(found, resume_of(rows, limit))

    async def remove(self, realm: str, rows: Sequence[OpaqueRow]) -> int:
        return sum(await asyncio.gather(*(self._remove(realm, row) for row in rows)))

    async def _remove(self, realm: str, row: OpaqueRow) -> bool:
        cell = await self._cell(realm, row.name)
        if cell is None or cell.row.written_us != row.written_us:
            return False
        await self._cluster.put("drop_opaque", cell.at_us, realm, row.name)
        return True

    async def prune(self, now_us: int, limit: int) -> int:
        """Nothing: tombstones go by their time to live."""
        return 0

    async def count(self, realm: str) -> int:
        return sum([sum(row[0] == realm for row in page) async for page in self._cluster.pages("opaque_names")])

    async def uses_pepper(self, number: int) -> str | None:
        for cluster in (self._cluster, *(self._ask(other) for other in self._others)):
            for table in ("opaque_names", "opaque_deleted"):
                async for page in cluster.pages(table):
                    for realm, name in page:
                        if pepper_of(name) == number:
                            return str(realm)
        return None

    async def keep_key(self, realm: str, subject: bytes, sealed: bytes, home: str) -> bool:
        return await self._keep(home)(realm, subject, sealed)

    async def _cell(self, realm: str, name: bytes) -> "_Cell | None":
        row = await self._cluster.row("opaque", realm, name)
        return None if row is None or row[0] is None else _Cell(opaque_codec.decode_row(name, row[0]), row[1])

    async def _tombstones(self, realm: str, names: Sequence[bytes]) -> list[tuple[OpaqueTombstone, int]]:
        """Each with the time at which values were removed."""
        found = await asyncio.gather(*(self._cluster.rows("opaque_tombstones", realm, name) for name in names))
        return [(OpaqueTombstone(row[0], row[1]), row[2] or 0) for rows in found for row in rows]


class _Cell(NamedTuple):
    """A row, and its time in the table."""

    row: OpaqueRow
    at_us: int


class _Found(NamedTuple):
    """What stands under a key's names, and the time that a write must be above."""

    stored: OpaqueStored
    above_us: int


def _slipped(row: OpaqueRow, tombstone: OpaqueTombstone | None) -> bool:
    return tombstone is not None and row.written_us < tombstone.until_us
