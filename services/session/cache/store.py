"""The store behind the cache: each read and each decision is the store's own; what a write changes is dropped from the
cache after the write, and before its answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from services.session.cache.entries import Entries
from services.session.cache.gate import Gate
from services.session.cache.pages import Pages
from services.session.domain.model import Created, Epoch, Item, RealmRecord, Session
from services.session.store.interface import End, Guard, Store, Stored, SubjectKey

_Result = TypeVar("_Result")
_HINT = b"realms"


class CachedStore:
    """`origin` with the cache told of its writes. `now_us`: microseconds of a clock that never falls."""

    def __init__(self, origin: Store, entries: Entries, pages: Pages, gate: Gate, now_us: Callable[[], int]) -> None:
        self.entries, self.pages, self.gate, self.now_us = entries, pages, gate, now_us
        self._origin = origin
        self._untold_us: dict[str, int] = {}
        # What the cache has no part in.
        self.opaque = origin.opaque
        self.ledger = origin.ledger
        self.origins = origin.origins
        if self.origins is not None:
            self.origins.taken = self._heard
        self.keys_apart = origin.keys_apart
        self.fellows = origin.fellows
        self.realms = origin.realms
        self.realm_epochs = origin.realm_epochs
        self.subject_epoch = origin.subject_epoch
        self.read = origin.read
        self.mark = origin.mark
        self.created_by = origin.created_by
        self.revocations = origin.revocations
        # Those that cannot be valid any more, by what readers judge by as well.
        self.remove = origin.remove
        self.by_subject = origin.by_subject
        self.anonymous = origin.anonymous
        self.usage = origin.usage
        self.subject_key = origin.subject_key
        self.erase_subject_key = origin.erase_subject_key
        self.sealed_by = origin.sealed_by
        self.rewrap = origin.rewrap
        self.settled = origin.settled
        self.patrol = origin.patrol
        self.care_at = origin.care_at
        self.prune = origin.prune
        self.scrub = origin.scrub
        self.note = origin.note
        self.noted = origin.noted

    def untold_us(self, realm: str) -> int | None:
        """When this process last could not drop what a write of the realm changed; None: never."""
        return self._untold_us.get(realm)

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
        """See Store.create; sessions that end for the new one are dropped."""
        watched = _Watched(guard, orphan)
        write = self._origin.create(
            session,
            items,
            key,
            request=request,
            created=created,
            guard=watched.guard if guard is not None else None,
            orphan=watched.orphan,
        )
        return await self._told(session.realm, write, watched.names(self.pages, session.realm))

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
        """See Store.replace."""
        realm = after.realm
        watched = _Watched(guard, None)
        kept = watched.guard if guard is not None else None
        write = self._origin.replace(before, after, put=put, remove=remove, key=key, guard=kept)
        return await self._told(realm, write, watched.names(self.pages, realm, after.handle))

    async def end(self, realm: str, ends: Sequence[End]) -> int:
        """See Store.end."""
        names = [self.pages.session_name(realm, end.handle) for end in ends]
        return await self._told(realm, self._origin.end(realm, ends), lambda: names)

    async def raise_subject_epoch(self, realm: str, subject: bytes, datacentre: str, at_us: int) -> Epoch:
        """See Store.raise_subject_epoch."""
        write = self._origin.raise_subject_epoch(realm, subject, datacentre, at_us)
        return await self._told(realm, write, lambda: [self.pages.subject_name(realm, subject)])

    async def raise_realm_epoch(self, realm: str, datacentre: str, at_us: int) -> Epoch:
        """See Store.raise_realm_epoch; the other servers are given a hint."""
        epoch = await self._origin.raise_realm_epoch(realm, datacentre, at_us)
        await self._hint()
        return epoch

    async def put_realm(self, record: RealmRecord, *, version: int) -> bool:
        """See Store.put_realm; the other servers are given a hint."""
        put = await self._origin.put_realm(record, version=version)
        await self._hint()
        return put

    async def delete_realm(self, name: str, *, version: int) -> bool:
        """See Store.delete_realm; the other servers are given a hint."""
        deleted = await self._origin.delete_realm(name, version=version)
        await self._hint()
        return deleted

    async def _heard(self, realm: str, handles: Sequence[str], subjects: Sequence[bytes]) -> None:
        """What another data centre revoked counts here."""
        names = [self.pages.session_name(realm, handle) for handle in handles]
        names += [self.pages.subject_name(realm, subject) for subject in subjects]
        await self._told(realm, asyncio.sleep(0), lambda: names)

    async def _told(self, realm: str, write: Awaitable[_Result], names: Callable[[], list[bytes]]) -> _Result:
        """The result of a write, after what it changed was dropped. A write that failed, or was given up, may have been
        done: then nobody was told."""
        told = False
        try:
            result = await write
            dropped = names()
            told = not dropped or await self.gate.ask(lambda: self._drop(dropped)) is not None
            return result
        finally:
            if not told:
                self._untold_us[realm] = self.now_us()
                self.gate.count("untold")

    async def _drop(self, names: list[bytes]) -> bool:
        await self.entries.drop(names)
        return True

    async def _hint(self) -> None:
        """Of no consequence when it is lost: the others ask the store all the time."""

        async def exchange() -> None:
            await self.entries.hint(self.pages.channel(), _HINT)

        await self.gate.ask(exchange)


class _Watched:
    """Hears which other sessions a write ends."""

    def __init__(self, guard: Guard | None, orphan: Callable[[Created, Session | None], End] | None) -> None:
        self._guard = guard
        self._orphan = orphan
        self._ended: set[str] = set()

    def guard(self, others: Sequence[Stored]) -> Sequence[End]:
        """The guard, asked; only called where there is one."""
        ends = self._guard(others) if self._guard is not None else ()
        self._ended.update(end.handle for end in ends)
        return ends

    def orphan(self, created: Created, session: Session | None) -> End:
        """What ends the session of an earlier try."""
        assert self._orphan is not None
        end = self._orphan(created, session)
        self._ended.add(end.handle)
        return end

    def names(self, pages: Pages, realm: str, *handles: str) -> Callable[[], list[bytes]]:
        """The entries of all that the write changed, when it has come back."""
        return lambda: [pages.session_name(realm, handle) for handle in {*handles, *self._ended}]
