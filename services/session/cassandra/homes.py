"""The data centres of a store: its own, and connections to those where sessions of another home are decided.

A conditional write is decided among the replicas of the data centre that is asked (LOCAL_SERIAL), so that what has its
home elsewhere is asked elsewhere, through that data centre's own nodes. Connections are opened behind the backs of
those who want them; one that does not answer is left alone for a while, so that nobody waits for it each time.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from libs.cassandra.errors import OutcomeUnknown
from libs.cassandra.options import Options
from libs.cassandra.session import Page, Row
from libs.cassandra.session import Session as Connection
from libs.errors.errors import Unavailable, WellspringError
from libs.telemetry.logs import fields
from services.session.cassandra.cluster import Cluster
from services.session.cassandra.revoked import Revocations
from services.session.cassandra.sessions import Sessions
from services.session.cassandra.statements import Statements
from services.session.cassandra.subjects import Entry, Refuses, Subjects, merged, pending_session
from services.session.domain.epochs import is_below
from services.session.domain.errors import HomeUnreachable
from services.session.domain.model import Epoch, Session
from services.session.store.interface import Stored

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_REST_S: Final = 3.0
"""How long a data centre that did not answer is left alone."""
_AGAIN_S: Final = 1.0
"""Between attempts to open a connection."""


class Place(NamedTuple):
    """The tables as one data centre sees them, and decides those of its own; `lists`: the subjects of every home."""

    cluster: Cluster
    sessions: Sessions
    subjects: Subjects
    revocations: Revocations
    lists: tuple[Subjects, ...]

    async def entries(self, realm: str, subject: bytes) -> list[Entry]:
        """All of a subject's sessions, whatever their home, the oldest first."""
        return merged(await asyncio.gather(*(one.entries(realm, subject) for one in self.lists)))

    async def entries_from(self, realm: str, subject: bytes, after: bytes, limit: int) -> list[Entry]:
        """Up to `limit` of them from a position on."""
        found = await asyncio.gather(*(one.entries_from(realm, subject, after, limit) for one in self.lists))
        return merged(found)[:limit]

    async def of_subject(self, realm: str, subject: bytes, but: Collection[str]) -> list[Stored]:
        """The subject's other sessions as a guard is to see them: those on their way to it included."""
        others = [entry for entry in await self.entries(realm, subject) if entry.handle not in but]
        found = []
        for entry, stored in zip(others, await self.stored(realm, subject, others), strict=True):
            if stored.session is not None and stored.session.subject != subject:
                stored = stored._replace(session=pending_session(realm, entry))
            if stored.session is not None and stored.tombstone is None:
                found.append(stored)
        return found

    async def stored(self, realm: str, subject: bytes, entries: Sequence[Entry]) -> list[Stored]:
        """What a subject's list names."""
        handles = [entry.handle for entry in entries]
        sessions, tombstones, epoch = await asyncio.gather(
            asyncio.gather(*(self.sessions.head(realm, handle) for handle in handles)),
            self.revocations.tombstones(realm, handles),
            self.revocations.subject_epoch(realm, subject),
        )
        return [Stored(s, {}, stone, epoch) for s, stone in zip(sessions, tombstones, strict=True)]

    async def is_outdated(self, session: Session) -> bool:
        """Whether a session that has just entered its subject's list was revoked meanwhile: whoever did it has perhaps
        not found it there, and has answered."""
        tombstone, epoch = await asyncio.gather(
            self.revocations.tombstone(session.realm, session.handle),
            self.revocations.subject_epoch(session.realm, session.subject),
        )
        return tombstone is not None or is_below(session.subject_stamp, epoch)

    async def read(self, realm: str, handle: str, keys: Sequence[bytes], kinds: bytes) -> Stored:
        """A session as this data centre has it, with what may have revoked it."""
        found, tombstone = await asyncio.gather(
            self.sessions.read(realm, handle, keys, kinds), self.revocations.tombstone(realm, handle)
        )
        if found.session is None:
            return Stored(None, {}, tombstone, Epoch())
        # After the session: a session that is read was made before, and what revoked it since is read now.
        epoch = await self.revocations.subject_epoch(realm, found.session.subject)
        return Stored(found.session, found.items, tombstone, epoch)


