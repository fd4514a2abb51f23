"""What all servers share beside sessions: realms by version, facts about the store, remembered Creates.

Realms are decided by all data centres together and written in each; what Creates made is only ever added.
"""

import asyncio
from collections.abc import Collection, Mapping

from libs.cassandra.session import Row
from services.session.cassandra.cluster import Cluster, Write
from services.session.cassandra.layout import ttl_s
from services.session.domain.model import Created, RealmRecord


class Catalog:
    """The tables `realms`, `notes` and `creations`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

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

    async def created_us(self, name: str) -> int | None:
        """When the realm of this name was made; None when there is none."""
        row = await self._cluster.row("realm_made", name)
        return None if row is None else int(row[0])

    async def _realm(self, name: str) -> tuple[int, bytes] | None:
        rows = await self._cluster.decided_rows("realm", name, shared=True)
        return (rows[0][0], rows[0][1]) if rows else None

    async def note(self, values: Mapping[str, bytes], *, everywhere: bool) -> None:
        """See Store.note."""
        put = self._cluster.put_everywhere if everywhere else self._cluster.put
        await asyncio.gather(*(put("note", name, value) for name, value in values.items()))

    async def noted(self, names: Collection[str]) -> dict[str, bytes]:
        """See Store.noted."""
        found = await asyncio.gather(*(self._cluster.asked("note", name) for name in names))
        return {name: rows[0][0] for name, rows in zip(names, found, strict=True) if rows}

    async def created_by(self, request: bytes) -> list[Created]:
        """What Creates of this name made, in any data centre, as far as it is known here."""
        return [Created(*row) for row in await self.asked_creations(request)]

    def asked_creations(self, request: bytes) -> "asyncio.Future[list[Row]]":
        """The rows of `created_by`, asked for before anybody waits."""
        return self._cluster.asked("creations", request)

    def creation(self, request: bytes, created: Created) -> Write:
        """The plain write that remembers what a Create makes."""
        live_s = ttl_s(created.until_us, self._cluster.now_us())
        return self._cluster.write("creation", request, created.handle, created.subject, created.until_us, live_s)

    async def forget(self, request: bytes, handle: str) -> None:
        """A Create of this name made nothing."""
        await self._cluster.put("drop_creation", request, handle)
