"""Revocations of a realm in order, numbered by this data centre without a gap.

A number is taken by the write of its row, on the condition that there is none; several revocations that wait are
numbered by one write. What is told here is true already, so that whoever hears of it and asks again is answered by it.

Rows live for as long as revocations are kept. The newest number is known beside them; where that is behind, because a
server died in between, the rows are.
"""

import asyncio
from typing import Final, NamedTuple

from services.session.cassandra.cluster import ATTEMPTS, Cluster, Write
from services.session.cassandra.layout import SLOT_ROWS, slot_of
from services.session.domain.errors import Contended
from services.session.domain.model import REVOCATIONS_KEPT_US, Revocation, RevocationKind
from services.session.store.interface import Revoked

_TTL_S: Final = REVOCATIONS_KEPT_US // 1_000_000
_TOGETHER: Final = 256
"""Numbered by one write."""


class Told(NamedTuple):
    """A revocation without its number, with what makes it count where it is heard of: a session's tombstone, or the
    counter of an epoch."""

    kind: RevocationKind
    name: bytes
    at_us: int
    handle: str = ""
    cause: str = ""
    until_us: int = 0
    counter: int = 0


def told_values(realm: str, origin: str, number: int, told: Told) -> tuple[object, ...]:
    """What the statements that tell of a revocation take."""
    at = realm, origin, slot_of(number), number, int(told.kind), told.name, told.at_us
    return *at, told.handle, told.cause, told.until_us, told.counter, _TTL_S


class Feed:
    """The tables `revocations` and `revocation_heads`, as far as they are of the data centre `origin`."""

    def __init__(self, cluster: Cluster, origin: str) -> None:
        self._cluster = cluster
        self._origin = origin
        self._newest: dict[str, int] = {}
        self._oldest_slot: dict[str, int] = {}
        self._waiting: dict[str, list[tuple[Told, asyncio.Future[None]]]] = {}

    async def tell(self, realm: str, told: list[Told]) -> None:
        """Numbers revocations, in order; returns when they can be read. Raises Unavailable, OutcomeUnknown: then they
        may be there, and telling them again does no harm."""
        if not told:
            return
        loop = asyncio.get_running_loop()
        mine: list[asyncio.Future[None]] = [loop.create_future() for _ in told]
        self._waiting.setdefault(realm, []).extend(zip(told, mine, strict=True))
        async with self._cluster.turn("feed", realm):
            # Whoever came before has perhaps told these too.
            while any(not one.done() for one in mine):
                waiting = self._waiting[realm]
                some, self._waiting[realm] = waiting[:_TOGETHER], waiting[_TOGETHER:]
                await self._settle(realm, some)
        await asyncio.gather(*mine)

    async def revocations(self, realm: str, after: int, limit: int) -> Revoked:
        """See Store.revocations; where nothing is missing behind `after`, the oldest is the next one."""
        newest = self._newest.get(realm, 0)
        if realm not in self._newest or limit == 0 or after > newest:
            newest = await self._find_newest(realm)
        found: list[Revocation] = []
        number, slot = after, slot_of(after + 1)
        while len(found) < limit and slot <= slot_of(max(newest, number) + 1):
            values = realm, self._origin, slot, number, min(limit - len(found), SLOT_ROWS)
            rows = await self._cluster.rows("revocations", *values)
            found += (Revocation(row[0], RevocationKind(row[1]), row[2], row[3]) for row in rows)
            number = found[-1].sequence if found else number
            slot += 1
        if found and found[-1].sequence > newest:
            newest = found[-1].sequence
            await self.know(realm, newest)
        oldest = after + 1 if newest else 0
        if after < newest and (not found or found[0].sequence != oldest):
            oldest = await self._find_oldest(realm, newest)
        return Revoked(found, oldest, newest)

    async def newest(self, realm: str) -> int:
        """The number of the newest that was answered, or of a later one."""
        row = await self._cluster.row("newest", realm, self._origin)
        return max(row[0] if row is not None else 0, self._newest.get(realm, 0))

    async def _settle(self, realm: str, some: list[tuple[Told, asyncio.Future[None]]]) -> None:
        """Tells some for all who wait for them."""
        error: Exception | None = None
        try:
            await self._number(realm, [told for told, _ in some])
        except Exception as failure:
            error = failure
        except BaseException:
            # Who told for the others is given up: each of them asks again for its own.
            self._waiting[realm] = some + self._waiting[realm]
            raise
        for _, future in some:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    async def _number(self, realm: str, told: list[Told]) -> None:
        newest = self._newest.get(realm) or await self._find_newest(realm)
        for _ in range(ATTEMPTS):
            if not told:
                return
            first = newest + 1
            room = SLOT_ROWS - first % SLOT_ROWS
            some = told[:room]
            writes = [self._row(realm, first + at, one) for at, one in enumerate(some)]

            async def look(first: int = first, one: Told = some[0]) -> bool | None:
                values = realm, self._origin, slot_of(first), first
                rows = await self._cluster.decided_rows("revocation", *values)
                return bool(rows) and (bytes(rows[0][0]), rows[0][1]) == (one.name, one.at_us)

            if await self._cluster.decide(writes, look):
                told, newest = told[room:], newest + len(some)
                await self.know(realm, newest)
            else:
                newest = await self._find_newest(realm)
        if told:
            raise Contended("many revocations of this realm at once; ask again", retry_after_s=0.1)

    def _row(self, realm: str, number: int, told: Told) -> Write:
        return self._cluster.write("tell", *told_values(realm, self._origin, number, told))

    async def know(self, realm: str, newest: int) -> None:
        """Notes the newest number, which never falls."""
        self._newest[realm] = max(newest, self._newest.get(realm, 0))
        await self._cluster.put("newest", newest, newest, realm, self._origin)

    async def _find_newest(self, realm: str) -> int:
        """The newest number: what is noted, or of the rows behind it the last."""
        row = await self._cluster.row("newest", realm, self._origin)
        noted = newest = max(row[0] if row is not None else 0, self._newest.get(realm, 0))
        slot = slot_of(newest + 1)
        while rows := await self._cluster.decided_rows("last_revocation", realm, self._origin, slot):
            newest = max(newest, rows[0][0])
            slot += 1
        if newest > noted:
            await self.know(realm, newest)
        self._newest[realm] = max(newest, self._newest.get(realm, 0))
        return newest

    async def _find_oldest(self, realm: str, newest: int) -> int:
        """The oldest number that is kept; the one after the newest when none is, 0 when there never was one."""
        if newest == 0:
            return 0
        slot = self._oldest_slot.get(realm)
        if slot is None:
            slot = slot_of(newest)
            while slot and await self._first(realm, slot - 1) is not None:
                slot -= 1
        while slot <= slot_of(newest):
            first = await self._first(realm, slot)
            if first is not None:
                self._oldest_slot[realm] = slot
                return first
            slot += 1
        self._oldest_slot[realm] = slot_of(newest)
        return newest + 1

    async def _first(self, realm: str, slot: int) -> int | None:
        row = await self._cluster.row("first_revocation", realm, self._origin, slot)
        return None if row is None else int(row[0])
