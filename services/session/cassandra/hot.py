"""The hot path on Cassandra: one read, of the session by its key, where nothing is known that revoked it.

What is known is at most as old as the realm's bound; where it is older, or not there, the store itself is asked, which
reads all that revokes. So nothing that comes back is live because it came back, and within the data centre what was
answered counts at once: a revocation removes the rows of the sessions that it ends before it is answered.
"""

import asyncio
from collections.abc import Callable, Sequence

from services.session.cassandra.homes import Place
from services.session.cassandra.known import Known
from services.session.domain.model import Epoch
from services.session.domain.realms import Realm
from services.session.store.interface import Mark, Stored


class FollowedHot:
    """`domain.hot.Hot` of the data centre `here`. `now_us`: the clock that `known` is followed by."""

    def __init__(self, here: Place, known: Known, now_us: Callable[[], int]) -> None:
        self._here = here
        self._known = known
        self._now_us = now_us

    async def read(self, realm: Realm, handle: str, keys: Sequence[bytes] = (), kinds: bytes = b"") -> Stored | None:
        """See `Hot.read`."""
        if not self._is_fresh(realm):
            return None
        session, items = await self._here.sessions.read(realm.name, handle, keys, kinds)
        # Asked afterwards: what came to be known while the session was read counts.
        if session is None or not self._is_fresh(realm) or self._known.may_have_ended(realm.name, handle):
            return None
        return Stored(session, items, None, await self._epoch(realm, session.subject))

    async def mark(self, realm: Realm, handle: str, subject: bytes) -> Mark | None:
        """See `Hot.mark`."""
        revision = await self._here.sessions.revision(realm.name, handle)
        if revision is None:
            return None
        if not self._is_fresh(realm) or self._known.may_have_ended(realm.name, handle):
            tombstone, epoch = await asyncio.gather(
                self._here.revocations.tombstone(realm.name, handle),
                self._here.revocations.subject_epoch(realm.name, subject),
            )
            return None if tombstone is not None else Mark(revision, epoch)
        return Mark(revision, await self._epoch(realm, subject))

    def late_us(self, realm: Realm) -> int:
        """See `Hot.late_us`: what was answered has removed what it ended."""
        return 0

    def staleness_us(self, realm: Realm) -> int:
        """See `Hot.staleness_us`."""
        age_us = self._age_us()
        return age_us if self._known.fresh_us is not None and age_us <= realm.policy.revocation_bound_us else 0

    async def _epoch(self, realm: Realm, subject: bytes) -> Epoch:
        if not self._known.may_have_raised(realm.name, subject):
            return Epoch()
        return await self._here.revocations.subject_epoch(realm.name, subject)

    def _is_fresh(self, realm: Realm) -> bool:
        return self._known.fresh_us is not None and self._age_us() <= realm.policy.revocation_bound_us

    def _age_us(self) -> int:
        return max(0, self._now_us() - (self._known.fresh_us or 0))
