"""New sessions. Where nobody counts a subject's sessions a login decides nothing before it writes: it writes, plainly
and all at once, and then looks whether it may stand.

What it looks for is written before anybody looks for it: a revocation raises the epoch before it reads the list, and
whoever makes a session of the same request adds its row before reading the others'. So of two that meet at least one
sees the other. A revocation that has not found the session in its subject's list is seen here, and the session is taken
back; of two sessions of one request the one with the later end of its window stands, and ends the other, which takes
itself back if it sees that.

Where a guard decides over the list, the session is there before it enters the list, on the condition that the list is
what the guard saw.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from libs.errors.errors import WellspringError
from services.session.cassandra.catalog import Catalog
from services.session.cassandra.cluster import Cluster, Write
from services.session.cassandra.homes import Place
from services.session.cassandra.known import Known
from services.session.cassandra.revoked import epoch_of
from services.session.domain.epochs import is_below
from services.session.domain.model import Created, Item, Session
from services.session.store.interface import End, Guard, SubjectKey

SMALL_BYTES: Final = 3_072
"""Of a session that is written in one batch with what is beside it: nodes warn of larger ones over several
partitions (5 KiB), of which keys, times and names take their part."""

_ROW_BYTES: Final = 100
_BESIDE_BYTES: Final = 900
"""About what a session's head and its rows in other tables take, and each of its own rows beside its value."""

_First = TypeVar("_First")
_Second = TypeVar("_Second")

Orphan = Callable[[Created, Session | None], End]


class Creating:
    """Of the data centre `here`. `end` ends sessions, `remove` removes those of this home; as the store does."""

    def __init__(
        self,
        cluster: Cluster,
        here: Place,
        catalog: Catalog,
        known: Known,
        end: Callable[[str, Sequence[End]], Awaitable[int]],
        remove: Callable[[str, Sequence[str]], Awaitable[int]],
    ) -> None:
        self._cluster = cluster
        self._here = here
        self._catalog = catalog
        self._known = known
        self._end = end
        self._remove = remove

    async def create(
        self,
        session: Session,
        items: Sequence[Item],
        key: SubjectKey,
        request: bytes,
        created: Created,
        guard: Guard | None,
        orphan: Orphan,
    ) -> bool:
        """See Store.create."""
        if not await self._here.subjects.takes(session, key):
            return False
        ends: list[End] = []
        but = {session.handle}

        async def admit() -> bool:
            if guard is not None:
                ends[:] = guard(await self._here.of_subject(session.realm, session.subject, but))
            return True

        if guard is not None:
            # A login that is refused is to write nothing; what is decided here is decided once more when it enters.
            made = await self._catalog.created_by(request)
            but.update(end.handle for end in (await self._others(made, session, created, orphan))[0])
            await admit()
        creation = self._catalog.creation(request, created)
        try:
            if guard is None:
                await self._write(session, items, [self._here.subjects.entering(session, key), creation])
                self._here.subjects.entered(session)
                entered = not self._here.subjects.is_refused(key)
            else:
                await self._write(session, items, [creation])
                entered = await self._here.subjects.enter(session, key, admit)
            stands = entered and await self._stands(session, request, created, orphan, ends)
        except WellspringError:
            await self._take_back(session, request)
            raise
        if not stands:
            await self._take_back(session, request)
            return False
        if ends:
            await self._end(session.realm, ends)
        return True

    async def _write(self, session: Session, items: Sequence[Item], beside: Sequence[Write]) -> None:
        own = self._here.sessions.first(session, items)
        size_bytes = sum(len(item.sealed) for item in items)
        if size_bytes <= SMALL_BYTES:
            size_bytes += _ROW_BYTES * (1 + len(items)) + _BESIDE_BYTES
            await self._cluster.plain_beside([*own, *beside], size_bytes=size_bytes, partitions=1 + len(beside))
        else:
            await self._cluster.plain(own)
            await self._cluster.plain(beside)

    async def _stands(
        self, session: Session, request: bytes, created: Created, orphan: Orphan, ends: list[End]
    ) -> bool:
        """Whether a session that was written may be answered; `ends`: with what it made before this one, too."""
        counters, rows = await both(
            self._here.revocations.asked_epoch(session.realm, session.subject), self._catalog.asked_creations(request)
        )
        orphans, latest = await self._others([Created(*row) for row in rows], session, created, orphan)
        if is_below(session.subject_stamp, epoch_of(counters)):
            self._known.raises(session.realm, session.subject)
            return False
        ends += orphans
        return latest

    async def _others(
        self, made: Sequence[Created], session: Session, created: Created, orphan: Orphan
    ) -> tuple[list[End], bool]:
        """What else its request has `made` and is remembered for, to be ended; whether this one is the latest."""
        others = [one for one in made if one.until_us > session.created_us and one.handle != session.handle]
        if not others:
            return [], True
        heads = await asyncio.gather(*(self._here.sessions.head(session.realm, one.handle) for one in others))
        orphans = [orphan(one, head) for one, head in zip(others, heads, strict=True)]
        own = created.until_us, created.handle
        return orphans, all((one.until_us, one.handle) < own for one in others)

    async def _take_back(self, session: Session, request: bytes) -> None:
        """Nobody has heard of it. Where this is not done it goes by its time to live."""
        await self._remove(session.realm, [session.handle])
        await self._here.subjects.leave([session])
        await self._catalog.forget(request, session.handle)


async def both(first: "asyncio.Future[_First]", second: "asyncio.Future[_Second]") -> tuple[_First, _Second]:
    """What two futures bring, both under way already: as by `asyncio.gather`, which takes a login several times as
    long. The first failure is raised; another one is told to nobody."""
    try:
        return await first, await second
    except BaseException:
        second.add_done_callback(_forget)
        raise


def _forget(future: "asyncio.Future[Any]") -> None:
    """Asks why it failed: the event loop tells of failures that nobody asked for."""
    if not future.cancelled():
        future.exception()
