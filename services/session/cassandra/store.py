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
from libs.cassandra.limits import batch_limits
from libs.cassandra.options import Options
from libs.cassandra.session import Session as Connection
from libs.errors.errors import FailedPrecondition
from services.session.cassandra.catalog import Catalog
from services.session.cassandra.cluster import Cluster
from services.session.cassandra.creating import Creating
from services.session.cassandra.feed import Feed, Told
from services.session.cassandra.fellows import CassandraFellows
from services.session.cassandra.homes import Homes, Place, furnished
from services.session.cassandra.hot import FollowedHot
from services.session.cassandra.known import Known
from services.session.cassandra.layout import position
from services.session.cassandra.opaque import CassandraOpaque
from services.session.cassandra.origins import CassandraOrigins
from services.session.cassandra.proofs import SpentProofs
from services.session.cassandra.statements import Statements
from services.session.cassandra.walks import Walks
from services.session.domain.epochs import merged
from services.session.domain.model import Created, Epoch, Item, RealmRecord, RevocationKind, Session
from services.session.store.codec import encode_session
from services.session.store.interface import (
    Care,
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


class DatacentreMismatch(FailedPrecondition):
    """What the configuration calls this data centre is not what the cluster does."""

    default_reason = "DATACENTRE_MISMATCH"


class CassandraStore:
    """See `store.interface.Store`, which says what each method does."""

    keys_apart: Final = True

    def __init__(self, cluster: Cluster, datacentre: str, others: Sequence[str] = ()) -> None:
        """Use `open`."""
        self._refused: set[int] = set()
        self.fellows = CassandraFellows(cluster, datacentre, others, self._ask)
        self._all = homes = (datacentre, *others)

        def furnish(asked: Cluster, home: str) -> Place:
            return furnished(asked, home, homes, self._refuses)

        self._cluster = cluster
        self._here = here = furnish(cluster, datacentre)
        self.homes = Homes(here, datacentre, others, furnish)
        self._feed = Feed(cluster, datacentre)
        self.known = Known(cluster, self._feed, datacentre, others)
        self._catalog = Catalog(cluster)
        self._creating = Creating(cluster, here, self._catalog, self.known, self.end, self._remove)
        self.ledger = SpentProofs(self._ask)
        self._walks = self._walks_of(here, datacentre)
        self.opaque = CassandraOpaque(
            cluster, lambda home: self.homes.at(home).subjects.keep_key, self._feed, others, self._ask
        )
        self.origins: CassandraOrigins | None = None
        if others:
            self.origins = CassandraOrigins(
                cluster, self._feed, here.revocations, self.opaque, datacentre, others, self._ask, self._remove
            )

    def _refuses(self, sealed: bytes) -> bool:
        return sealed[0] in self._refused or not self.fellows.may_seal()

    @classmethod
    async def open(cls, options: Options, datacentre: str, now_us: Callable[[], int]) -> "CassandraStore":
        """Connects, and looks whether the tables are those of this release. `datacentre`: the one that numbers
        revocations, and the home of sessions made here; `now_us`: microseconds since 1970. Raises Unavailable,
        FailedPrecondition."""
        connection = await Connection.open(options)
        try:
            several = connection.replicated()
            if len(several) > 1 and datacentre != options.local_datacentre:
                raise DatacentreMismatch(
                    f"datacentre is {datacentre!r} and backend.cassandra.local_datacentre"
                    f" {options.local_datacentre!r}: where sessions are kept in several data centres"
                    f" ({', '.join(sorted(several))}) the two are the same"
                )
            await migrations.check(connection, migrations.read(MIGRATIONS))
            statements = await Statements.prepare(connection)
            limits = await batch_limits(connection)
        except BaseException:
            await connection.close()
            raise
        others = sorted(several - {datacentre}) if len(several) > 1 else []
        return cls(Cluster(connection, statements, now_us, limits), datacentre, others)

    async def close(self) -> None:
        """Ends the connections."""
        await self.homes.close()
        await self._cluster.session.close()

    def hot(self, now_us: Callable[[], int]) -> FollowedHot:
        """What the hot path reads while `known` is followed, and run. `now_us`: the time that sessions live by."""
        return FollowedHot(self._here, self.known, now_us)

    async def check(self) -> None:
        """Raises Unavailable when the cluster does not answer."""
        await self._catalog.noted(["check"])

    def _ask(self, datacentre: str) -> Cluster:
        return self.homes.at(datacentre).cluster

    # Realms and epochs

    async def realms(self) -> list[RealmRecord]:
        return await self._catalog.realms()

    async def put_realm(self, record: RealmRecord, *, version: int) -> bool:
        return await self._catalog.put_realm(record, version)

    async def delete_realm(self, name: str, *, version: int) -> bool:
        return await self._catalog.drop_realm(name, version)

    async def realm_epochs(self) -> dict[str, Epoch]:
        return await self._here.revocations.realm_epochs()

    async def raise_realm_epoch(self, realm: str, datacentre: str, at_us: int) -> Epoch:
        epoch = await self._here.revocations.raise_realm(realm, datacentre, at_us)
        await self._tell_epoch(realm, RevocationKind.REALM, b"", epoch, datacentre)
        return epoch

    async def subject_epoch(self, realm: str, subject: bytes, *, looked_at_again: bool = False) -> Epoch:
        if looked_at_again and not self.known.may_have_raised(realm, subject):
            return Epoch()
        return await self._here.revocations.subject_epoch(realm, subject)

    async def raise_subject_epoch(self, realm: str, subject: bytes, datacentre: str, at_us: int) -> Epoch:
        self.known.raises(realm, subject)
        epoch = await self._here.revocations.raise_subject(realm, subject, datacentre, at_us)
        await self._tell_epoch(realm, RevocationKind.SUBJECT, subject, epoch, datacentre)
        return epoch

    async def _tell_epoch(self, realm: str, kind: RevocationKind, name: bytes, epoch: Epoch, datacentre: str) -> None:
        counter = dict(epoch.counters)[datacentre]
        await self._feed.tell(realm, [Told(kind, name, epoch.raised_us, counter=counter)])

    # Sessions

    async def read(
        self, realm: str, handle: str, keys: Sequence[bytes] = (), *, kinds: bytes = b"", home: str = ""
    ) -> Stored:
        if not self.homes.is_far(home):
            return await self._here.read(realm, handle, keys, kinds)
        there, tombstone = await asyncio.gather(
            self.homes.at(home).read(realm, handle, keys, kinds), self._here.revocations.tombstone(realm, handle)
        )
        if there.session is None:
            return there._replace(tombstone=there.tombstone or tombstone)
        epoch = await self._here.revocations.subject_epoch(realm, there.session.subject)
        return there._replace(tombstone=there.tombstone or tombstone, subject_epoch=merged(there.subject_epoch, epoch))

    async def mark(self, realm: str, handle: str, subject: bytes) -> Mark | None:
        revision, tombstone, epoch = await asyncio.gather(
            self._here.sessions.revision(realm, handle),
            self._here.revocations.tombstone(realm, handle),
            self._here.revocations.subject_epoch(realm, subject),
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
        return await self._creating.create(session, items, key, request, created, guard, orphan)

    async def created_by(self, request: bytes) -> Created | None:
        made = await self._catalog.created_by(request)
        return max(made, key=lambda one: (one.until_us, one.handle), default=None)

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
        place = self.homes.at(before.home)
        if before.subject != after.subject:
            return await self._move(place, before, after, put, remove, key, guard)
        if after.ends_us > before.ends_us:
            await place.subjects.prolong(after)
        return await self._replace(place, before, after, put, remove)

    async def _replace(
        self, place: Place, before: Session, after: Session, put: Sequence[Item], remove: Sequence[bytes]
    ) -> bool:
        """A write that meets a tombstone, at its home or here, shows nothing, and is not answered as taken."""
        taken, there, here = await asyncio.gather(
            place.sessions.replace(before, after, put, remove),
            place.revocations.tombstone(after.realm, after.handle),
            self._here.revocations.tombstone(after.realm, after.handle),
        )
        return taken and there is None and here is None

    async def _move(
        self,
        place: Place,
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
            if guard is not None:
                ends = guard(await place.of_subject(after.realm, after.subject, {after.handle}))
            return True

        stored = await self.read(before.realm, before.handle, home=before.home)
        if stored.session is None or stored.session.revision != before.revision or stored.tombstone is not None:
            return False
        if not await place.subjects.enter(after, key, admit, pending=encode_session(after)):
            return False
        if not await self._replace(place, before, after, put, remove):
            await place.subjects.leave([after])
            return False
        await place.subjects.leave([before])
        place.subjects.left(before)
        await self.end(after.realm, ends)
        if await self._here.is_outdated(after):
            await self._remove(after.realm, [after.handle])
        return True

    async def end(self, realm: str, ends: Sequence[End]) -> int:
        """What has its home elsewhere is removed there, when it is heard of."""
        here, handles = self._here, [end.handle for end in ends]
        heads, tombstones = await asyncio.gather(
            asyncio.gather(*(here.sessions.head(realm, handle) for handle in handles)),
            here.revocations.tombstones(realm, handles),
        )
        self.known.ends(realm, handles)
        await asyncio.gather(
            *(here.revocations.bury(realm, end, there) for end, there in zip(ends, tombstones, strict=True))
        )
        # One whose tombstone was there was told of, unless whoever began to end it did not come so far.
        told = [
            _told(end)
            for end, there, head in zip(ends, tombstones, heads, strict=True)
            if there is None or (head is not None and not self.homes.is_far(head.home))
        ]
        await self._feed.tell(realm, told)
        far = [there for head, there in zip(heads, tombstones, strict=True) if head and self.homes.is_far(head.home)]
        return await self._remove(realm, handles) + sum(there is None for there in far)

    async def revocations(self, realm: str, after: int, limit: int) -> Revoked:
        return await self._feed.revocations(realm, after, limit)

    async def remove(self, realm: str, handles: Sequence[str]) -> None:
        await self._remove(realm, handles)

    async def _remove(self, realm: str, handles: Sequence[str]) -> int:
        """Removes those of these sessions that have their home here; how many there were."""
        here = self._here
        if self.homes.others:
            heads = await asyncio.gather(*(here.sessions.head(realm, handle) for handle in handles))
            handles = [head.handle for head in heads if head is not None and not self.homes.is_far(head.home)]
        removed = await asyncio.gather(*(here.sessions.remove(realm, handle) for handle in handles))
        there = [session for session in removed if session is not None]
        for session in there:
            here.subjects.left(session)
        await here.subjects.leave(there)
        return len(there)

    async def by_subject(self, realm: str, subject: bytes, *, after: bytes | None, limit: int) -> Page:
        entries = await self._here.entries_from(realm, subject, after or b"", limit + 1)
        resume = position(entries[limit].created_us, entries[limit].handle) if len(entries) > limit else None
        found = await self._here.stored(realm, subject, entries[:limit])
        return Page([s for s in found if s.session is not None and s.session.subject == subject], resume)

    async def anonymous(self, realm: str) -> int:
        return await self._here.subjects.anonymous(realm)

    async def usage(self, realm: str) -> Usage:
        return await self._walks.usage(realm)

    # Subjects' keys

    async def subject_key(
        self, realm: str, subject: bytes, home: str = "", session: Session | None = None
    ) -> bytes | None:
        if not self.homes.is_far(home):
            return await self._here.subjects.key(realm, subject, session)
        copy = await next(one for one in self._here.lists if one.home == home).key(realm, subject, session)
        # One that was sealed anew at home may be here as it was before, by a key that was retired since.
        if copy is not None and self.fellows.opens(copy[0]):
            return copy
        return await self.homes.at(home).subjects.key(realm, subject, session)

    async def erase_subject_key(self, realm: str, subject: bytes) -> bool:
        erased = [await self._here.subjects.erase_key(realm, subject)]
        for home in self.homes.others:
            erased.append(await self.homes.at(home).subjects.erase_key(realm, subject))
        return any(erased)

    # Care

    def care_at(self, home: str) -> Care:
        return self._walks_of(self.homes.at(home), home) if self.homes.is_far(home) else self

    def _walks_of(self, place: Place, home: str) -> Walks:
        others = [name for name in self._all if name != home]
        return Walks(place.cluster, place.subjects, place.revocations, self._catalog, home, others)

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

    async def note(self, values: Mapping[str, bytes], *, everywhere: bool = False) -> None:
        await self._catalog.note(values, everywhere=everywhere)

    async def noted(self, names: Collection[str]) -> dict[str, bytes]:
        return await self._catalog.noted(names)


def _told(end: End) -> Told:
    name = sha256(end.handle.encode()).digest()
    return Told(RevocationKind.SESSION, name, end.at_us, end.handle, end.cause, end.until_us)
