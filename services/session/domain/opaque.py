"""Opaque realms: the caller chooses the key, and has get, put and delete over it. Judged at every read, like sessions.

A value lives for the realm's TTL after its last write. What was deleted (or revoked with its whole realm) is refused to
writers for a TTL as well: a request that was under way, or a retry, does not bring a session back that somebody ended.
"""

import enum
from typing import Final

from services.session.crypto import opaque as crypto
from services.session.domain.epochs import is_below
from services.session.domain.errors import DataTooLarge, KeyDeleted, RealmNotFound, ValueNotFound
from services.session.domain.opaque_model import OPAQUE_REALM, OpaqueRow, OpaqueStored, OpaqueTombstone, key_subject
from services.session.domain.policy import Kind
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools, until_written

MAX_KEY_BYTES: Final = 1024
GET: Final = "GET"
POST: Final = "POST"
DELETE: Final = "DELETE"
METHODS: Final = (GET, POST, DELETE)
"""Names of the verbs in a realm's list of callers."""


class OpaqueState(enum.Enum):
    """What a key is to its callers."""

    LIVE = "live"
    ABSENT = "absent"
    ENDED = "ended"


def judge(realm: Realm, stored: OpaqueStored, now_us: int) -> OpaqueState:
    """The state of what is stored. A deletion or revocation outweighs all else until its time is over; a TTL made
    shorter counts at once, one made longer moves no value that is there."""
    row, tombstone, ttl_us = stored.row, stored.tombstone, realm.policy.ttl_us
    if tombstone is not None and now_us < tombstone.until_us:
        return OpaqueState.ENDED
    if row is None:
        return OpaqueState.ABSENT
    if is_below(row.stamp, realm.epoch):
        return OpaqueState.ENDED if now_us < revoked(realm, row).until_us else OpaqueState.ABSENT
    return OpaqueState.LIVE if now_us < min(row.until_us, row.written_us + ttl_us) else OpaqueState.ABSENT


def revoked(realm: Realm, row: OpaqueRow) -> OpaqueTombstone:
    """What a revocation of the whole realm makes of a row: as if it had been deleted then."""
    at_us = realm.epoch.raised_us
    return OpaqueTombstone(at_us, max(row.until_us, at_us + realm.policy.ttl_us))


