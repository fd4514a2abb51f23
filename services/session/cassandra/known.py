"""What revokes in this data centre, by name and in memory: a session whose name is not among them is asked for alone.

Loaded once, with the numbers that the feeds were at before; from then on followed by number, as the feeds say. A number
that cannot be read (it is too old, or all was copied) means that something may be missing: all is forgotten and loaded
again, and until that is done nothing is known. What is revoked through this server is known before it is written.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Final

from libs.errors.errors import Unavailable
from libs.telemetry.logs import fields
from services.session.cassandra.cluster import Cluster
from services.session.cassandra.feed import Feed
from services.session.cassandra.layout import SLOT_ROWS, slot_of
from services.session.cassandra.names import Names
from services.session.domain.model import RevocationKind

log = logging.getLogger(__name__)

_AT_ONCE: Final = 1000
_AGAIN_S: Final = 1.0
"""After a failed attempt to load."""
_ANEW_S: Final = 86_400.0
"""All is loaded anew: names of what is over and gone do not stay for ever."""

_Position = tuple[str, str]
"""Realm and origin."""


class Known:
    """Of one server in the data centre `own`; see `domain.hot.Following`. `fresh_us`: all that was revoked before is
    known (microseconds, of `follow`'s clock); None: nothing is."""

    def __init__(self, cluster: Cluster, feed: Feed, own: str, others: Sequence[str]) -> None:
        self.fresh_us: int | None = None
        self._cluster = cluster
        self._feed = feed
        self._own = own
        self._others = others
        self._names: Names | None = None
        self._loading: Names | None = None
        self._positions: dict[_Position, int] = {}
        self._one_at_a_time = asyncio.Lock()
        self._forgotten = asyncio.Event()

    def may_have_ended(self, realm: str, handle: str) -> bool:
        """False only where no revocation of this session is known."""
        return self._names is None or (realm, _name(handle)) in self._names

    def may_have_raised(self, realm: str, subject: bytes) -> bool:
        """False only where no revocation of all of this subject's sessions is known."""
        return self._names is None or (realm, subject) in self._names

    def ends(self, realm: str, handles: Collection[str]) -> None:
        """This server is about to revoke sessions."""
        for handle in handles:
            self._add(realm, _name(handle))

    def raises(self, realm: str, subject: bytes) -> None:
        """This server is about to revoke all of a subject."""
        self._add(realm, subject)

    async def run(self) -> None:
        """Loads, for ever: when there is nothing, and once a day."""
        failed = False
        while True:
            self._forgotten.clear()
            try:
                await self.load()
                failed, wait_s = False, _ANEW_S
            except Unavailable as error:
                if not failed:
                    log.warning("revocations cannot be loaded", extra=fields(reason=error.reason))
                failed, wait_s = True, _AGAIN_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._forgotten.wait()
            except TimeoutError:
                continue

    async def load(self) -> None:
        """All names anew; what is known stays so until they are there. Raises Unavailable."""
        names = self._loading = Names()
        try:
            # Before the names: what has a later number is followed.
            positions = await self._newest()
            async for page in self._cluster.pages("tombstone_names"):
                for realm, handle in page:
                    names.add((realm, _name(handle)))
                await asyncio.sleep(0)
            async for page in self._cluster.pages("raised_subjects"):
                for realm, subject in page:
                    names.add((realm, subject))
                await asyncio.sleep(0)
            async with self._one_at_a_time:
                # What came meanwhile may have been missed: it is followed from before.
                self._names, self._positions, self.fresh_us = names, positions, None
        finally:
            self._loading = None

    async def follow(self, at_us: int, realms: Collection[str]) -> None:
        """See `Following.follow`: its own data centre's revocations, and what it has heard of others."""
        async with self._one_at_a_time:
            if self._names is None:
                return
            heads = await asyncio.gather(*(self._feed.newest(realm) for realm in realms))
            newest = {(realm, self._own): number for realm, number in zip(realms, heads, strict=True)}
            for origin in self._others:
                for realm, number in await self._cluster.rows("heard", self._own, origin):
                    newest[realm, origin] = number
            for (realm, origin), number in newest.items():
                if not await self._catch_up(self._names, realm, origin, number):
                    log.info("revocations are loaded anew", extra=fields(realm=realm, origin=origin))
                    self._names, self.fresh_us, self._positions = None, None, {}
                    self._forgotten.set()
                    return
            self.fresh_us = max(at_us, self.fresh_us or at_us)

    async def _catch_up(self, names: Names, realm: str, origin: str, newest: int) -> bool:
        """Takes in the numbers up to `newest`; False when one of them cannot be read."""
        position = self._positions.get((realm, origin), 0)
        while position < newest:
            slot = slot_of(position + 1)
            limit = min(_AT_ONCE, newest - position, SLOT_ROWS)
            rows = await self._cluster.rows("revocations", realm, origin, slot, position, limit)
            if not rows:
                return False
            for number, kind, name, _ in rows:
                if number != position + 1:
                    return False
                if kind in (RevocationKind.SESSION, RevocationKind.SUBJECT):
                    names.add((realm, name))
                position = number
            self._positions[realm, origin] = position
        return True

    async def _newest(self) -> dict[_Position, int]:
        newest = {}
        async for page in self._cluster.pages("all_newest", self._own):
            newest.update({(realm, self._own): number for realm, number in page})
        for origin in self._others:
            for realm, number in await self._cluster.rows("heard", self._own, origin):
                newest[realm, origin] = number
        return newest

    def _add(self, realm: str, name: bytes) -> None:
        for names in (self._names, self._loading):
            if names is not None:
                names.add((realm, name))


def _name(handle: str) -> bytes:
    """As the feed names a session."""
    return sha256(handle.encode()).digest()
