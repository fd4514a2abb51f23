"""The store in memory: for tests and simulations, and as the plainest statement of what a store does."""

from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256

from services.session.domain.epochs import raised
from services.session.domain.model import (
    ANONYMOUS,
    REVOCATIONS_KEPT_US,
    Created,
    Epoch,
    Item,
    RealmRecord,
    Revocation,
    RevocationKind,
    Session,
    Tombstone,
)
from services.session.domain.opaque_model import OPAQUE_REALM
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
from services.session.store.opaque_memory import MemoryOpaque

_Name = tuple[str, str]


class MemoryStore:
    """See `store.interface.Store`, which says what each method does. `reads` counts reads of sessions, `writes` what
    changed something."""

    keys_apart = False
    fellows = None
    origins = None

    def __init__(self) -> None:
        self._realms: dict[str, RealmRecord] = {}
        self._realm_epochs: dict[str, Epoch] = {}
        self._subject_epochs: dict[tuple[str, bytes], Epoch] = {}
        self._sessions: dict[_Name, Session] = {}
        self._items: dict[_Name, dict[bytes, Item]] = {}
        self._tombstones: dict[_Name, Tombstone] = {}
        self._created: dict[bytes, Created] = {}
        self._keys: dict[tuple[str, bytes], bytes] = {}
        self._refused: set[int] = set()
        self._notes: dict[str, bytes] = {}
        self._revocations: dict[str, list[Revocation]] = {}
        self.ledger = None
        self.opaque = MemoryOpaque(lambda realm, at, key: self._keep_key(realm, at, SubjectKey(key, fresh=True)))
        self.reads = 0
        self.writes = 0

    async def close(self) -> None:
        """Nothing to give back."""

    async def check(self) -> None:
        """Always well."""

    async def realms(self) -> list[RealmRecord]:
        return [record for _, record in sorted(self._realms.items())]

    async def put_realm(self, record: RealmRecord, *, version: int) -> bool:
        if not self._is_version(record.name, version):
            return False
        self._realms[record.name] = record
        return True

    async def delete_realm(self, name: str, *, version: int) -> bool:
        if not self._is_version(name, version):
            return False
        self._realms.pop(name, None)
        return True

    def _is_version(self, name: str, version: int) -> bool:
        there = self._realms.get(name)
        return (there.version if there is not None else 0) == version

    async def realm_epochs(self) -> dict[str, Epoch]:
        return dict(self._realm_epochs)

    async def raise_realm_epoch(self, realm: str, datacentre: str, at_us: int) -> Epoch:
        epoch = raised(self._realm_epochs.get(realm, Epoch()), datacentre, at_us)
        self._realm_epochs[realm] = epoch
        self._tell(realm, RevocationKind.REALM, b"", at_us)
        return epoch

    async def subject_epoch(self, realm: str, subject: bytes, *, looked_at_again: bool = False) -> Epoch:
        return self._subject_epochs.get((realm, subject), Epoch())

    async def raise_subject_epoch(self, realm: str, subject: bytes, datacentre: str, at_us: int) -> Epoch:
        epoch = raised(self._subject_epochs.get((realm, subject), Epoch()), datacentre, at_us)
        self._subject_epochs[realm, subject] = epoch
        self._tell(realm, RevocationKind.SUBJECT, subject, at_us)
        return epoch

    async def read(
        self, realm: str, handle: str, keys: Sequence[bytes] = (), *, kinds: bytes = b"", home: str = ""
    ) -> Stored:
        self.reads += 1
        name = realm, handle
        session = self._sessions.get(name)
        if session is None:
            return Stored(None, {}, self._tombstones.get(name), Epoch())
        there = self._items.get(name, {})
        wanted = {key: item for key, item in there.items() if key in keys or key[0] in kinds}
        epoch = self._subject_epochs.get((realm, session.subject), Epoch())
        return Stored(session, wanted, self._tombstones.get(name), epoch)

    async def mark(self, realm: str, handle: str, subject: bytes) -> Mark | None:
        session = self._sessions.get((realm, handle))
        if session is None or (realm, handle) in self._tombstones:
            return None
        return Mark(session.revision, self._subject_epochs.get((realm, subject), Epoch()))

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
        name = session.realm, session.handle
        if name in self._sessions or name in self._tombstones:
            return False
        before, ends = self._created.get(request), []
        if before is not None and before.until_us > session.created_us:
            ends.append(orphan(before, self._sessions.get((session.realm, before.handle))))
        if guard is not None:
            gone = {end.handle for end in ends}
            others = self._of_subject(session.realm, session.subject)
            ends += guard([s for s in others if s.session is not None and s.session.handle not in gone])
        if not self._keep_key(session.realm, session.subject, key):
            return False
        self._end(session.realm, ends)
        self._sessions[name] = session
        self._items[name] = {item.key: item for item in items}
        self._created[request] = created
        self.writes += 1
        return True

    async def created_by(self, request: bytes) -> Created | None:
        return self._created.get(request)

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
        name = before.realm, before.handle
        there = self._sessions.get(name)
        if there is None or there.revision != before.revision or name in self._tombstones:
            return False
        ends = guard(self._of_subject(after.realm, after.subject)) if guard is not None else ()
        if key is not None and not self._keep_key(after.realm, after.subject, key):
            return False
        self._end(after.realm, ends)
        self._sessions[name] = after
        items = self._items[name]
        items.update((item.key, item) for item in put)
        for gone in remove:
            items.pop(gone, None)
        self.writes += 1
        return True

    async def end(self, realm: str, ends: Sequence[End]) -> int:
        return self._end(realm, ends)

    def _end(self, realm: str, ends: Sequence[End]) -> int:
        count = 0
        for end in ends:
            name = realm, end.handle
            there = self._tombstones.get(name)
            if there is None:
                self._tombstones[name] = Tombstone(end.at_us, end.until_us, end.cause)
                self._tell(realm, RevocationKind.SESSION, sha256(end.handle.encode()).digest(), end.at_us)
            elif there.until_us < end.until_us:
                self._tombstones[name] = there._replace(until_us=end.until_us)
            count += self._remove(name)
        return count

    def _tell(self, realm: str, kind: RevocationKind, name: bytes, at_us: int) -> None:
        told = self._revocations.setdefault(realm, [])
        told.append(Revocation(told[-1].sequence + 1 if told else 1, kind, name, at_us))

    async def revocations(self, realm: str, after: int, limit: int) -> Revoked:
        told = self._revocations.get(realm, [])
        if not told:
            return Revoked([], 0, 0)
        return Revoked([one for one in told if one.sequence > after][:limit], told[0].sequence, told[-1].sequence)

    def _remove(self, name: _Name) -> bool:
        self._items.pop(name, None)
        return self._sessions.pop(name, None) is not None

    async def remove(self, realm: str, handles: Sequence[str]) -> None:
        for handle in handles:
            self._remove((realm, handle))

    def _of_subject(self, realm: str, subject: bytes) -> list[Stored]:
        found = [s for s in self._sessions.values() if s.realm == realm and s.subject == subject]
        epoch = self._subject_epochs.get((realm, subject), Epoch())
        return [Stored(s, {}, None, epoch) for s in sorted(found, key=_order)]

    async def by_subject(self, realm: str, subject: bytes, *, after: bytes | None, limit: int) -> Page:
        found = [s for s in self._of_subject(realm, subject) if s.session is not None]
        rest = [s for s in found if after is None or _order(s.session) >= after]
        resume = _order(rest[limit].session) if len(rest) > limit else None
        return Page(rest[:limit], resume)

    async def anonymous(self, realm: str) -> int:
        return len(self._of_subject(realm, ANONYMOUS))

    async def usage(self, realm: str) -> Usage:
        own = [s for s in self._sessions.values() if s.realm == realm]
        subjects = {s.subject for s in own} - {ANONYMOUS}
        return Usage(len(own), sum(s.anonymous for s in own), len(subjects))

    async def subject_key(
        self, realm: str, subject: bytes, home: str = "", session: Session | None = None
    ) -> bytes | None:
        return self._keys.get((realm, subject))

    async def erase_subject_key(self, realm: str, subject: bytes) -> bool:
        return self._keys.pop((realm, subject), None) is not None

    def _keep_key(self, realm: str, subject: bytes, key: SubjectKey) -> bool:
        there = self._keys.get((realm, subject))
        if there is None and key.fresh:
            if key.sealed[0] in self._refused:
                return False
            self._keys[realm, subject] = key.sealed
            return True
        return there == key.sealed

    async def sealed_by(self, number: int) -> int:
        return sum(sealed[0] == number for sealed in self._keys.values())

    async def rewrap(self, number: int, rewrap: Rewrap, resume: bytes | None, limit: int) -> Rewrapped:
        self._refused.add(number)
        names = sorted(self._keys, key=lambda key: key[0].encode() + b"\0" + key[1])
        names = [key for key in names if resume is None or key[0].encode() + b"\0" + key[1] >= resume]
        changed = 0
        for realm, subject in names[:limit]:
            sealed = self._keys[realm, subject]
            if sealed[0] == number:
                self._keys[realm, subject] = rewrap(realm, subject, sealed)
                changed += 1
        rest = names[limit:]
        return Rewrapped(changed, rest[0][0].encode() + b"\0" + rest[0][1] if rest else None)

    async def settled(self) -> None:
        """All is as durable as it will be."""

    async def patrol(self, resume: bytes | None, limit: int) -> Patrolled:
        names = sorted(name for name in self._sessions if resume is None or _name(name) >= resume)
        found = []
        for name in names[:limit]:
            session = self._sessions[name]
            epoch = self._subject_epochs.get((session.realm, session.subject), Epoch())
            found.append(Stored(session, {}, None, epoch))
        return Patrolled(found, _name(names[limit]) if len(names) > limit else None)

    async def prune(self, now_us: int, limit: int) -> int:
        stones = [name for name, stone in self._tombstones.items() if stone.until_us <= now_us]
        requests = [request for request, created in self._created.items() if created.until_us <= now_us]
        used = {(session.realm, session.subject) for session in self._sessions.values()}
        used.update((realm, OPAQUE_REALM) for realm in self._realms)
        keys = [key for key in self._keys if key not in used]
        for name in stones:
            del self._tombstones[name]
        for request in requests:
            del self._created[request]
        for key in keys:
            del self._keys[key]
        answers = 0
        for told in self._revocations.values():
            while len(told) > 1 and told[0].at_us + REVOCATIONS_KEPT_US <= now_us:
                del told[0]
                answers += 1
        for items in self._items.values():
            over = [key for key, item in items.items() if 0 < item.until_us <= now_us]
            answers += len(over)
            for gone in over:
                del items[gone]
        return len(stones) + len(requests) + len(keys) + answers

    def care_at(self, home: str) -> "MemoryStore":
        return self

    async def scrub(self) -> None:
        """Nothing is left of what was removed."""

    async def note(self, values: Mapping[str, bytes], *, everywhere: bool = False) -> None:
        self._notes.update(values)

    async def noted(self, names: Collection[str]) -> dict[str, bytes]:
        return {name: self._notes[name] for name in names if name in self._notes}


def _order(session: Session | None) -> bytes:
    return b"" if session is None else session.created_us.to_bytes(8, "big") + session.handle.encode()


def _name(name: _Name) -> bytes:
    return "\0".join(name).encode()
