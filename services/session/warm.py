"""Answers of Validate kept while nothing has changed: a token that comes again costs no cryptography and no decoding.

An answer is taken again only if the realm (its policy and its epoch) is the very same, the store's mark of the session
says that neither it nor its subject's epoch nor a tombstone was written since, and the time is before anything that
time alone would change. So it is never older than what the store says at that moment (or what stands in front of it, in
a deployment with a cache): a revocation cuts it short.

Kept under a keyed hash of the token, in memory, and so many at most; failures are never kept.
"""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple

from services.session.domain.homes import is_elsewhere
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools
from services.session.domain.validating import Validated, touch_due_us
from services.session.domain.validity import ends_us
from services.session.store.interface import Mark
from wellspring.session.v1 import session_pb2 as pb

_KEY_BYTES: Final = 32
_DIGEST_BYTES: Final = 16


class _Kept(NamedTuple):
    realm: Realm
    handle: str
    subject: bytes
    elsewhere: bool
    mark: Mark
    until_us: int
    touch_us: int
    answer: pb.ValidateResponse


class Warm:
    """At most `most` answers (0: none). `random(n)` gives n unpredictable bytes."""

    def __init__(self, tools: Tools, most: int, random: Callable[[int], bytes]) -> None:
        self._tools = tools
        self._most = most
        self._key = random(_KEY_BYTES)
        self._kept: OrderedDict[tuple[str, str, bytes], _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    async def find(self, realm: Realm, caller: str, token: bytes, *, touch: bool) -> pb.ValidateResponse | None:
        """The answer as it would be made now, if it is known."""
        if not self._kept:
            return None
        name = realm.name, caller, self._digest(token)
        kept = self._kept.get(name)
        if kept is None:
            return None
        now_us = self._tools.clock.now_us()
        if kept.realm is not realm or now_us >= kept.until_us:
            del self._kept[name]
            return None
        if touch and now_us >= kept.touch_us:
            return None
        mark = await self._mark(realm, kept.handle, kept.subject, kept.elsewhere)
        if mark != kept.mark or self._tools.realms.get(realm.name) is not realm:
            self._kept.pop(name, None)
            return None
        self._kept.move_to_end(name)
        return kept.answer

    async def keep(
        self, realm: Realm, caller: str, token: bytes, validated: Validated, answer: pb.ValidateResponse
    ) -> None:
        """Remembers an answer that says nothing but whose session it is."""
        session, record, policy = validated.session, validated.bearer.good, realm.policy
        if not self._most or session.bind or self._tools.realms.get(realm.name) is not realm:
            return
        elsewhere = is_elsewhere(self._tools, session)
        mark = await self._mark(realm, session.handle, session.subject, elsewhere)
        if mark is None or mark.revision != session.revision or mark.epoch != validated.bearer.stored.subject_epoch:
            return
        until_us = ends_us(session, policy)[1]
        if record.dies_us:
            until_us = min(until_us, record.dies_us)
        elif not validated.rotate_hint:
            until_us = min(until_us, record.issued_us + policy.rotation_interval_us)
        touch_us = touch_due_us(session, record, policy)
        kept = _Kept(realm, session.handle, session.subject, elsewhere, mark, until_us, touch_us, answer)
        self._kept[realm.name, caller, self._digest(token)] = kept
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    async def _mark(self, realm: Realm, handle: str, subject: bytes, elsewhere: bool) -> Mark | None:
        hot = self._tools.hot
        if hot is not None and not elsewhere:
            return await hot.mark(realm, handle, subject)
        return await self._tools.store.mark(realm.name, handle, subject)

    def _digest(self, token: bytes) -> bytes:
        return blake2b(token, key=self._key, digest_size=_DIGEST_BYTES).digest()
