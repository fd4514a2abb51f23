"""The store on this machine's disk: two data directories, held by one process.

`sessions/` holds everything but the subjects' keys, and may be copied for a backup; `keys/` holds those alone and
belongs in no backup, so that a key destroyed is destroyed everywhere. Without it, the sessions in `sessions/` live but
their sealed data opens no more.

The event loop is the lock (libs/embedded): each method reads, decides and submits without waiting in between.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from libs.embedded.batch import Batch
from libs.embedded.directory import refuse_strangers
from libs.embedded.settings import Settings
from libs.embedded.store import EmbeddedStore as Directory
from libs.errors.errors import WellspringError
from services.session.domain.epochs import raised
from services.session.domain.model import Created, Epoch, Item, RealmRecord, RevocationKind, Session
from services.session.store import codec, layout
from services.session.store.embedded_care import Care
from services.session.store.embedded_rows import Rows
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
from services.session.store.opaque_embedded import EmbeddedOpaque

VERSION: Final = 1
_STEP: Final = 10_000
_Result = TypeVar("_Result")


class EmbeddedStore:
    """See `store.interface.Store`, which says what each method does."""

    keys_apart = False
    fellows = None
    origins = None

    def __init__(self, sessions: Directory, keys: Directory) -> None:
        """Use `open`."""
        self._sessions = sessions
        self._keys = keys
        self._key_family = keys.family("keys")
        self._rows = Rows(sessions)
        self._care = Care(sessions, keys, self._rows)
        self.ledger = None
        self.opaque = EmbeddedOpaque(sessions, self._keep_realm_key)

    @classmethod
    def open(cls, path: str | Path, settings: Settings | None = None) -> "EmbeddedStore":
        """Creates or opens both directories below `path`, and holds them. Blocks while a crash is recovered from.

        Raises what libs.embedded raises: DirectoryInUse, WrongDirectory, StoreUnavailable, DiskFull, StoreDamaged.
        """
        refuse_strangers(Path(path), schema="session", ours=("sessions", "keys"))
        sessions = Directory.open(
            Path(path) / "sessions",
            schema="session",
            version=VERSION,
            families=layout.SESSION_FAMILIES,
            settings=settings,
        )
        try:
            keys = Directory.open(
                Path(path) / "keys",
                schema="session-keys",
                version=VERSION,
                families=layout.KEY_FAMILIES,
                settings=settings,
            )
        except BaseException:
            sessions.close()
            raise
        return cls(sessions, keys)

    async def close(self) -> None:
        """Syncs and gives the directories back."""
        self._sessions.close()
        self._keys.close()

    async def check(self) -> None:
        """Raises when the store takes no writes any more."""
        for directory in (self._sessions, self._keys):
            if directory.failure is not None:
                raise directory.failure

    # Realms and epochs

    async def realms(self) -> list[RealmRecord]:
        return [codec.decode_realm(key.decode(), value) for key, value in self._rows.realms.scan()]

    async def put_realm(self, record: RealmRecord, *, version: int) -> bool:
        return await self._if_realm(
            record.name, version, lambda b, key: b.put(self._rows.realms, key, codec.encode_realm(record))
        )

    async def delete_realm(self, name: str, *, version: int) -> bool:
        return await self._if_realm(name, version, lambda batch, key: batch.delete(self._rows.realms, key))

    async def _if_realm(self, name: str, version: int, change: Callable[[Batch, bytes], None]) -> bool:
        def decide(batch: Batch) -> bool:
            there = self._rows.realms.get(name.encode())
            if (codec.decode_realm(name, there).version if there is not None else 0) != version:
                return False
            change(batch, name.encode())
            return True

        return await self._sessions.transact(decide)

    async def realm_epochs(self) -> dict[str, Epoch]:
        # A realm's own epoch has the realm's prefix for its key; the subjects' have more.
        return {
            key[:-1].decode(): codec.decode_epoch(value)
            for key, value in self._rows.epochs.scan()
            if key.index(b"\0") == len(key) - 1
        }

    async def raise_realm_epoch(self, realm: str, datacentre: str, at_us: int) -> Epoch:
        return await self._raise(realm, b"", datacentre, at_us)

    async def subject_epoch(self, realm: str, subject: bytes, *, looked_at_again: bool = False) -> Epoch:
        return self._rows.subject_epoch(realm, subject)

    async def raise_subject_epoch(self, realm: str, subject: bytes, datacentre: str, at_us: int) -> Epoch:
        return await self._raise(realm, subject, datacentre, at_us)

    async def _raise(self, realm: str, subject: bytes, datacentre: str, at_us: int) -> Epoch:
        """Of a realm when there is no subject."""
        key = layout.subject_key(realm, subject)
        kind = RevocationKind.SUBJECT if subject else RevocationKind.REALM

        def decide(batch: Batch) -> Epoch:
            batch.frees = True  # A revocation does not wait for room on the disk.
            self._rows.tell(batch, realm, kind, subject, at_us)
            epoch = raised(codec.decode_epoch(self._rows.epochs.get(key)), datacentre, at_us)
            batch.put(self._rows.epochs, key, codec.encode_epoch(epoch))
            return epoch

        return await self._transact(decide)

    # Sessions

    async def read(
        self, realm: str, handle: str, keys: Sequence[bytes] = (), *, kinds: bytes = b"", home: str = ""
    ) -> Stored:
        return self._rows.read(realm, handle, keys, kinds)

    async def mark(self, realm: str, handle: str, subject: bytes) -> Mark | None:
        return self._rows.mark(realm, handle, subject)

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
        rows, durable = self._rows, Durable()

        def decide(batch: Batch) -> bool:
            if rows.used(session.realm, session.handle):
                return False
            before = rows.created_by(request)
            ends = []
            if before is not None and before.until_us > session.created_us:
                ends.append(orphan(before, rows.session(session.realm, before.handle)))
            if guard is not None:
                gone = {end.handle for end in ends}
                others = rows.of_subject(session.realm, session.subject)
                ends += guard([s for s in others if s.session is not None and s.session.handle not in gone])
            if not self._keep_key(session.realm, session.subject, key, durable):
                return False
            rows.end(batch, session.realm, ends)
            rows.insert(batch, session, items)
            batch.put(rows.requests, layout.request_key(request), codec.encode_created(created))
            return True

        done = await self._transact(decide)
        await durable.wait()
        return done

    async def created_by(self, request: bytes) -> Created | None:
        return self._rows.created_by(request)

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
        rows, durable = self._rows, Durable()

        def decide(batch: Batch) -> bool:
            if not rows.stands(before):
                return False
            ends = guard(rows.of_subject(after.realm, after.subject)) if guard is not None else ()
            if key is not None and not self._keep_key(after.realm, after.subject, key, durable):
                return False
            rows.end(batch, after.realm, ends)
            rows.update(batch, before, after, put, remove)
            return True

        done = await self._transact(decide)
        await durable.wait()
        return done

    async def end(self, realm: str, ends: Sequence[End]) -> int:
        def decide(batch: Batch) -> int:
            batch.frees = True
            return self._rows.end(batch, realm, ends)

        return await self._transact(decide)

    async def revocations(self, realm: str, after: int, limit: int) -> Revoked:
        return self._rows.revoked(realm, after, limit)

    async def remove(self, realm: str, handles: Sequence[str]) -> None:
        def decide(batch: Batch) -> None:
            batch.frees = True
            for handle in handles:
                self._rows.remove(batch, realm, handle)

        await self._transact(decide, wait=False)

    async def _transact(self, decide: Callable[[Batch], _Result], *, wait: bool = True) -> _Result:
        """A change of sessions; the counts that it made are taken back when it was refused."""
        counted: list[tuple[str, int]] = []

        def counting(batch: Batch) -> _Result:
            self._rows.counted = counted
            return decide(batch)

        try:
            return await self._sessions.transact(counting, wait=wait)
        except WellspringError:
            self._rows.uncount(counted)
            raise

    async def by_subject(self, realm: str, subject: bytes, *, after: bytes | None, limit: int) -> Page:
        return self._rows.page(realm, subject, after, limit)

    async def anonymous(self, realm: str) -> int:
        return self._rows.anonymous.get(realm, 0)

    async def usage(self, realm: str) -> Usage:
        sessions = subjects = 0
        last, prefix, resume = b"", layout.realm_prefix(realm), None
        while True:
            page = self._rows.subjects.page(prefix, start=resume, max_items=_STEP, max_bytes=1 << 24)
            for key, _ in page.items:
                subject = key[len(prefix) : len(prefix) + layout.SUBJECT_BYTES]
                sessions += 1
                subjects += subject != last and subject != bytes(layout.SUBJECT_BYTES)
                last = subject
            resume = page.resume
            if resume is None:
                return Usage(sessions, self._rows.anonymous.get(realm, 0), subjects)
            await asyncio.sleep(0)

    # Subjects' keys

    async def subject_key(
        self, realm: str, subject: bytes, home: str = "", session: Session | None = None
    ) -> bytes | None:
        return self._key_family.get(layout.subject_key(realm, subject))

    async def erase_subject_key(self, realm: str, subject: bytes) -> bool:
        def decide(batch: Batch) -> bool:
            key = layout.subject_key(realm, subject)
            batch.delete(self._key_family, key)
            return self._key_family.has(key)

        return await self._keys.transact(decide)

    def _keep_key(self, realm: str, subject: bytes, key: SubjectKey, durable: "Durable") -> bool:
        """Whether the subject's key is this one, after keeping it if it is fresh and there is none."""
        name = layout.subject_key(realm, subject)
        there = self._key_family.get(name)
        if there is not None or not key.fresh:
            return there == key.sealed
        if self._care.refuses(key.sealed):
            return False
        batch = self._keys.batch()
        batch.put(self._key_family, name, key.sealed)
        durable.add(self._keys.submit(batch))
        return True

    async def _keep_realm_key(self, realm: str, subject: bytes, sealed: bytes) -> bool:
        durable = Durable()
        kept = self._keep_key(realm, subject, SubjectKey(sealed, fresh=True), durable)
        await durable.wait()
        return kept

    # Care

    async def sealed_by(self, number: int) -> int:
        return await self._care.sealed_by(number)

    async def rewrap(self, number: int, rewrap: Rewrap, resume: bytes | None, limit: int) -> Rewrapped:
        return await self._care.rewrap(number, rewrap, resume, limit)

    async def settled(self) -> None:
        await self._sessions.durable()
        await self._keys.durable()

    async def patrol(self, resume: bytes | None, limit: int) -> Patrolled:
        return self._rows.patrol(resume, limit)

    async def prune(self, now_us: int, limit: int) -> int:
        return await self._care.prune(now_us, limit)

    def care_at(self, home: str) -> "EmbeddedStore":
        return self

    async def scrub(self) -> None:
        await self._care.scrub()

    async def note(self, values: Mapping[str, bytes], *, everywhere: bool = False) -> None:
        batch = self._sessions.batch()
        batch.put_many(self._rows.notes, [(name.encode(), value) for name, value in values.items()])
        await self._sessions.commit(batch)

    async def noted(self, names: Collection[str]) -> dict[str, bytes]:
        found = {name: self._rows.notes.get(name.encode()) for name in names}
        return {name: value for name, value in found.items() if value is not None}


class Durable:
    """Commits of the other directory that belong to a change, waited for before it is answered."""

    def __init__(self) -> None:
        self._waiting: list[Awaitable[None]] = []

    def add(self, commit: Awaitable[None]) -> None:
        self._waiting.append(commit)

    async def wait(self) -> None:
        for commit in self._waiting:
            await commit
