"""Subjects: each one's sealed key and the list of its sessions, changed together on the condition of a mark.

So a key is never destroyed while a session enters that was made with it, and of two logins one sees the other. Those
of nobody are many: their lists are plain rows in several partitions, and their number is counted now and then.

Each data centre decides about its own: key and list of a subject are there once for each home of its sessions.
"""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from services.session.cassandra.cluster import ATTEMPTS, Cluster, Write
from services.session.cassandra.layout import homed, placed, shard_of, shards_of, ttl_s
from services.session.domain.errors import Contended
from services.session.domain.model import ANONYMOUS, Session
from services.session.store import codec
from services.session.store.interface import SubjectKey

COUNTED_A_SECOND: Final = 20_000
"""Anonymous sessions are counted again after a second for so many of them: a few hundredths of what a cluster does."""


class Entry(NamedTuple):
    """A session in its subject's list. `pending`: the session as it will be when it has come to this subject."""

    created_us: int
    handle: str
    pending: bytes


class Standing(NamedTuple):
    """A subject's sealed key, None when it has none, and the mark of what is known of it."""

    sealed: bytes | None
    mark: bytes | None


Refuses = Callable[[bytes], bool]
Admit = Callable[[], Awaitable[bool]]
"""Asked, perhaps more than once, before a session enters: raises to refuse it, False when it is not to be. It changes
nothing of subjects, whose turn it holds."""


