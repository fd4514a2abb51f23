"""Subjects: the list of each one's sessions, and for each session in it the sealed key that is its own.

A session enters by a plain row where nobody counts, and on the condition of a mark where a guard decides over all of
the list: so of two such logins one sees the other. What changes a row that is there is conditional on the mark as well.
Those of nobody are many: their lists are plain rows in several partitions, and their number is counted now and then.

Sessions made before each had a key have their subject's, as opaque realms have: it stands beside the list. Each data
centre decides about its own: a list of a subject is there once for each home of its sessions.
"""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
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
    """The sealed key beside a list, None when it has none, and the mark of what is known of the list."""

    sealed: bytes | None
    mark: bytes | None


_MARK_S: Final = 86_400
"""A mark's life: much longer than anybody takes from reading it to the write that it is a condition of."""
_ERASED_AT_ONCE: Final = 100
Refuses = Callable[[bytes], bool]
Prepare = Callable[[Standing], Awaitable[Sequence[Write] | None]]
"""From what a list stands at to the writes that change it; None: there is nothing to change."""
_At = tuple[str, bytes, int]
"""A partition: realm, subject by its home, shard."""
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

    async def key(self, realm: str, subject: bytes, session: Session | None = None) -> bytes | None:
        """The sealed key of a session; without one any of the subject's."""
        if session is not None:
            row = await self._cluster.row("entry_key", *self._place(session))
            if row is not None and row[0] is not None:
                return bytes(row[0])
        sealed = (await self._standing((realm, self._at(subject), 0))).sealed
        if session is not None or sealed is not None:
            return sealed
        async for _, own in self._keys(realm, subject):
            return own
        return None

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

    async def takes(self, session: Session, key: SubjectKey | None) -> bool:
        """Whether a session may enter with this key: a fresh one that is not refused, or one that is there."""
        if key is None:
            return True
        if key.fresh:
            return not self.is_refused(key)
        if (await self._standing((session.realm, self._at(session.subject), 0))).sealed == key.sealed:
            return True
        return key.sealed in [one async for _, one in self._keys(session.realm, session.subject)]

    def is_refused(self, key: SubjectKey) -> bool:
        """Whether fresh keys sealed as this one are kept no more: looked at once more when it is written, for the walk
        that seals such keys anew may have begun meanwhile."""
        return key.fresh and self._refuses(key.sealed)

    def entering(self, session: Session, key: SubjectKey) -> Write:
        """The plain write that lists a new session."""
        return self._cluster.write("first_enter", *self._entry(session, b"", key))

    async def enter(self, session: Session, key: SubjectKey | None, admit: Admit, *, pending: bytes = b"") -> bool:
        """Lists a session with its key; False when the key is not taken, or the session not admitted.

        Whatever `admit` decided on is still so when the session is listed. Raises Contended, Unavailable.
        """
        if not await self.takes(session, key):
            return False
        if session.anonymous:
            if not await admit():
                return False
            await self._cluster.put("first_enter", *self._entry(session, pending, key))
            self._count(session, 1)
            return not await self._leaves_refused(session, key)

        async def prepare(_: Standing) -> Sequence[Write] | None:
            return [self._cluster.write("enter", *self._entry(session, pending, key))] if await admit() else None

        listed = await self._change(self._place(session)[:3], prepare, look=lambda: self._is_listed(session))
        return listed and not await self._leaves_refused(session, key)

    async def _leaves_refused(self, session: Session, key: SubjectKey | None) -> bool:
        refused = key is not None and self.is_refused(key)
        if refused:
            await self.leave([session])
        return refused

    async def prolong(self, session: Session) -> None:
        """Lists a session for as long as it lives now."""
        place = self._place(session)

        async def prepare(_: Standing) -> Sequence[Write]:
            row = await self._cluster.row("entry_key", *place)
            key = SubjectKey(row[0], fresh=False) if row is not None and row[0] is not None else None
            return [self._cluster.write("enter", *self._entry(session, b"", key))]

        await self._change(place[:3], prepare)

    async def leave(self, sessions: Iterable[Session]) -> None:
        """Takes sessions off their subjects' lists. Harmless twice."""
        by_list: dict[_At, list[Write]] = defaultdict(list)
        for session in sessions:
            place = self._place(session)
            by_list[place[:3]].append(self._cluster.write("leave", *place))
        for at, writes in by_list.items():
            if at[2]:
                await asyncio.gather(*(self._cluster.plain([write]) for write in writes))
            else:
                await self._change(at, _always(writes))

    def entered(self, session: Session) -> None:
        """A session was listed by `entering`."""
        self._count(session, 1)

    def left(self, session: Session) -> None:
        """A session that was listed is no more."""
        self._count(session, -1)

    async def erase_key(self, realm: str, subject: bytes) -> bool:
        """Destroys the keys of all of a subject's sessions; whether there was one. Those of nobody's sessions go with
        them."""
        at, found = (realm, self._at(subject), 0), False
        if (await self._standing(at)).sealed is not None:
            found = await self._change(at, _always([self._cluster.write("seal", None, *at)]))
        if subject == ANONYMOUS:
            return found
        there = [entry async for entry, _ in self._keys(realm, subject)]
        for first in range(0, len(there), _ERASED_AT_ONCE):
            piece = there[first : first + _ERASED_AT_ONCE]
            await self._change(at, _always([self._cluster.write("unseal_entry", *at, *entry) for entry in piece]))
        return found or bool(there)

    async def erase_unused_key(self, realm: str, subject: bytes) -> bool:
        """Destroys the key beside a list that is empty, unless a session enters meanwhile; whether it did."""
        at = realm, self._at(subject), 0

        async def prepare(standing: Standing) -> Sequence[Write] | None:
            if standing.sealed is None or await self.entries(realm, subject):
                return None
            return [self._cluster.write("seal", None, *at)]

        return await self._change(at, prepare)

    async def keep_key(self, realm: str, subject: bytes, sealed: bytes) -> bool:
        """Keeps a fresh key beside the list of a subject; False when it has another, or this one is refused."""
        at, other = (realm, self._at(subject), 0), False

        async def prepare(standing: Standing) -> Sequence[Write] | None:
            nonlocal other
            other = self._refuses(sealed) if standing.sealed is None else standing.sealed != sealed
            return [self._cluster.write("seal", sealed, *at)] if standing.sealed is None and not other else None

        await self._change(at, prepare)
        return not other

    async def seal_anew(self, at: _At, before: bytes, after: bytes) -> bool:
        """Puts another sealed form of the key beside a list in the place of one; False when that is not there."""

        async def prepare(standing: Standing) -> Sequence[Write] | None:
            return [self._cluster.write("seal", after, *at)] if standing.sealed == before else None

        return await self._change(at, prepare)

    async def seal_entry_anew(self, at: _At, entry: tuple[int, str], before: bytes, after: bytes) -> bool:
        """As `seal_anew`, the key of a session in the list, which lives as long as it did."""

        async def prepare(_: Standing) -> Sequence[Write] | None:
            row = await self._cluster.row("entry_key", *at, *entry)
            if row is None or row[0] != before:
                return None
            return [self._cluster.write("seal_entry", row[1] or 0, after, *at, *entry)]

        return await self._change(at, prepare)

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

    async def _standing(self, at: _At) -> Standing:
        row = await self._cluster.row("standing", *at)
        return Standing(None, None) if row is None else Standing(row[0], row[1])

    async def _keys(self, realm: str, subject: bytes) -> AsyncIterator[tuple[tuple[int, str], bytes]]:
        """The sessions of a subject that have keys of their own, by place, and these."""
        for shard in shards_of(subject):
            async for page in self._cluster.pages("entry_keys", realm, self._at(subject), shard):
                for created_us, handle, key in page:
                    if key is not None:
                        yield (created_us, handle), key

    async def _shard(self, realm: str, subject: bytes, shard: int) -> list[Entry]:
        pages = self._cluster.pages("entries", realm, self._at(subject), shard)
        return [Entry(*row) async for page in pages for row in page if row[1] is not None]

    def _place(self, session: Session) -> tuple[str, bytes, int, int, str]:
        at = session.realm, self._at(session.subject), shard_of(session)
        return *at, session.created_us, session.handle

    def _entry(self, session: Session, pending: bytes, key: SubjectKey | None) -> tuple[object, ...]:
        live_s = ttl_s(session.ends_us, self._cluster.now_us())
        return *self._place(session), pending, key.sealed if key is not None else None, live_s

    async def _is_listed(self, session: Session) -> bool:
        return bool(await self._cluster.decided_rows("entry", *self._place(session)))

    async def _change(self, at: _At, prepare: Prepare, *, look: Callable[[], Awaitable[bool]] | None = None) -> bool:
        """Writes of a list's partition, on the condition that no other conditional ones came in between; False when
        there is nothing to change. `look`: says what became of them when the answer was lost, if not the mark does."""
        async with self._cluster.turn("subject", *at):
            for _ in range(ATTEMPTS):
                standing, mark = await self._standing(at), secrets.token_bytes(8)
                writes = await prepare(standing)
                if writes is None:
                    return False

                async def marked(mark: bytes = mark) -> bool:
                    rows = await self._cluster.decided_rows("standing", *at)
                    return bool(rows) and rows[0][1] == mark

                first = self._cluster.write("mark", _MARK_S, mark, *at, standing.mark)
                if await self._cluster.decide([first, *writes], look or marked):
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


def _always(writes: Sequence[Write]) -> Prepare:
    """These writes, however the list stands."""

    async def prepare(_: Standing) -> Sequence[Write]:
        return writes

    return prepare


def merged(pieces: Iterable[Iterable[Entry]]) -> list[Entry]:
    """Several lists as one, the oldest first."""
    return sorted((entry for piece in pieces for entry in piece), key=lambda entry: (entry.created_us, entry.handle))


def pending_session(realm: str, entry: Entry) -> Session | None:
    """The session that an entry waits for."""
    return codec.decode_session(realm, entry.handle, entry.pending) if entry.pending else None