def furnished(cluster: Cluster, home: str, homes: Sequence[str], refuses: Refuses) -> Place:
    """The tables of the data centre `home`, which `cluster` asks; `homes` are all of them."""
    lists = {name: Subjects(cluster, refuses, name) for name in (home, *homes)}
    return Place(cluster, Sessions(cluster), lists[home], Revocations(cluster), tuple(lists.values()))


Furnish = Callable[[Cluster, str], Place]


class Homes:
    """`own` is where the store is; `here` its place."""

    def __init__(self, here: Place, own: str, others: Sequence[str], furnish: Furnish) -> None:
        self.own = own
        self.others = tuple(sorted(others))
        self._here = here
        self._furnish = furnish
        self._places: dict[str, Place] = {}
        self._far: dict[str, _Far] = {}

    def is_far(self, home: str) -> bool:
        """Whether it is another data centre that keeps sessions; what has no such home is at home here."""
        return home in self.others

    def at(self, home: str) -> Place:
        """Where what has this home is decided. Raises HomeUnreachable while that data centre cannot be asked."""
        if not self.is_far(home):
            return self._here
        far = self._far.get(home)
        if far is None or far.rests:
            raise _unreachable(home)
        return self._places[home]

    async def run(self) -> None:
        """Opens, for ever, the connections that there are not."""
        while True:
            await self.connect()
            await asyncio.sleep(_AGAIN_S)

    async def connect(self) -> None:
        """Tries to open those connections that there are not."""
        await asyncio.gather(*(self._open(home) for home in self.others if home not in self._far))

    async def close(self) -> None:
        """Ends the connections to other data centres."""
        await asyncio.gather(*(far.close() for far in self._far.values()))

    async def _open(self, home: str) -> None:
        here = self._here.cluster.session
        there = here.addresses(home) or here.options.contact_points
        options = dataclasses.replace(here.options, local_datacentre=home, contact_points=there)
        try:
            connection = await Connection.open(options)
        except WellspringError as error:
            log.info("a data centre cannot be asked", extra=fields(datacentre=home, reason=error.reason))
            return
        try:
            statements = await Statements.prepare(connection)
        except WellspringError as error:
            log.info("a data centre cannot be asked", extra=fields(datacentre=home, reason=error.reason))
            await connection.close()
            return
        except BaseException:
            await connection.close()
            raise
        self.reached(home, connection, statements)

    def reached(self, home: str, connection: Connection, statements: Statements) -> None:
        """A connection to another data centre is there."""
        far = _Far(connection, home)
        self._places[home] = self._furnish(Cluster(far, statements, self._here.cluster.now_us), home)
        self._far[home] = far


class _Far(Connection):
    """A connection to another data centre: what it cannot be asked is HOME_UNREACHABLE, and it is left alone then."""

    def __init__(self, real: Connection, home: str) -> None:
        self._real = real
        self._home = home
        self._rests_until_s = 0.0

    @property
    def options(self) -> Options:
        return self._real.options

    def replicas(self, key: bytes) -> Hashable:
        return self._real.replicas(key)

    @property
    def rests(self) -> bool:
        """Whether it is left alone now."""
        return time.monotonic() < self._rests_until_s

    async def execute(self, *args: Any, **kwargs: Any) -> list[Row]:
        return await self._asked(self._real.execute(*args, **kwargs))

    async def batch(self, *args: Any, **kwargs: Any) -> list[Row]:
        return await self._asked(self._real.batch(*args, **kwargs))

    async def pages(self, *args: Any, **kwargs: Any) -> AsyncIterator[list[Row]]:
        pages = aiter(self._real.pages(*args, **kwargs))
        while True:
            try:
                page = await self._asked(anext(pages))
            except StopAsyncIteration:
                return
            yield page

    async def page(self, *args: Any, **kwargs: Any) -> Page:
        return await self._asked(self._real.page(*args, **kwargs))

    async def close(self) -> None:
        await self._real.close()

    async def _asked(self, work: Awaitable[_T]) -> _T:
        try:
            return await work
        except OutcomeUnknown:
            raise
        except Unavailable:
            self._rests_until_s = time.monotonic() + _REST_S
            raise _unreachable(self._home) from None


def _unreachable(home: str) -> HomeUnreachable:
    return HomeUnreachable(
        f"what is asked for is decided in the data centre {home!r}, which does not answer",
        retry_after_s=_REST_S,
        metadata={"home": home},
    )