class Subjects:
    """The table `subjects`, as far as it is about sessions of one home. `refuses(sealed)`: whether a fresh key sealed
    so is kept no more."""

    def __init__(self, cluster: Cluster, refuses: Refuses, home: str) -> None:
        self._cluster = cluster
        self.home = home
        self._refuses = refuses
        self._anonymous: dict[str, _Count] = {}

    async def key(self, realm: str, subject: bytes) -> bytes | None:
        """A subject's sealed key."""
        return (await self._standing(realm, subject)).sealed

    async def entries(self, realm: str, subject: bytes) -> list[Entry]:
        """All of a subject's list, the oldest first."""
        return merged(await asyncio.gather(*(self._shard(realm, subject, shard) for shard in shards_of(subject))))

    async def entries_from(self, realm: str, subject: bytes, after: bytes, limit: int) -> list[Entry]:
        """Up to `limit` of them from a position on."""
        read, at = self._cluster.rows, placed(after) if after else (0, "")
        pieces = await asyncio.gather(
            *(read("entries_from", realm, self._at(subject), shard, *at, limit) for shard in shards_of(subject))
        )
        return merged([[Entry(*row) for row in rows] for rows in pieces])[:limit]

    async def keeps(self, session: Session, key: SubjectKey) -> bool:
        """Whether a session's subject has this key, or would have it, as things stand now."""
        return self._is_kept((await self._standing(session.realm, session.subject)).sealed, key)

    async def enter(self, session: Session, key: SubjectKey | None, admit: Admit, *, pending: bytes = b"") -> bool:
        """Lists a session and keeps its subject's key; False when the key is not as `key` says, or not admitted.

        Whatever `admit` decided on is still so when the session is listed. Raises Contended, Unavailable.
        """
        if session.anonymous:
            if not await self._keep_key(session.realm, session.subject, key) or not await admit():
                return False
            await self._cluster.put("enter", *self._entry(session, pending))
            self._count(session, 1)
            return True
        at = session.realm, self._at(session.subject), 0
        async with self._cluster.turn("subject", *at):
            for _ in range(ATTEMPTS):
                standing = await self._standing(session.realm, session.subject)
                if not self._is_kept(standing.sealed, key) or not await admit():
                    return False
                mark = self._marked(at, standing, key)
                entering = self._cluster.write("enter", *self._entry(session, pending))
                if await self._cluster.decide([mark, entering], lambda: self._is_listed(session)):
                    return True
        raise Contended("many logins of this subject at once", retry_after_s=0.1)

    async def prolong(self, session: Session) -> None:
        """Lists a session for as long as it lives now."""
        if session.anonymous:
            await self._cluster.put("enter", *self._entry(session, b""))
        else:
            entering = self._cluster.write("enter", *self._entry(session, b""))
            await self._change(session.realm, session.subject, [entering])

    async def leave(self, sessions: Iterable[Session]) -> None:
        """Takes sessions off their subjects' lists. Harmless twice."""
        by_subject: dict[tuple[str, bytes], list[Write]] = defaultdict(list)
        for session in sessions:
            at = session.realm, self._at(session.subject), shard_of(session), session.created_us, session.handle
            by_subject[session.realm, session.subject].append(self._cluster.write("leave", *at))
        for (realm, subject), writes in by_subject.items():
            if subject == ANONYMOUS:
                await asyncio.gather(*(self._cluster.plain([write]) for write in writes))
            else:
                await self._change(realm, subject, writes)

    def counted(self, session: Session) -> None:
        """A session of nobody is no more."""
        self._count(session, -1)

    async def erase_key(self, realm: str, subject: bytes) -> bool:
        """Destroys a subject's key; whether there was one."""
        return await self._change(realm, subject, [], erase=True)

    async def erase_unused_key(self, realm: str, subject: bytes) -> bool:
        """Destroys the key of a subject without sessions, unless one enters meanwhile; whether it did."""
        standing, at = await self._standing(realm, subject), (realm, self._at(subject), 0)
        if standing.sealed is None or await self.entries(realm, subject):
            return False
        mark = secrets.token_bytes(8)

        async def look() -> bool:
            rows = await self._cluster.decided_rows("standing", *at)
            return bool(rows) and rows[0][1] == mark

        async with self._cluster.turn("subject", *at):
            return await self._cluster.decide([self._cluster.write("mark_key", None, mark, *at, standing.mark)], look)

    async def keep_key(self, realm: str, subject: bytes, sealed: bytes) -> bool:
        """Keeps a fresh key of a subject without a list; False when it has another, or this one is refused."""
        return await self._keep_key(realm, subject, SubjectKey(sealed, fresh=True))

    async def seal_anew(self, realm: str, subject: bytes, before: bytes, after: bytes) -> bool:
        """Puts another sealed form of a key in the place of one; False when that is not what is there."""
        return await self._change(realm, subject, [], sealed=(before, after))

    async def anonymous(self, realm: str) -> int:
        """How many sessions of nobody there are: those of this process exactly, others' as they were counted last."""
        known = self._anonymous.get(realm)
        now_s = time.monotonic()
        if known is None or now_s >= known.again_s:
            counted = await asyncio.gather(
                *(self._cluster.row("count", realm, self._at(ANONYMOUS), shard) for shard in shards_of(ANONYMOUS))
            )
            number = sum(row[0] for row in counted if row is not None)
            known = self._anonymous[realm] = _Count(number, now_s + max(1.0, number / COUNTED_A_SECOND))
        return known.number

    def _at(self, subject: bytes) -> bytes:
        return homed(self.home, subject)

    async def _standing(self, realm: str, subject: bytes) -> Standing:
        row = await self._cluster.row("standing", realm, self._at(subject), 0)
        return Standing(None, None) if row is None else Standing(row[0], row[1])

    async def _shard(self, realm: str, subject: bytes, shard: int) -> list[Entry]:
        pages = self._cluster.pages("entries", realm, self._at(subject), shard)
        return [Entry(*row) async for page in pages for row in page if row[1] is not None]

    def _entry(self, session: Session, pending: bytes) -> tuple[object, ...]:
        at = session.realm, self._at(session.subject), shard_of(session), session.created_us, session.handle
        return *at, pending, ttl_s(session.ends_us, self._cluster.now_us())

    async def _is_listed(self, session: Session) -> bool:
        at = session.realm, self._at(session.subject), shard_of(session), session.created_us, session.handle
        return bool(await self._cluster.decided_rows("entry", *at))

    def _is_kept(self, sealed: bytes | None, key: SubjectKey | None) -> bool:
        if key is None:
            return True
        if sealed is not None or not key.fresh:
            return sealed == key.sealed
        return not self._refuses(key.sealed)

    def _marked(self, at: tuple[str, bytes, int], standing: Standing, key: SubjectKey | None) -> Write:
        """The write that makes all of a change conditional, with a key that is kept by it."""
        if key is not None and standing.sealed is None:
            return self._cluster.write("mark_key", key.sealed, secrets.token_bytes(8), *at, standing.mark)
        return self._cluster.write("mark", secrets.token_bytes(8), *at, standing.mark)

    async def _keep_key(self, realm: str, subject: bytes, key: SubjectKey | None) -> bool:
        at = realm, self._at(subject), 0
        for _ in range(ATTEMPTS):
            standing = await self._standing(realm, subject)
            if not self._is_kept(standing.sealed, key):
                return False
            if key is None or standing.sealed is not None:
                return True
            async with self._cluster.turn("subject", *at):
                mark = self._marked(at, standing, key)

                async def look() -> bool:
                    rows = await self._cluster.decided_rows("standing", *at)
                    return bool(rows) and rows[0][0] == key.sealed

                if await self._cluster.decide([mark], look):
                    return True
        raise Contended("a key is changed all the time", retry_after_s=0.1)

    async def _change(
        self,
        realm: str,
        subject: bytes,
        writes: Sequence[Write],
        *,
        erase: bool = False,
        sealed: tuple[bytes, bytes] | None = None,
    ) -> bool:
        """Writes of a subject's partition, on the condition that nobody else's came in between; False when there is no
        such subject, no key to erase, or another one than is to be sealed anew."""
        at = realm, self._at(subject), 0
        async with self._cluster.turn("subject", *at):
            for _ in range(ATTEMPTS):
                standing, mark = await self._standing(realm, subject), secrets.token_bytes(8)
                if standing.mark is None or (erase and standing.sealed is None):
                    return False
                if sealed is not None and standing.sealed != sealed[0]:
                    return False
                first = self._cluster.write("mark", mark, *at, standing.mark)
                if erase or sealed is not None:
                    new = sealed[1] if sealed is not None else None
                    first = self._cluster.write("mark_key", new, mark, *at, standing.mark)

                async def look(mark: bytes = mark) -> bool:
                    rows = await self._cluster.decided_rows("standing", *at)
                    return bool(rows) and rows[0][1] == mark

                if await self._cluster.decide([first, *writes], look):
                    return True
        raise Contended("many changes of this subject's sessions at once", retry_after_s=0.1)

    def _count(self, session: Session, change: int) -> None:
        known = self._anonymous.get(session.realm)
        if session.anonymous and known is not None:
            known.number += change


class _Count:
    """A number, and when it is to be counted again."""

    def __init__(self, number: int, again_s: float) -> None:
        self.number = number
        self.again_s = again_s


def merged(pieces: Iterable[Iterable[Entry]]) -> list[Entry]:
    """Several lists as one, the oldest first."""
    return sorted((entry for piece in pieces for entry in piece), key=lambda entry: (entry.created_us, entry.handle))


def pending_session(realm: str, entry: Entry) -> Session | None:
    """The session that an entry waits for."""
    return codec.decode_session(realm, entry.handle, entry.pending) if entry.pending else None
