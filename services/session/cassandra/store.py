"""Sessions on a cluster: any number of servers, none of which keeps anything. What each verb does, in which order.

Several partitions take part in a verb, and a server may die between any two of its writes. The orders are such that
what was not answered is nothing (a session that nobody's list has and whose token nobody holds) or is done already (a
revocation whose housekeeping is left), and that asking again finishes it. README.md says why for each.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from libs.cassandra import migrations
from libs.cassandra.options import Options
from libs.cassandra.session import Session as Connection
from libs.errors.errors import FailedPrecondition, WellspringError
from services.session.cassandra.catalog import Catalog
from services.session.cassandra.cluster import Cluster
from services.session.cassandra.feed import Feed, Told
from services.session.cassandra.layout import position
from services.session.cassandra.opaque import CassandraOpaque
from services.session.cassandra.proofs import SpentProofs
from services.session.cassandra.revoked import Revocations
from services.session.cassandra.sessions import Sessions
from services.session.cassandra.statements import Statements
from services.session.cassandra.subjects import Entry, Subjects, pending_session
from services.session.cassandra.walks import Walks
from services.session.domain.model import Created, Epoch, Item, RealmRecord, RevocationKind, Session
from services.session.domain.opaque_model import OPAQUE_REALM
from services.session.store.codec import encode_session
from services.session.store.interface import (
    End,
    Guard,
    Mark,
    Page,
    Patrolled,
    Revoked,
    Rewrap,
    Rewrapped,
    Stored,
    SubjectKey,
    Usage,
)

MIGRATIONS: Final = Path(__file__).parent / "migrations"


class OneDatacentreOnly(FailedPrecondition):
    """The cluster has several data centres."""

    default_reason = "NEEDS_ONE_DATACENTRE"


class CassandraStore:
    """See `store.interface.Store`, which says what each method does."""

    def __init__(self, cluster: Cluster, datacentre: str) -> None:
        """Use `open`."""
        self._cluster = cluster
        self._refused: set[int] = set()
        self._sessions = Sessions(cluster)
        self._revocations = Revocations(cluster)
        self._subjects = Subjects(cluster, lambda sealed: sealed[0] in self._refused)
        self._feed = Feed(cluster, datacentre)
        self._catalog = Catalog(cluster)
        self.ledger = SpentProofs(cluster)
        self._walks = Walks(cluster, self._subjects, self._revocations, self._catalog)
        self.opaque = CassandraOpaque(
            cluster, lambda realm, sealed: self._subjects.keep_key(realm, OPAQUE_REALM, sealed)
        )

    @classmethod
    async def open(cls, options: Options, datacentre: str, now_us: Callable[[], int]) -> "CassandraStore":
        """Connects, and looks whether the tables are those of this release. `datacentre`: the one that numbers
        revocations; `now_us`: microseconds since 1970. Raises Unavailable, FailedPrecondition."""
        connection = await Connection.open(options)
        try:
            several = sorted(connection.datacentres())
            if len(several) > 1:
                raise OneDatacentreOnly(
                    f"the cluster has the data centres {', '.join(several)}; sessions are kept in clusters of one data"
                    " centre so far"
                )
            await migrations.check(connection, migrations.read(MIGRATIONS))
            statements = await Statements.prepare(connection)
        except BaseException:
            await connection.close()
            raise
        return cls(Cluster(connection, statements, now_us), datacentre)

    async def close(self) -> None:
        """Ends the connections."""
        await self._cluster.session.close()

    async def check(self) -> None:
        """Raises Unavailable when the cluster does not answer."""
        await self._catalog.noted(["check"])

    # Realms and epochs

    async def realms(self) -> list[RealmRecord]:
        return await self._catalog.realms()

    async def put_realm(self, record: RealmRecord, *, version: int) -> bool:
        return await self._catalog.put_realm(record, version)

    async def delete_realm(self, name: str, *, version: int) -> bool:
        return await self._catalog.drop_realm(name, version)

    async def realm_epochs(self) -> dict[str, Epoch]:
        return await self._revocations.realm_epochs()

    async def raise_realm_epoch(self, realm: str, datacentre: str, at_us: int) -> Epoch:
        epoch = await self._revocations.raise_realm(realm, datacentre, at_us)
        await self._feed.tell(realm, [Told(RevocationKind.REALM, b"", at_us)])
        return epoch

    async def subject_epoch(self, realm: str, subject: bytes) -> Epoch:
        return await self._revocations.subject_epoch(realm, subject)

    async def raise_subject_epoch(self, realm: str, subject: bytes, datacentre: str, at_us: int) -> Epoch:
        epoch = await self._revocations.raise_subject(realm, subject, datacentre, at_us)
        await self._feed.tell(realm, [Told(RevocationKind.SUBJECT, subject, at_us)])
        return epoch

    # Sessions

    async def read(self, realm: str, handle: str, keys: Sequence[bytes] = (), *, kinds: bytes = b"") -> Stored:
        found, tombstone = await asyncio.gather(
            self._sessions.read(realm, handle, keys, kinds), self._revocations.tombstone(realm, handle)
        )
        if found.session is None:
            return Stored(None, {}, tombstone, Epoch())
        # After the session: a session that is read was made before, and what revoked it since is read now.
        epoch = await self._revocations.subject_epoch(realm, found.session.subject)
        return Stored(found.session, found.items, tombstone, epoch)

    async def mark(self, realm: str, handle: str, subject: bytes) -> Mark | None:
        revision, tombstone, epoch = await asyncio.gather(
            self._sessions.revision(realm, handle),
            self._revocations.tombstone(realm, handle),
            self._revocations.subject_epoch(realm, subject),
        )
        return None if revision is None or tombstone is not None else Mark(revision, epoch)

    async def create(
        self,
        session: Session,
        items: Sequence[Item],
        key: SubjectKey,
        *,
        request: bytes,
        created: Created,
        guard: Guard | None,
        orphan: Callable[[Created, Session | None], End],
    ) -> bool:
        realm, handle = session.realm, session.handle
        before, used, tombstone = await asyncio.gather(
            self._catalog.created_by(request),
            self._sessions.revision(realm, handle),
            self._revocations.tombstone(realm, handle),
        )
        if used is not None or tombstone is not None:
            return False
        orphans: list[End] = []
        if before is not None and before.until_us > session.created_us:
            orphans.append(orphan(before, await self._sessions.head(realm, before.handle)))
        gone = {handle, *(end.handle for end in orphans)}
        ends: Sequence[End] = ()

        async def admit() -> bool:
            nonlocal ends
            ends = guard(await self._of_subject(session, gone)) if guard is not None else ()
            return True

        # A login that is refused is to write nothing; what is decided here is decided once more when it enters.
        if not await self._subjects.keeps(session, key) or not await admit():
            return False
        if not await self._catalog.claim(request, before, created):
            return False
        await self.end(realm, orphans)
        await self._sessions.insert(session, items)
        try:
            entered = await self._subjects.enter(session, key, admit)
        except WellspringError:
            await self._sessions.remove(realm, handle)
            raise
        if entered:
            await self.end(realm, ends)
        else:
            await self._sessions.remove(realm, handle)
        return entered

    async def created_by(self, request: bytes) -> Created | None:
        return await self._catalog.created_by(request)

    async def replace(
        self,
        before: Session,
        after: Session,
        *,
        put: Sequence[Item] = (),
        remove: Sequence[bytes] = (),
        key: SubjectKey | None = None,
        guard: Guard | None = None,
    ) -> bool:
        if before.subject != after.subject:
            return await self._move(before, after, put, remove, key, guard)
        if after.ends_us > before.ends_us:
            await self._subjects.prolong(after)
        return await self._replace(before, after, put, remove)

    async def _replace(self, before: Session, after: Session, put: Sequence[Item], remove: Sequence[bytes]) -> bool:
        """A write that meets a tombstone shows nothing, and is not answered as taken."""
        taken, tombstone = await asyncio.gather(
            self._sessions.replace(before, after, put, remove),
            self._revocations.tombstone(after.realm, after.handle),
        )
        return taken and tombstone is None

    async def _move(
        self,
        before: Session,
        after: Session,
        put: Sequence[Item],
        remove: Sequence[bytes],
        key: SubjectKey | None,
        guard: Guard | None,
    ) -> bool:
        """A session of nobody comes to a subject: it is in the subject's list before it is the subject's, so that
        others who come count it."""
        ends: Sequence[End] = ()

        async def admit() -> bool:
            nonlocal ends
            ends = guard(await self._of_subject(after, {after.handle})) if guard is not None else []
            return True

        stored = await self.read(before.realm, before.handle)
        if stored.session is None or stored.session.revision != before.revision or stored.tombstone is not None:
            return False
        if not await self._subjects.enter(after, key, admit, pending=encode_session(after)):
            return False
        if not await self._replace(before, after, put, remove):
            await self._subjects.leave([after])
            return False
        await self._subjects.leave([before])
        self._subjects.counted(before)
        await self.end(after.realm, ends)
        return True

    async def end(self, realm: str, ends: Sequence[End]) -> int:
        handles = [end.handle for end in ends]
        revisions, tombstones = await asyncio.gather(
            asyncio.gather(*(self._sessions.revision(realm, handle) for handle in handles)),
            self._revocations.tombstones(realm, handles),
        )
        await asyncio.gather(
            *(self._revocations.bury(realm, end, there) for end, there in zip(ends, tombstones, strict=True))
        )
        # One whose tombstone was there was told of, unless whoever began to end it did not come so far.
        told = [
            Told(RevocationKind.SESSION, sha256(end.handle.encode()).digest(), end.at_us)
            for end, there, revision in zip(ends, tombstones, revisions, strict=True)
            if there is None or revision is not None
        ]
        await self._feed.tell(realm, told)
        return await self._remove(realm, handles)

    async def revocations(self, realm: str, after: int, limit: int) -> Revoked:
        return await self._feed.revocations(realm, after, limit)

    async def remove(self, realm: str, handles: Sequence[str]) -> None:
        await self._remove(realm, handles)

    async def _remove(self, realm: str, handles: Sequence[str]) -> int:
        removed = await asyncio.gather(*(self._sessions.remove(realm, handle) for handle in handles))
        there = [session for session in removed if session is not None]
        for session in there:
            self._subjects.counted(session)
        await self._subjects.leave(there)
        return len(there)

    async def by_subject(self, realm: str, subject: bytes, *, after: bytes | None, limit: int) -> Page:
        entries = await self._subjects.entries_from(realm, subject, after or b"", limit + 1)
        resume = position(entries[limit].created_us, entries[limit].handle) if len(entries) > limit else None
        found = await self._stored(realm, subject, entries[:limit])
        return Page([s for s in found if s.session is not None and s.session.subject == subject], resume)

    async def _of_subject(self, session: Session, but: Collection[str]) -> list[Stored]:
        """The other sessions of a session's subject as a guard is to see them: those on their way to it included."""
        entries = await self._subjects.entries(session.realm, session.subject)
        others = [entry for entry in entries if entry.handle not in but]
        found = []
        for entry, stored in zip(others, await self._stored(session.realm, session.subject, others), strict=True):
            if stored.session is not None and stored.session.subject != session.subject:
                stored = stored._replace(session=pending_session(session.realm, entry))
            if stored.session is not None and stored.tombstone is None:
                found.append(stored)
        return found

    async def _stored(self, realm: str, subject: bytes, entries: Sequence[Entry]) -> list[Stored]:
        handles = [entry.handle for entry in entries]
        sessions, tombstones, epoch = await asyncio.gather(
            asyncio.gather(*(self._sessions.head(realm, handle) for handle in handles)),
            self._revocations.tombstones(realm, handles),
            self._revocations.subject_epoch(realm, subject),
        )
        return [Stored(s, {}, stone, epoch) for s, stone in zip(sessions, tombstones, strict=True)]

    async def anonymous(self, realm: str) -> int:
        return await self._subjects.anonymous(realm)

    async def usage(self, realm: str) -> Usage:
        return await self._walks.usage(realm)

    # Subjects' keys

    async def subject_key(self, realm: str, subject: bytes) -> bytes | None:
        return await self._subjects.key(realm, subject)

    async def erase_subject_key(self, realm: str, subject: bytes) -> bool:
        return await self._subjects.erase_key(realm, subject)

    # Care

    async def sealed_by(self, number: int) -> int:
        return await self._walks.sealed_by(number)

    async def rewrap(self, number: int, rewrap: Rewrap, resume: bytes | None, limit: int) -> Rewrapped:
        self._refused.add(number)
        return await self._walks.rewrap(number, rewrap, resume, limit)

    async def settled(self) -> None:
        """Nothing to wait for: what a quorum has read, a quorum has."""

    async def patrol(self, resume: bytes | None, limit: int) -> Patrolled:
        return await self._walks.patrol(resume, limit)

    async def prune(self, now_us: int, limit: int) -> int:
        return await self._walks.prune(limit)

    async def scrub(self) -> None:
        """Nothing: Cassandra compacts when it will."""

    async def note(self, values: Mapping[str, bytes]) -> None:
        await self._catalog.note(values)

    async def noted(self, names: Collection[str]) -> dict[str, bytes]:
        return await self._catalog.noted(names)