class OpaqueValues:
    """The verbs. Keys are 1 to MAX_KEY_BYTES bytes; they leave this class as names and handles only."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._rows = tools.store.opaque
        self._keyed: set[tuple[str, int]] = set()

    def enter(self, name: str, caller: str, method: str) -> Realm:
        """The opaque realm for a caller's use of it. Raises RealmNotFound, as Realms.enter does."""
        realm = self._tools.realms.enter(name, caller, method)
        if realm.policy.kind is not Kind.OPAQUE:
            raise RealmNotFound
        return realm

    async def get(self, realm: Realm, key: bytes) -> bytes:
        """The value. Raises ValueNotFound, SealBroken."""
        names = crypto.names(self._tools.keyring, realm.name, key)
        stored = await self._rows.read(realm.name, names)
        row = stored.row
        if row is None or judge(realm, stored, self._now_us()) is not OpaqueState.LIVE:
            raise ValueNotFound
        realm_key = await self._realm_key(realm)
        return crypto.open_value(realm_key, realm.name, key, row.name, (row.written_us, row.until_us), row.sealed)

    async def put(self, realm: Realm, caller: str, key: bytes, value: bytes) -> None:
        """Keeps the value for a TTL, whatever was there. Raises KeyDeleted, DataTooLarge, RealmFull."""
        self.check_size(realm, len(key) + len(value))
        realm_key = await self._realm_key(realm)
        names = crypto.names(self._tools.keyring, realm.name, key)
        now_us = self._now_us()
        times = now_us, now_us + realm.policy.ttl_us
        sealed = crypto.seal_value(realm_key, realm.name, key, names[0], times, value, self._tools.random)
        usage = self._tools.opaque_usage
        if realm.policy.max_values or realm.policy.max_total_bytes:
            await usage.ready(self._rows)
        fresh, taken = False, (0, 0)

        def allowed(stored: OpaqueStored) -> bool:
            nonlocal fresh, taken
            usage.changed(realm.name, -taken[0], -taken[1])  # of an earlier look
            taken = 0, 0
            state = judge(realm, stored, now_us)
            fresh = state is OpaqueState.ABSENT
            if state is OpaqueState.ENDED:
                return False
            more = (1, len(sealed)) if stored.row is None else (0, len(sealed) - stored.row.stored_bytes)
            usage.take(realm, *more)
            taken = more
            return True

        row = OpaqueRow(names[0], *times, realm.epoch.counters, sealed)
        kept = False
        try:
            kept = await self._rows.write(realm.name, names, row, allowed)
        finally:
            if not kept:
                usage.changed(realm.name, -taken[0], -taken[1])
        if not kept or fresh:
            self._tell("opaque_created" if kept else "opaque_refused", realm, names[0], caller)
        if not kept:
            raise KeyDeleted

    async def delete(self, realm: Realm, caller: str, key: bytes) -> None:
        """Ends the value, and refuses the key to writers for a TTL, also when nothing was there."""
        names = crypto.names(self._tools.keyring, realm.name, key)
        now_us = self._now_us()
        # By the policy of then a value may have longer to live than by that of now.
        row = (await self._rows.read(realm.name, names)).row
        until_us = max(now_us + realm.policy.ttl_us, 0 if row is None else row.until_us)
        if await self._rows.delete(realm.name, names, OpaqueTombstone(now_us, until_us)):
            self._tools.opaque_usage.changed(realm.name, -1, 0 if row is None else -row.stored_bytes)
            self._tell("opaque_deleted", realm, names[0], caller)

    @staticmethod
    def check_size(realm: Realm, size_bytes: int) -> None:
        """Raises DataTooLarge when a key and a value together are larger than the realm allows."""
        limit = realm.policy.max_data_bytes
        if size_bytes > limit:
            raise DataTooLarge(
                f"key and value together are larger than {limit} bytes", metadata={"limit_bytes": str(limit)}
            )

    async def _realm_key(self, realm: Realm) -> bytes:
        """32 bytes, the same as long as the realm lives; made and kept at its first use. Raises HomeUnreachable where
        it has not arrived, and the data centre that has it does not answer."""
        vault, name = self._tools.vault, realm.name
        # A realm made anew under an old name has a new key: what is remembered of the old one is asked for again.
        first = (name, realm.created_us) not in self._keyed
        home, subject = self._tools.datacentre, OPAQUE_REALM
        if self._tools.others:
            # One key for all data centres: one of them decides which, and the others have copies.
            home, subject = min(home, *self._tools.others), key_subject(realm.created_us)

        async def attempt() -> bytes | None:
            found = await vault.subject_key(name, subject, home=home, cached=not first)
            if found is not None:
                return found[0]
            key, sealed = await vault.ensured_key(name, subject, home=home)
            if sealed.fresh and (older := await self._key_of_before(realm)) is not None:
                key, sealed = older, vault.sealed_key(name, subject, older)
            if not sealed.fresh or await self._rows.keep_key(name, subject, sealed.sealed, home):
                return key
            return None

        key = await until_written(attempt)
        self._keyed.add((name, realm.created_us))
        return key

    async def _key_of_before(self, realm: Realm) -> bytes | None:
        """The realm's key from when one data centre had the store: what it sealed is to be read on."""
        for home in (self._tools.datacentre, *self._tools.others) if self._tools.others else ():
            found = await self._tools.vault.subject_key(realm.name, OPAQUE_REALM, home=home)
            if found is not None:
                return found[0]
        return None

    def _now_us(self) -> int:
        return self._tools.clock.now_us()

    def _tell(self, what: str, realm: Realm, name: bytes, caller: str) -> None:
        self._tools.events.record(what, realm.name, handle=crypto.handle_of(name), caller=caller)
