"""Reading and changing the rows of the embedded store: what goes into a batch for each change of a session."""

from collections.abc import Sequence
from hashlib import sha256

from libs.embedded.batch import Batch
from libs.embedded.family import Family
from libs.embedded.store import EmbeddedStore as Directory
from services.session.domain.model import (
    ANONYMOUS,
    Created,
    Epoch,
    Item,
    Revocation,
    RevocationKind,
    Session,
    Tombstone,
)
from services.session.store import codec, layout
from services.session.store.interface import End, Mark, Page, Patrolled, Revoked, Stored

_MANY = 1 << 24


class Rows:
    """The families of `sessions/`. Nothing here waits; each call sees what was submitted before it."""

    def __init__(self, directory: Directory) -> None:
        self.sessions = directory.family("sessions")
        self.items = directory.family("items")
        self.requests = directory.family("requests")
        self.subjects = directory.family("subjects")
        self.tombstones = directory.family("tombstones")
        self.epochs = directory.family("epochs")
        self.revocations = directory.family("revocations")
        self.realms = directory.family("realms")
        self.notes = directory.family("notes")
        self.anonymous = self._count_anonymous()
        self._newest: dict[str, int] = {}
        # What the change under way counted.
        self.counted: list[tuple[str, int]] = []

    # Reading

    def session(self, realm: str, handle: str) -> Session | None:
        """A session without what is around it."""
        data = self.sessions.get(layout.session_key(realm, handle))
        return None if data is None else codec.decode_session(realm, handle, data)

    def subject_epoch(self, realm: str, subject: bytes) -> Epoch:
        """The epoch of a subject."""
        return codec.decode_epoch(self.epochs.get(layout.subject_key(realm, subject)))

    def read(self, realm: str, handle: str, keys: Sequence[bytes], kinds: bytes) -> Stored:
        """See Store.read."""
        name = layout.session_key(realm, handle)
        data = self.sessions.get(name)
        tombstone = codec.decode_tombstone(self.tombstones.get(name))
        if data is None:
            return Stored(None, {}, tombstone, Epoch())
        session = codec.decode_session(realm, handle, data)
        items: dict[bytes, Item] = {}
        for key in keys:
            value = self._family(key).get(name + key)
            if value is not None:
                items[key] = codec.decode_item(key, value)
        for kind in kinds:
            prefix = name + bytes((kind,))
            for full, value in self._family(bytes((kind,))).scan(prefix):
                key = full[len(name) :]
                items[key] = codec.decode_item(key, value)
        return Stored(session, items, tombstone, self.subject_epoch(realm, session.subject))

    def mark(self, realm: str, handle: str, subject: bytes) -> Mark | None:
        """See Store.mark."""
        name = layout.session_key(realm, handle)
        data = self.sessions.get(name)
        if data is None or self.tombstones.has(name):
            return None
        return Mark(codec.revision_of(data), self.subject_epoch(realm, subject))

    def stands(self, before: Session) -> bool:
        """Whether a session is still at the revision that was read."""
        name = layout.session_key(before.realm, before.handle)
        data = self.sessions.get(name)
        return data is not None and codec.revision_of(data) == before.revision and not self.tombstones.has(name)

    def used(self, realm: str, handle: str) -> bool:
        """Whether a session has or had this handle."""
        name = layout.session_key(realm, handle)
        return self.sessions.has(name) or self.tombstones.has(name)

    def created_by(self, request: bytes) -> Created | None:
        """See Store.created_by."""
        return codec.decode_created(self.requests.get(layout.request_key(request)))

    def of_subject(self, realm: str, subject: bytes) -> list[Stored]:
        """All sessions of a subject, oldest first."""
        return self.page(realm, subject, None, _MANY).found

    def page(self, realm: str, subject: bytes, after: bytes | None, limit: int) -> Page:
        """See Store.by_subject."""
        prefix = layout.subject_key(realm, subject)
        start = prefix + after if after is not None else None
        piece = self.subjects.page(prefix, start=start, max_items=limit, max_bytes=_MANY * 64)
        handles = [key[-layout.HANDLE_CHARS :].decode() for key, _ in piece.items]
        rows = self.sessions.get_many([layout.session_key(realm, handle) for handle in handles])
        epoch = self.subject_epoch(realm, subject)
        found = [
            Stored(codec.decode_session(realm, handle, data), {}, None, epoch)
            for handle, data in zip(handles, rows, strict=True)
            if data is not None
        ]
        return Page(found, None if piece.resume is None else piece.resume[len(prefix) :])

    def patrol(self, resume: bytes | None, limit: int) -> Patrolled:
        """See Store.patrol."""
        piece = self.sessions.page(start=resume, max_items=limit, max_bytes=_MANY)
        found = []
        for key, data in piece.items:
            realm, handle = layout.split_key(key)
            session = codec.decode_session(realm, handle, data)
            found.append(Stored(session, {}, None, self.subject_epoch(realm, session.subject)))
        return Patrolled(found, piece.resume)

    # Changing

    def insert(self, batch: Batch, session: Session, items: Sequence[Item]) -> None:
        """A new session."""
        name = layout.session_key(session.realm, session.handle)
        batch.put(self.sessions, name, codec.encode_session(session))
        batch.put(self.subjects, layout.index_key(session), b"")
        self._put(batch, name, items)
        self._count(session, 1)

    def update(
        self, batch: Batch, before: Session, after: Session, put: Sequence[Item], remove: Sequence[bytes]
    ) -> None:
        """A session's next revision."""
        name = layout.session_key(after.realm, after.handle)
        batch.put(self.sessions, name, codec.encode_session(after))
        self._put(batch, name, put)
        batch.delete_many(self.items, [name + key for key in remove])
        if before.subject != after.subject:
            batch.delete(self.subjects, layout.index_key(before))
            batch.put(self.subjects, layout.index_key(after), b"")
            self._count(before, -1)
            self._count(after, 1)

    def end(self, batch: Batch, realm: str, ends: Sequence[End]) -> int:
        """Tombstones; those that are there stay as they are, but never for a shorter time."""
        count = 0
        for end in ends:
            name = layout.session_key(realm, end.handle)
            there = codec.decode_tombstone(self.tombstones.get(name))
            if there is None:
                tombstone = Tombstone(end.at_us, end.until_us, end.cause)
                batch.put(self.tombstones, name, codec.encode_tombstone(tombstone))
                self.tell(batch, realm, RevocationKind.SESSION, sha256(end.handle.encode()).digest(), end.at_us)
            elif there.until_us < end.until_us:
                longer = there._replace(until_us=end.until_us)
                batch.put(self.tombstones, name, codec.encode_tombstone(longer))
            count += self.remove(batch, realm, end.handle)
        return count

    def tell(self, batch: Batch, realm: str, kind: RevocationKind, name: bytes, at_us: int) -> None:
        """Numbers a revocation in the batch that makes it true."""
        number = self._newest[realm] = self.newest_revocation(realm) + 1
        row = codec.encode_revocation(Revocation(number, kind, name, at_us))
        batch.put(self.revocations, layout.revocation_key(realm, number), row)

    def newest_revocation(self, realm: str) -> int:
        """Its number; 0 when there never was one."""
        known = self._newest.get(realm)
        if known is None:
            last = self.revocations.last(layout.realm_prefix(realm))
            known = self._newest[realm] = int.from_bytes(last[0][-8:], "big") if last is not None else 0
        return known

    def revoked(self, realm: str, after: int, limit: int) -> Revoked:
        """See Store.revocations."""
        prefix, newest = layout.realm_prefix(realm), self.newest_revocation(realm)
        first = self.revocations.first(prefix)
        oldest = int.from_bytes(first[0][-8:], "big") if first is not None else 0
        found = []
        if after < newest:
            start = layout.revocation_key(realm, after + 1)
            for key, row in self.revocations.scan(prefix, start=start):
                found.append(codec.decode_revocation(int.from_bytes(key[-8:], "big"), row))
                if len(found) == limit:
                    break
        return Revoked(found, oldest, newest)

    def remove(self, batch: Batch, realm: str, handle: str) -> bool:
        """A session with all that is beside it; whether it was there."""
        session = self.session(realm, handle)
        if session is None:
            return False
        name = layout.session_key(realm, handle)
        batch.delete(self.sessions, name)
        batch.delete(self.subjects, layout.index_key(session))
        batch.delete_many(self.items, list(self.items.scan_keys(name)))
        batch.delete_many(self.requests, list(self.requests.scan_keys(name)))
        self._count(session, -1)
        return True

    def _put(self, batch: Batch, name: bytes, items: Sequence[Item]) -> None:
        for item in items:
            batch.put(self._family(item.key), name + item.key, codec.encode_item(item))

    def _family(self, key: bytes) -> Family:
        return self.requests if key[:1] in layout.EXPIRING else self.items

    # Anonymous sessions are counted, for their limit must not cost a walk over all of them.

    def _count(self, session: Session, change: int) -> None:
        if session.anonymous:
            self.anonymous[session.realm] = self.anonymous.get(session.realm, 0) + change
            self.counted.append((session.realm, change))

    def uncount(self, counted: Sequence[tuple[str, int]]) -> None:
        """Takes back the counts of a change that was not written."""
        for realm, change in counted:
            self.anonymous[realm] -= change
        self._newest.clear()  # read anew: what was numbered is not there

    def _count_anonymous(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for key, _ in self.realms.scan():
            prefix = layout.subject_key(key.decode(), ANONYMOUS)
            counts[key.decode()] = sum(1 for _ in self.subjects.scan_keys(prefix))
        return counts
