"""What all servers share beside sessions: realms by version, facts about the store, remembered Creates.

Realms are decided by all data centres together and written in each; a Create is remembered where it was made.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from services.session.cassandra.cluster import Cluster
from services.session.cassandra.layout import homed, ttl_s
from services.session.domain.model import Created, RealmRecord
from services.session.store import codec


class Catalog:
    """The tables `realms`, `notes` and `requests`."""

    def __init__(self, cluster: Cluster, own: str, others: Sequence[str]) -> None:
        self._cluster = cluster
        self._own = own
        self._others = others

    async def realms(self) -> list[RealmRecord]:
        """By name."""
        return [RealmRecord(*row) async for page in self._cluster.pages("realms") for row in page]

    async def put_realm(self, record: RealmRecord, version: int) -> bool:
        """See Store.put_realm."""
        if version:
            values = record.version, record.created_us, record.body, record.name, version
            write = self._cluster.write("next_realm", *values)
        else:
            write = self._cluster.write("first_realm", record.name, record.version, record.created_us, record.body)

        async def look() -> bool:
            return await self._realm(record.name) == (record.version, record.body)

        return await self._cluster.decide([write], look, shared=True)

    async def drop_realm(self, name: str, version: int) -> bool:
        """See Store.delete_realm."""
        if not version:
            return await self._realm(name) is None

        async def look() -> bool:
            return await self._realm(name) is None

        return await self._cluster.decide([self._cluster.write("drop_realm", name, version)], look, shared=True)

    async def has_realm(self, name: str) -> bool:
        """Whether there is a realm of this name."""
        return await self._cluster.row("realm", name) is not None

    async def _realm(self, name: str) -> tuple[int, bytes] | None:
        rows = await self._cluster.decided_rows("realm", name, shared=True)
        return (rows[0][0], rows[0][1]) if rows else None

    async def note(self, values: Mapping[str, bytes]) -> None:
        """See Store.note."""
        await asyncio.gather(*(self._cluster.put("note", name, value) for name, value in values.items()))

    async def noted(self, names: Collection[str]) -> dict[str, bytes]:
        """See Store.noted."""
        rows = await asyncio.gather(*(self._cluster.row("note", name) for name in names))
        return {name: row[0] for name, row in zip(names, rows, strict=True) if row is not None}

    async def created_by(self, request: bytes) -> dict[str, Created]:
        """What Creates of this name made, by data centre: what was made in others as far as it is known here."""
        homes = [self._own, *self._others]
        rows = await asyncio.gather(*(self._cluster.row("request", homed(home, request)) for home in homes))
        found = ((home, codec.decode_created(row[0])) for home, row in zip(homes, rows, strict=True) if row is not None)
        return {home: created for home, created in found if created is not None}

    async def claim(self, request: bytes, before: Created | None, created: Created) -> bool:
        """Remembers what a Create makes here, before it is made; False when `before` is not what is remembered any
        more."""
        live_s, new = ttl_s(created.until_us, self._cluster.now_us()), codec.encode_created(created)
        name = homed(self._own, request)
        if before is None:
            write = self._cluster.write("first_request", name, new, live_s)
        else:
            write = self._cluster.write("next_request", live_s, new, name, codec.encode_created(before))

        async def look() -> bool:
            rows = await self._cluster.decided_rows("request", name)
            return bool(rows) and rows[0][0] == new

        return await self._cluster.decide([write], look)
