"""The hot path through the cache: Validate's read, and the mark by which a warm answer is taken again.

A page is believed for half of its realm's bound, counted from before its session was read: by Redis' clock, which ends
the entry, and by this server's. A server that could not drop what it wrote believes no page of that realm until all
that were there are over.

Of other data centres a page knows what was here when its session was read. It answers while nothing that they revoked
longer than the bound ago is missing in it: how late a server hears of another data centre and how old a page is are one
sum. Where a realm goes on without the others, a page that knows as much as its reader does, and no other, will do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from libs.errors.errors import DataLoss
from services.session.cache.entries import Looked
from services.session.cache.pages import Page
from services.session.cache.store import CachedStore
from services.session.domain.origins import Listening
from services.session.domain.realms import Realm
from services.session.store.interface import Mark, Stored


class CachedHot:
    """`domain.hot.Hot` over a store and its cache. `now_us`: the time that sessions live by; `listening`: what this
    server has heard of other data centres."""

    def __init__(self, store: CachedStore, now_us: Callable[[], int], listening: Listening) -> None:
        self._store = store
        self._listening = listening
        self._now_us = now_us

    async def read(self, realm: Realm, handle: str, keys: Sequence[bytes] = (), kinds: bytes = b"") -> Stored | None:
        """See `Hot.read`; items are in no page."""
        if keys or kinds:
            return None
        began = self._begin(realm)
        looked = await self._look(realm, handle)
        page = None if looked is None else self._believed(realm, handle, looked)
        if page is not None:
            try:
                return Stored(page.session(realm.name, handle), {}, None, page.epoch)
            except DataLoss:
                self._store.gate.count("damaged")
        stored = await self._store.read(realm.name, handle)
        if looked is not None:
            await self._fill(realm, stored, looked.lease, began)
        return stored

    async def mark(self, realm: Realm, handle: str, subject: bytes) -> Mark | None:
        """See `Hot.mark`."""
        began = self._begin(realm)
        looked = await self._look(realm, handle)
        if looked is None:
            return await self._store.mark(realm.name, handle, subject)
        page = self._believed(realm, handle, looked)
        if page is not None:
            return Mark(page.revision, page.epoch)
        stored = await self._store.read(realm.name, handle)
        if stored.session is None or stored.tombstone is not None:
            return None
        await self._fill(realm, stored, looked.lease, began)
        return Mark(stored.session.revision, stored.subject_epoch)

    def late_us(self, realm: Realm) -> int:
        """See `Hot.late_us`."""
        untold_us = self._store.untold_us(realm.name)
        return 0 if untold_us is None else max(0, untold_us + life_us(realm) - self._store.now_us())

    def staleness_us(self, realm: Realm) -> int:
        """See `Hot.staleness_us`."""
        heard_us = self._listening.staleness_us(realm.name, self._now_us())
        return min(max(heard_us, realm.policy.revocation_bound_us), heard_us + life_us(realm))

    def _begin(self, realm: Realm) -> "_Began":
        return _Began(self._now_us(), self._listening.wholeness(realm.name))

    async def _look(self, realm: Realm, handle: str) -> Looked | None:
        """The session's entry; None when there is nothing to be asked or believed."""
        if self.late_us(realm):
            self._store.gate.count("bypassed")
            return None
        name = self._store.pages.session_name(realm.name, handle)
        looked = await self._store.gate.ask(lambda: self._store.entries.look(name, life_us(realm) // 1000))
        # This server may have written, and told nobody, while it waited.
        return None if self.late_us(realm) else looked

    def _believed(self, realm: Realm, handle: str, looked: Looked) -> Page | None:
        if looked.page is None:
            self._store.gate.count("miss")
            return None
        try:
            page = self._store.pages.open(realm.name, handle, looked.page)
        except DataLoss:
            self._store.gate.count("damaged")
            return None
        now_us, bound_us = self._now_us(), realm.policy.revocation_bound_us
        old = abs(now_us - page.read_us) >= life_us(realm)
        if old or not self._listening.is_as_whole(realm.name, page.whole, bound_us, life_us(realm), now_us):
            self._store.gate.count("stale")
            return None
        self._store.gate.count("hit")
        return page

    async def _fill(self, realm: Realm, stored: Stored, lease: bytes, began: "_Began") -> None:
        """Keeps a session that lives. The epoch is read again, under the subject's lease: one that was raised before is
        seen, and one that is raised afterwards ends the lease."""
        session = stored.session
        if session is None or stored.tombstone is not None or session.bind:
            return
        pages, entries, gate = self._store.pages, self._store.entries, self._store.gate
        subject = pages.subject_name(realm.name, session.subject)
        subject_lease = await gate.ask(lambda: entries.lease(subject))
        if subject_lease is None:
            return
        epoch = await self._store.subject_epoch(realm.name, session.subject)
        page = pages.seal(session, epoch, began.at_us, began.whole)
        name = pages.session_name(realm.name, session.handle)
        await gate.ask(lambda: entries.put(name, lease, subject, subject_lease, page))


class _Began(NamedTuple):
    """When a read began, and what was here then of other data centres."""

    at_us: int
    whole: Mapping[str, int]


def life_us(realm: Realm) -> int:
    """How long a page of a realm is believed: of the bound within which revocations count everywhere, the half."""
    return realm.policy.revocation_bound_us // 2
