"""Revocations over data centres: each says up to which number its own go, and takes in those of the others.

The rows come by Cassandra's own replication, in any order and perhaps late. So nothing is believed to be here because
something later is: numbers have no gap, and what is heard is written once more, as it is, at this data centre's quorum.
Only then, up to that number, is all here. What the replication has not brought by then is read at its origin.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, NamedTuple

from libs.cassandra.session import Row
from libs.errors.errors import Unavailable
from libs.telemetry.logs import fields
from services.session.cassandra.cluster import Cluster
from services.session.cassandra.feed import Feed, Told, told_values
from services.session.cassandra.layout import SLOT_ROWS, slot_of
from services.session.cassandra.opaque import CassandraOpaque
from services.session.cassandra.resync import resynchronised
from services.session.cassandra.revoked import Revocations
from services.session.domain.model import Revocation, RevocationKind
from services.session.domain.opaque_model import OpaqueTombstone
from services.session.domain.origins_model import Fence, Heard
from services.session.store.interface import End
from services.session.store.origins_interface import Taken

log = logging.getLogger(__name__)

_AT_ONCE: Final = 256
"""Revocations taken in at once."""


class Numbered(NamedTuple):
    """A revocation as another data centre tells of it."""

    number: int
    told: Told


Ask = Callable[[str], Cluster]
"""The cluster as a data centre sees it. Raises Unavailable while it cannot be asked."""


class CassandraOrigins:
    """See `store.origins_interface.Origins`. `housekeep(realm, handles)` removes sessions that are over."""

    def __init__(
        self,
        cluster: Cluster,
        feed: Feed,
        revocations: Revocations,
        opaque: CassandraOpaque,
        own: str,
        others: Sequence[str],
        ask: Ask,
        housekeep: Callable[[str, Sequence[str]], Awaitable[int]],
    ) -> None:
        self.others = tuple(sorted(others))
        self._cluster = cluster
        self._feed = feed
        self._revocations = revocations
        self._opaque = opaque
        self._own = own
        self._ask = ask
        self._housekeep = housekeep
        self._last_us: dict[str, int] = {}
        self._behind: dict[str, frozenset[str]] = {}
        self.taken: Taken = _nobody
        self._positions: dict[tuple[str, str], int] = {}

    async def hear(self, origin: str) -> Heard | None:
        row = await self._cluster.row("heartbeat", origin)
        if row is None or row[0] is None:
            return None
        said = json.loads(row[0])
        at_us = int(said["at_us"])
        if at_us <= self._last_us.get(origin, 0) and not self._behind.get(origin):
            return None
        fences = {name: Fence(*fence) for name, fence in said["fences"].items()}
        await self._take_fences(fences)
        await self._find_positions(origin)
        behind = set()
        for realm, newest in said["heads"].items():
            if not await self._take(realm, origin, newest):
                behind.add(realm)
        for realm, number in said["heard"].get(self._own, {}).items():
            if not await self._remembers(realm, origin, number):
                behind.add(realm)
        self._last_us[origin], self._behind[origin] = at_us, frozenset(behind)
        return Heard(origin, at_us, frozenset(behind), fences)

    async def beat(self, at_us: int, realms: Collection[str]) -> None:
        newest = await asyncio.gather(*(self._feed.newest(realm) for realm in realms))
        heads = {realm: number for realm, number in zip(realms, newest, strict=True) if number}
        fences = await self.fences()
        heard: dict[str, dict[str, int]] = {origin: {} for origin in self.others}
        for (realm, origin), number in self._positions.items():
            heard[origin][realm] = number
        said = {"at_us": at_us, "heads": heads, "heard": heard, "fences": fences}
        await self._cluster.put("beat", at_us, json.dumps(said), self._own)

    async def fences(self) -> dict[str, Fence]:
        """Who is shut out, or was."""
        return {row[0]: Fence(row[1], row[2]) for row in await self._cluster.rows("fences")}

    async def fence(self, datacentre: str, fence: Fence, reason: str) -> None:
        await self._cluster.put("fence", datacentre, fence.at_us, fence.shut, reason, fence.at_us)

    async def position(self, realm: str, origin: str) -> int:
        known = self._positions.get((realm, origin))
        if known is None:
            await self._find_positions(origin)
        return self._positions.get((realm, origin), 0)

    async def revocations(self, realm: str, origin: str, after: int, limit: int) -> list[Revocation]:
        upto = await self.position(realm, origin)
        found = await self._rows(self._cluster, realm, origin, after, min(limit, upto - after))
        return [Revocation(n, told.kind, told.name, told.at_us) for n, told in found if n <= upto]

    async def _take_fences(self, fences: dict[str, Fence]) -> None:
        known = await self.fences()
        for name, fence in fences.items():
            if fence > known.get(name, Fence(0, False)):
                await self.fence(name, fence, "")

    async def _find_positions(self, origin: str) -> None:
        """Other servers of this data centre hear, too: what one of them has taken in is here."""
        for realm, number in await self._cluster.rows("heard", self._own, origin):
            self._positions[realm, origin] = max(number, self._positions.get((realm, origin), 0))

    async def _take(self, realm: str, origin: str, newest: int) -> bool:
        """Takes in a realm's revocations up to a number; whether all of them are here then."""
        position = self._positions.get((realm, origin), 0)
        while position < newest:
            found = _contiguous(await self._rows(self._cluster, realm, origin, position, _AT_ONCE), position)
            try:
                found = found or await self._missing(realm, origin, position)
                if not found:
                    await self._begin_anew(origin)
            except Unavailable:
                return False
            if found:
                await self._apply(realm, origin, [told for _, told in found])
                await self._note(realm, origin, found[-1].number)
            if self._positions.get((realm, origin), 0) <= position:
                return False
            position = self._positions[realm, origin]
        return True

    async def _missing(self, realm: str, origin: str, position: int) -> list[Numbered]:
        """What the replication has not brought, from where it was written; it is then here, too."""
        there = self._ask(origin)
        found = _contiguous(await self._rows(there, realm, origin, position, _AT_ONCE), position)
        again = (self._cluster.put("tell_again", *told_values(realm, origin, n, told)) for n, told in found)
        await asyncio.gather(*again)
        return found

    async def _begin_anew(self, origin: str) -> None:
        """All that revokes there is taken in, one by one told of or not: for a data centre that is new, or was away for
        longer than revocations are kept."""
        there = self._ask(origin)
        log.warning("all revocations of another data centre are taken in", extra=fields(origin=origin))
        # Read before the copy: what is revoked meanwhile has a number above.
        heads = [(row[0], row[1]) async for page in there.pages("all_newest", origin) for row in page]
        await resynchronised(there, self._revocations, self._opaque)
        for realm, number in heads:
            await self._note(realm, origin, number)

    async def _remembers(self, realm: str, origin: str, number: int) -> bool:
        """Whether this data centre knows of its own revocations what another one has heard of them. One that was put
        back from a backup does not: it takes in again all that revokes, and numbers on from there."""
        if number <= await self._feed.newest(realm):
            return True
        log.error("this data centre has lost revocations of its own", extra=fields(realm=realm, heard_by=origin))
        try:
            await resynchronised(self._ask(origin), self._revocations, self._opaque)
        except Unavailable:
            return False
        await self._feed.know(realm, number)
        return True

    async def _note(self, realm: str, origin: str, number: int) -> None:
        await self._cluster.put("hear", number, number, self._own, origin, realm)
        self._positions[realm, origin] = max(number, self._positions.get((realm, origin), 0))

    async def _apply(self, realm: str, origin: str, some: Sequence[Told]) -> None:
        """Writes them as they are: the same rows with the same times, however often."""
        ended = [told for told in some if told.kind is RevocationKind.SESSION and told.handle]
        deleted = [(t.name, OpaqueTombstone(t.at_us, t.until_us), t.counter)
                   for t in some if t.kind is RevocationKind.OPAQUE]  # fmt: skip
        epochs = [t for t in some if t.kind in (RevocationKind.SUBJECT, RevocationKind.REALM) and t.counter]
        await asyncio.gather(
            *(self._revocations.bury(realm, End(t.handle, t.at_us, t.until_us, t.cause), None) for t in ended),
            *(self._revocations.hear_epoch(realm, origin, t.name, t.counter, t.at_us) for t in epochs),
            *(self._opaque.bury(realm, *one) for one in deleted),
        )
        handles = [told.handle for told in ended]
        await self._housekeep(realm, handles)
        await self.taken(realm, handles, [t.name for t in epochs if t.kind is RevocationKind.SUBJECT])

    async def _rows(self, cluster: Cluster, realm: str, origin: str, after: int, limit: int) -> list[Numbered]:
        """Those behind a number that can be read, of its partition and the next one."""
        found: list[Row] = []
        for slot in (slot_of(after + 1), slot_of(after + 1) + 1):
            if len(found) < limit:
                values = realm, origin, slot, after, min(limit - len(found), SLOT_ROWS)
                found += await cluster.rows("whole_revocations", *values)
        return [_numbered(row) for row in found]


async def _nobody(realm: str, handles: Sequence[str], subjects: Sequence[bytes]) -> None:
    """Nobody is told."""


def _numbered(row: Row) -> Numbered:
    number, kind, name, at_us, handle, cause, until_us, counter = row
    told = Told(RevocationKind(kind), name, at_us, handle or "", cause or "", until_us or 0, counter or 0)
    return Numbered(number, told)


def _contiguous(rows: Sequence[Numbered], position: int) -> list[Numbered]:
    """Those that follow a number without a gap."""
    found: list[Numbered] = []
    for row in rows:
        if row.number != position + len(found) + 1:
            break
        found.append(row)
    return found
