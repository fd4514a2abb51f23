"""Walks over all sessions, subjects and keys, in the order of Cassandra's tokens, a bounded piece at a time."""

import asyncio
import struct
from collections.abc import Sequence
from typing import Final

from libs.cassandra.session import Row
from services.session.cassandra.catalog import Catalog
from services.session.cassandra.cluster import Cluster
from services.session.cassandra.layout import unhomed
from services.session.cassandra.revoked import Revocations
from services.session.cassandra.subjects import Subjects
from services.session.domain.model import ANONYMOUS
from services.session.domain.opaque_model import OPAQUE_REALM, is_key_subject, key_subject
from services.session.store import codec
from services.session.store.interface import Patrolled, Rewrap, Rewrapped, Stored, Usage

_TOKEN: Final = struct.Struct(">q")
_FIRST: Final = -(1 << 63)
"""The least of Cassandra's tokens; no row has it."""
_STEP: Final = 1000
_PRUNED: Final = 200
"""Subjects looked at in a call: each costs two reads of the cluster."""


class Walks:
    """Of one process; the pruning goes on where it stopped. What has its home in `others` is left to these."""

    def __init__(
        self,
        cluster: Cluster,
        subjects: Subjects,
        revocations: Revocations,
        catalog: Catalog,
        own: str,
        others: Sequence[str],
    ) -> None:
        self._cluster = cluster
        self._subjects = subjects
        self._revocations = revocations
        self._catalog = catalog
        self._own = own
        self._others = frozenset(others)
        self._pruned: bytes | None = None

    async def patrol(self, resume: bytes | None, limit: int) -> Patrolled:
        """See Care.patrol."""
        rows = await self._cluster.rows("heads", token_of(resume), limit)
        sessions = [codec.decode_session(row[0], row[1], row[2]) for row in rows if row[2] is not None]
        sessions = [session for session in sessions if session.home not in self._others]
        epochs = await asyncio.gather(*(self._revocations.subject_epoch(s.realm, s.subject) for s in sessions))
        stones = await asyncio.gather(*(self._revocations.tombstone(s.realm, s.handle) for s in sessions))
        found = [Stored(s, {}, stone, epoch) for s, stone, epoch in zip(sessions, stones, epochs, strict=True)]
        return Patrolled(found, resume_of(rows, limit))

    async def usage(self, realm: str) -> Usage:
        """See Store.usage: a walk over the lists of all realms' subjects."""
        sessions = anonymous = 0
        subjects: set[bytes] = set()
        async for page in self._cluster.pages("everybody"):
            for name, at, _, handle in page:
                if name == realm and handle is not None:
                    subject = unhomed(at)[1]
                    sessions += 1
                    anonymous += subject == ANONYMOUS
                    subjects.add(subject)
        return Usage(sessions, anonymous, len(subjects - {ANONYMOUS}))

    async def prune(self, limit: int) -> int:
        """Removes keys without sessions; all else that has an end goes by its time to live."""
        limit = min(limit, _PRUNED)
        rows = await self._cluster.rows("subjects", token_of(self._pruned), limit)
        self._pruned = resume_of(rows, limit)
        removed = 0
        for realm, at, _, sealed, *_ in rows:
            home, subject = unhomed(at)
            if sealed is not None and home == self._own:
                removed += await self._erase_unused(realm, subject)
        return removed

    async def sealed_by(self, number: int) -> int:
        """See Care.sealed_by."""
        count, last = 0, None
        async for page in self._cluster.pages("keys"):
            for realm, at, shard, _, _, key, sealed in page:
                if unhomed(at)[0] in self._others:
                    continue
                count += key is not None and key[0] == number
                # What stands beside a list is told with each of its rows.
                count += sealed is not None and sealed[0] == number and last != (realm, at, shard)
                last = realm, at, shard
        return count

    async def rewrap(self, number: int, rewrap: Rewrap, resume: bytes | None, limit: int) -> Rewrapped:
        """See Care.rewrap."""
        page = await self._cluster.page("keys", size=limit, state=resume)
        changed = 0
        for realm, at, shard, created_us, handle, key, sealed in page.rows:
            home, subject = unhomed(at)
            if home in self._others:
                continue
            place = realm, at, shard
            if sealed is not None and sealed[0] == number:
                changed += await self._subjects.seal_anew(place, sealed, rewrap(realm, subject, sealed))
            if key is not None and key[0] == number:
                entry, after = (created_us, handle), rewrap(realm, subject, key)
                changed += await self._subjects.seal_entry_anew(place, entry, key, after)
        return Rewrapped(changed, page.state)

    async def _erase_unused(self, realm: str, subject: bytes) -> bool:
        if subject != ANONYMOUS and not is_key_subject(subject):
            return await self._subjects.erase_unused_key(realm, subject)
        # Those of nobody and of an opaque realm are needed as long as there is the realm.
        created_us = await self._catalog.created_us(realm)
        needed = created_us is not None and subject in (ANONYMOUS, OPAQUE_REALM, key_subject(created_us))
        return not needed and await self._subjects.erase_key(realm, subject)


def token_of(resume: bytes | None) -> int:
    """The token behind which a walk goes on."""
    return _FIRST if resume is None else int(_TOKEN.unpack(resume)[0])


def resume_of(rows: list[Row], limit: int) -> bytes | None:
    """Where the walk goes on behind these rows, whose last column is their token; None at the end."""
    return _TOKEN.pack(rows[-1][-1]) if len(rows) == limit else None
