"""Housekeeping of the embedded store: what has an end leaves at its end, keys are sealed anew, in bounded steps."""

import asyncio
from collections.abc import Callable

from libs.embedded.batch import Batch
from libs.embedded.family import Family
from libs.embedded.store import EmbeddedStore as Directory
from services.session.domain.opaque_model import OPAQUE_REALM
from services.session.store import codec, layout
from services.session.store.embedded_rows import Rows
from services.session.store.interface import Rewrap, Rewrapped

_BYTES = 1 << 22
_COUNTED = 10_000
_STEP = 100
"""Rows looked at without letting a call in between: about a millisecond of keys, for each of which another is looked
up."""


class Care:
    """Walks of its own over tombstones, remembered requests and subjects' keys."""

    def __init__(self, sessions: Directory, keys: Directory, rows: Rows) -> None:
        self._sessions = sessions
        self._keys = keys
        self._rows = rows
        self._resume: dict[str, bytes | None] = {}
        self._refused: set[int] = set()

    async def prune(self, now_us: int, limit: int) -> int:
        """See Store.prune."""
        removed = 0
        for family in (self._rows.tombstones, self._rows.requests):
            removed += await self._ended(family, now_us, limit)
        removed += await self._revocations(now_us, limit)
        removed += await self._keys_of_nobody(limit)
        for directory in (self._sessions, self._keys):
            await directory.durable()
        return removed

    def refuses(self, sealed: bytes) -> bool:
        """Whether a key sealed so is kept no more: the keyring's key that did it is being retired."""
        return sealed[0] in self._refused

    async def sealed_by(self, number: int) -> int:
        """See Store.sealed_by."""
        keys, count, resume = self._keys.family("keys"), 0, None
        while True:
            page = keys.page(start=resume, max_items=_COUNTED, max_bytes=_BYTES)
            count += sum(sealed[0] == number for _, sealed in page.items)
            resume = page.resume
            if resume is None:
                return count
            await asyncio.sleep(0)

    async def rewrap(self, number: int, rewrap: Rewrap, resume: bytes | None, limit: int) -> Rewrapped:
        """See Store.rewrap."""
        keys = self._keys.family("keys")
        self._refused.add(number)

        def decide(batch: Batch) -> Rewrapped:
            page = keys.page(start=resume, max_items=limit, max_bytes=_BYTES)
            anew = []
            for key, sealed in page.items:
                if sealed[0] == number:
                    realm, _, subject = key.partition(b"\0")
                    anew.append((key, rewrap(realm.decode(), subject, sealed)))
            batch.put_many(keys, anew)
            return Rewrapped(len(anew), page.resume)

        return await self._keys.transact(decide)

    async def scrub(self) -> None:
        """See Store.scrub: compaction writes tables anew without what is gone, and lets their logs go."""
        for directory, families in ((self._sessions, layout.SESSION_FAMILIES), (self._keys, layout.KEY_FAMILIES)):
            for family in families:
                await directory.compact(family.name)

    async def _ended(self, family: Family, now_us: int, limit: int) -> int:
        def is_over(key: bytes, value: bytes) -> bool:
            return codec.until_of(value) <= now_us

        return await self._walk(self._sessions, family, limit, is_over)

    async def _revocations(self, now_us: int, limit: int) -> int:
        """Of each realm the newest stays: the next one's number follows from it."""

        def is_over(key: bytes, value: bytes) -> bool:
            if codec.until_of(value) > now_us:
                return False
            return int.from_bytes(key[-8:], "big") < self._rows.newest_revocation(key[:-9].decode())

        return await self._walk(self._sessions, self._rows.revocations, limit, is_over)

    async def _keys_of_nobody(self, limit: int) -> int:
        keys = self._keys.family("keys")
        return await self._walk(self._keys, keys, limit, lambda key, _: not self._is_used(key))

    async def _walk(
        self, directory: Directory, family: Family, limit: int, is_over: Callable[[bytes, bytes], bool]
    ) -> int:
        """Goes on where the walk over the family stopped, `limit` rows at most, and removes what is over; how many. A
        step decides and removes at once, and lets calls in before the next."""
        removed = 0
        for step in range(0, limit, _STEP):

            def decide(batch: Batch, rows: int = min(_STEP, limit - step)) -> bool:
                nonlocal removed
                page = family.page(start=self._resume.get(family.name), max_items=rows, max_bytes=_BYTES)
                self._resume[family.name] = page.resume
                over = [key for key, value in page.items if is_over(key, value)]
                batch.delete_many(family, over)
                removed += len(over)
                return page.resume is None

            if await directory.transact(decide, wait=False):
                break
            await asyncio.sleep(0)
        return removed

    def _is_used(self, key: bytes) -> bool:
        """Whether the subject has a session; an opaque realm's own key is used as long as there is the realm."""
        realm, _, subject = key.partition(b"\0")
        if subject == OPAQUE_REALM:
            return self._rows.realms.has(realm)
        return next(self._rows.subjects.scan_keys(key), None) is not None
