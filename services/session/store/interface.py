"""What session needs of a store: one small interface, the same over every backend.

The concurrency rule: the domain reads, decides, and writes on the condition that the session's revision is still the
one it read; a write that lost answers False, and the domain begins again. So a backend needs a conditional write of one
session's partition (its row and its items) and nothing more. What is decided over several sessions of a subject, its
limit, is decided by a `Guard`, which the store calls, perhaps more than once, with what stands at that moment.

Whatever is awaited here is durable when it returns; what a read shows may be a moment younger (`settled` waits).

Backends that are not one process: reads at their local quorum; conditional writes at the serial scope of the session's
home; tombstones and epochs are merged (they only grow), never overwritten.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from services.session.domain.model import Created, Epoch, Item, RealmRecord, Revocation, Session, Tombstone
from services.session.store.opaque_interface import OpaqueRows
from services.session.store.origins_interface import Origins


class Stored(NamedTuple):
    """One read: the session (None when absent), the items asked for by key, and what may have revoked it."""

    session: Session | None
    items: Mapping[bytes, Item]
    tombstone: Tombstone | None
    subject_epoch: Epoch


class Mark(NamedTuple):
    """Another one after each write of a session, and after each revocation of its subject."""

    revision: int
    epoch: Epoch


class SubjectKey(NamedTuple):
    """A subject's key, sealed. `fresh`: made just now, kept if the subject has none, or with the session where each has
    its own; else it must still be there."""

    sealed: bytes
    fresh: bool


class End(NamedTuple):
    """A session to be ended by a tombstone."""

    handle: str
    at_us: int
    until_us: int
    cause: str


Guard = Callable[[Sequence[Stored]], Sequence[End]]
"""Given the subject's other sessions (oldest first), says which of them end for the new one; raises to refuse it."""


class Page(NamedTuple):
    """Sessions of a subject in the order of their creation, and where to go on (None at the end)."""

    found: list[Stored]
    resume: bytes | None


class Usage(NamedTuple):
    """Sessions kept in a realm (expired ones that were not swept yet included), how many of them anonymous, and their
    subjects."""

    sessions: int
    anonymous: int
    subjects: int


class Revoked(NamedTuple):
    """Revocations of a realm in order; `oldest` and `newest` are the numbers of those that are kept (0: there never was
    one)."""

    found: list[Revocation]
    oldest: int
    newest: int


class Patrolled(NamedTuple):
    """A piece of the walk over all sessions; `resume` is None when the walk has come round."""

    found: list[Stored]
    resume: bytes | None


class Rewrapped(NamedTuple):
    """A piece of the walk over subjects' keys: how many were sealed anew; `resume` is None at the end of the walk."""

    changed: int
    resume: bytes | None


Rewrap = Callable[[str, bytes, bytes], bytes]
"""From realm, subject and a subject's key as it is sealed to the same key sealed by the keyring's active key."""


class Ledger(Protocol):
    """What is good once, for all servers of a store."""

    async def spend(self, name: bytes, retry: str, life_s: int, home: str = "") -> bool:
        """Whether `name` is spent by this for the first time, or was by the same `retry` (which names a request; empty:
        none). Remembered for `life_s` at least, in the data centre that is the session's home, wherever it came. Raises
        Unavailable, and HomeUnreachable."""
        ...


class Fellows(Protocol):
    """What the servers of a store say of themselves to each other. `may_seal`: asked before and after a fresh key is
    kept, which is refused where it says no. `opens`: whether this server has the sealing key of a number."""

    may_seal: Callable[[], bool]
    opens: Callable[[int], bool]

    async def say(self, server: str, said: bytes, live_s: int) -> None:
        """Of a server, for so many seconds. Raises Unavailable."""
        ...

    async def near(self) -> dict[str, bytes]:
        """As `said`, of other data centres what has arrived here. Raises Unavailable."""
        ...

    async def said(self) -> dict[str, bytes]:
        """What each one said last, in any data centre, of those whose time is not over. Raises Unavailable, and
        HomeUnreachable while a data centre cannot be asked."""
        ...


class Care(Protocol):
    """Walks over all that has its home in one data centre, a piece at a time."""

    async def sealed_by(self, number: int) -> int:
        """How many subjects' keys (or their sessions') are sealed by the keyring's key of this number."""
        ...

    async def rewrap(self, number: int, rewrap: Rewrap, resume: bytes | None, limit: int) -> Rewrapped:
        """Seal anew those of the next `limit` subjects' keys that the keyring's key of this number sealed.

        From the first call on, no fresh key sealed by that number is kept any more (`create` and `replace` answer
        False), so that one walk from the beginning to the end leaves none.
        """
        ...

    async def patrol(self, resume: bytes | None, limit: int) -> Patrolled:
        """Walk over all sessions of all realms, a piece at a time."""
        ...


