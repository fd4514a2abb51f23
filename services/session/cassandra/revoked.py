"""What revokes: tombstones of sessions, epochs of subjects and realms. Rows are added by plain writes and only grow, so
that nothing that is written later, twice, or out of order takes a revocation back."""

import asyncio
from collections.abc import Sequence

from libs.cassandra.session import Row
from services.session.cassandra.cluster import Cluster
from services.session.cassandra.layout import MARGIN_S, ttl_s
from services.session.domain.epochs import raised
from services.session.domain.model import Epoch, Tombstone
from services.session.store.interface import End


class Revocations:
    """The tables `tombstones`, `subject_epochs` and `realm_epochs`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def tombstone(self, realm: str, handle: str) -> Tombstone | None:
        """The first revocation of a session, for as long as any of them says."""
        rows = await self._cluster.rows("tombstones", realm, handle)
        if not rows:
            return None
        at_us, cause, _ = rows[0]
        return Tombstone(at_us, max(row[2] for row in rows), cause)

    async def bury(self, realm: str, end: End, there: Tombstone | None) -> None:
        """Adds a tombstone, unless one that is there says as much."""
        if there is not None and there.until_us >= end.until_us:
            return
        at_us, cause = (there.at_us, there.cause) if there is not None else (end.at_us, end.cause)
        live_s = ttl_s(end.until_us, self._cluster.now_us(), MARGIN_S)
        await self._cluster.put("tombstone", realm, end.handle, at_us, cause, end.until_us, live_s)

    async def subject_epoch(self, realm: str, subject: bytes) -> Epoch:
        """The epoch of a subject."""
        return epoch_of(await self.asked_epoch(realm, subject))

    def asked_epoch(self, realm: str, subject: bytes) -> "asyncio.Future[list[Row]]":
        """What `epoch_of` makes the epoch of a subject of; asked for before anybody waits."""
        return self._cluster.asked("subject_epoch", realm, subject)

    async def realm_epochs(self) -> dict[str, Epoch]:
        """The epochs of every realm that ever had one raised."""
        rows: dict[str, list[Row]] = {}
        async for page in self._cluster.pages("realm_epochs"):
            for realm, *row in page:
                rows.setdefault(realm, []).append(tuple(row))
        return {realm: epoch_of(found) for realm, found in rows.items()}

    async def raise_subject(self, realm: str, subject: bytes, datacentre: str, at_us: int) -> Epoch:
        """The subject's epoch after one more revocation."""
        async with self._cluster.turn("subject epoch", realm, subject):
            epoch = raised(await self.subject_epoch(realm, subject), datacentre, at_us)
            counter = dict(epoch.counters)[datacentre]
            values = (realm, subject, datacentre, counter, epoch.raised_us, counter)
            await self._cluster.put("subject_epoch", *values)
        return epoch

    async def raise_realm(self, realm: str, datacentre: str, at_us: int) -> Epoch:
        """The realm's epoch after one more revocation."""
        async with self._cluster.turn("realm epoch", realm):
            epoch = raised(epoch_of(await self._cluster.rows("realm_epoch", realm)), datacentre, at_us)
            counter = dict(epoch.counters)[datacentre]
            await self._cluster.put("realm_epoch", realm, datacentre, counter, epoch.raised_us, counter)
        return epoch

    async def hear_epoch(self, realm: str, datacentre: str, subject: bytes, counter: int, raised_us: int) -> None:
        """The counter of a data centre, as it was raised there; `subject` is empty for a realm's."""
        values = datacentre, counter, raised_us, counter
        if subject:
            await self._cluster.put("subject_epoch", realm, subject, *values)
        else:
            await self._cluster.put("realm_epoch", realm, *values)

    async def tombstones(self, realm: str, handles: list[str]) -> list[Tombstone | None]:
        """Those of several sessions."""
        return list(await asyncio.gather(*(self.tombstone(realm, handle) for handle in handles)))


def epoch_of(rows: Sequence[Row]) -> Epoch:
    """The epoch that counters of data centres are together."""
    if not rows:
        return Epoch()
    counters = tuple(sorted((row[0], row[1]) for row in rows))
    return Epoch(counters, max((row[2] for row in rows), default=0))