class Store(Care, Protocol):
    """A backend. Raises Unavailable, ResourceExhausted or DataLoss (libs.errors) when it cannot do what it says."""

    @property
    def opaque(self) -> OpaqueRows:
        """What opaque realms keep."""
        ...

    @property
    def ledger(self) -> Ledger | None:
        """Where servers that share the store note what is good once; None where one process has it."""
        ...

    @property
    def fellows(self) -> Fellows | None:
        """The other servers; None where one process has the store."""
        ...

    @property
    def keys_apart(self) -> bool:
        """Whether each session has a key of its own among its subject's, rather than all of them one."""
        ...

    @property
    def origins(self) -> Origins | None:
        """The other data centres that keep sessions; None where there are none."""
        ...

    async def realms(self) -> list[RealmRecord]:
        """All realms, by name."""
        ...

    async def put_realm(self, record: RealmRecord, *, version: int) -> bool:
        """Write a realm if its version is `version` (0: absent); False otherwise."""
        ...

    async def delete_realm(self, name: str, *, version: int) -> bool:
        """Remove a realm's record if it has this version. Its epochs stay for ever."""
        ...

    async def realm_epochs(self) -> dict[str, Epoch]:
        """The epochs of every realm that ever had one raised, deleted realms included."""
        ...

    async def raise_realm_epoch(self, realm: str, datacentre: str, at_us: int) -> Epoch:
        """Revoke every session of a realm that is there now; the epoch after."""
        ...

    async def subject_epoch(self, realm: str, subject: bytes, *, looked_at_again: bool = False) -> Epoch:
        """The epoch of a subject, that of nobody's revocation when there was none. `looked_at_again`: `create` will, so
        that what is in memory will do."""
        ...

    async def raise_subject_epoch(self, realm: str, subject: bytes, datacentre: str, at_us: int) -> Epoch:
        """Revoke every session of a subject that is there now; the epoch after."""
        ...

    async def read(
        self, realm: str, handle: str, keys: Sequence[bytes] = (), *, kinds: bytes = b"", home: str = ""
    ) -> Stored:
        """One session with the items of `keys`, and all items of the kinds in `kinds`: one read of one partition.

        As it is known here, or with `home` (the name of a data centre) as it is decided there: what changes a session
        reads it so. Raises HomeUnreachable.
        """
        ...

    async def mark(self, realm: str, handle: str, subject: bytes) -> Mark | None:
        """Of a session of this subject; None when it is not there, or was ended. Much cheaper than a read."""
        ...

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
        """Keep a new session. False when the subject's key is not as `key` says, or the handle was used before (where
        servers share the store nobody looks: it is random); there also when all of its subject was revoked since the
        epoch that it bears, or the request was made again meanwhile.

        `request` names the Create: when it is remembered (and in time: `created.until_us` tells the window), the
        session that it made before is ended as `orphan` says (which may raise), and this one takes its place.
        `created.until_us` is later than that of any session that is known to have been made by it before.
        """
        ...

    async def created_by(self, request: bytes) -> Created | None:
        """What a Create of this name made, if it is remembered."""
        ...

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
        """Write `after` and its items if the session is still at `before`'s revision and was not ended; else False.

        `after` may have another subject; then `key` and `guard` are of that one, as in `create`.
        """
        ...

    async def end(self, realm: str, ends: Sequence[End]) -> int:
        """End sessions by tombstones, and remove them. Harmless twice; how many were there."""
        ...

    async def revocations(self, realm: str, after: int, limit: int) -> Revoked:
        """The realm's revocations behind number `after`. Each `end` of a session that was there or may come, and each
        epoch raised, is one: numbered in the write that makes it true."""
        ...

    async def remove(self, realm: str, handles: Sequence[str]) -> None:
        """Remove sessions that can no longer be valid (expired or below an epoch), with all that is beside them. It
        may be durable only when the next `prune` is: what is over is so after a crash as well."""
        ...

    async def by_subject(self, realm: str, subject: bytes, *, after: bytes | None, limit: int) -> Page:
        """Sessions of a subject, in O(its own)."""
        ...

    async def anonymous(self, realm: str) -> int:
        """How many anonymous sessions a realm keeps."""
        ...

    async def usage(self, realm: str) -> Usage:
        """What a realm keeps."""
        ...

    async def subject_key(
        self, realm: str, subject: bytes, home: str = "", session: Session | None = None
    ) -> bytes | None:
        """A subject's sealed key, of the sessions that have this home; None when there is none (any more). `session`:
        the one that it is for; without it, where each has its own, that of any."""
        ...

    async def erase_subject_key(self, realm: str, subject: bytes) -> bool:
        """Destroy a subject's keys; whether there was one. They are in no copy that `sessions` data has. Raises
        HomeUnreachable when those of another data centre are left."""
        ...

    def care_at(self, home: str) -> "Care":
        """The walks over what has its home in this data centre. Raises HomeUnreachable."""
        ...

    async def settled(self) -> None:
        """Wait until all that reads have shown is durable."""
        ...

    async def prune(self, now_us: int, limit: int) -> int:
        """Remove tombstones and remembered requests whose time is over, and keys without sessions; looks at about
        `limit` of each, going on where it stopped. How many were removed."""
        ...

    async def scrub(self) -> None:
        """Make removed bytes leave the disk: logs and old tables included."""
        ...

    async def note(self, values: Mapping[str, bytes], *, everywhere: bool = False) -> None:
        """Keep small facts about the store itself. `everywhere`: until each data centre has them; raises Unavailable
        while one is away."""
        ...

    async def noted(self, names: Collection[str]) -> dict[str, bytes]:
        """The facts of these names that there are."""
        ...
