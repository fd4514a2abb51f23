"""The realms of this server, in memory: policy and epochs, so that a hot call asks the store for its session only."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from services.session.domain import abilities
from services.session.domain import policy as policies
from services.session.domain.epochs import merged
from services.session.domain.errors import PolicyRefused, RealmChanged, RealmExists, RealmNotFound, Stale
from services.session.domain.model import Epoch, RealmRecord, Session, Tombstone
from services.session.domain.origins import Listening
from services.session.domain.policy import Kind, Partition, Policy
from services.session.domain.validity import Verdict, judge
from services.session.store.interface import Store, Stored

MAX_REALMS = 10_000


@dataclass(frozen=True, slots=True)
class Realm:
    """A realm as it stands."""

    name: str
    policy: Policy
    version: int
    created_us: int
    epoch: Epoch

    @property
    def etag(self) -> str:
        return f"{self.version}-{self.created_us}"

    def judge(self, stored: Stored, now_us: int) -> Verdict:
        """What a session of this realm is now."""
        return judge(stored.session, self.policy, self.epoch, stored.subject_epoch, stored.tombstone, now_us)

    def judge_parts(
        self, session: Session | None, subject_epoch: Epoch, tombstone: Tombstone | None, now_us: int
    ) -> Verdict:
        return judge(session, self.policy, self.epoch, subject_epoch, tombstone, now_us)


class Realms:
    """All realms. Make one by `load`."""

    def __init__(
        self, store: Store, datacentre: str, now_us: Callable[[], int], listening: Listening | None = None
    ) -> None:
        self.listening = listening or Listening(datacentre)
        self._store = store
        self._datacentre = datacentre
        self.now_us = now_us
        self._realms: dict[str, Realm] = {}
        self._epochs: dict[str, Epoch] = {}
        self._refreshed_us: int | None = None
        self.check_keys: Callable[[], None] = lambda: None
        """Raises where keys may be in use that this server does not know of."""

    async def load(self) -> None:
        """Reads all from the store."""
        self._epochs = await self._store.realm_epochs()
        self._realms = {}
        for record in await self._store.realms():
            self._take(record)

    async def refresh(self) -> None:
        """Takes in what other servers of the store changed since. A realm that is as it was stays the same object."""
        began_us = self.now_us()
        for name, epoch in (await self._store.realm_epochs()).items():
            if merged(self._epochs.get(name, Epoch()), epoch) != self._epochs.get(name):
                self.learn(name, epoch)
        records = {record.name: record for record in await self._store.realms()}
        for record in records.values():
            known = self._realms.get(record.name)
            if known is None or (known.created_us, known.version) < (record.created_us, record.version):
                self._take(record)
        # One that this server made while it read is not gone for that.
        for name in [name for name, realm in self._realms.items() if realm.created_us < began_us]:
            if name not in records:
                del self._realms[name]
        self._refreshed_us = began_us

    def staleness_us(self, name: str) -> int:
        """How old what is known of a realm's revocations is, at most: nothing where one process knows every revocation
        at once."""
        now_us = self.now_us()
        own_us = 0 if self._refreshed_us is None else max(0, now_us - self._refreshed_us)
        return max(own_us, self.listening.staleness_us(name, now_us))

    def get(self, name: str) -> Realm | None:
        """The realm of a name."""
        return self._realms.get(name)

    def enter(self, name: str, caller: str, method: str) -> Realm:
        """The realm for a caller's use of it. Raises RealmNotFound, also when it is there but not for this caller, and
        Stale when a server of several has not refreshed for the realm's bound; what another data centre must be heard
        for, see `Listening.check`. Who revokes is let in all the same."""
        realm = self._realms.get(name)
        if realm is None or not realm.policy.allows(caller, method):
            raise RealmNotFound
        if method == "Revoke":
            return realm
        self.check_keys()
        now_us = self.now_us()
        if realm.policy.on_partition is Partition.FAIL_CLOSED and self._refreshed_us is not None:
            old_us = now_us - self._refreshed_us
            if old_us > realm.policy.revocation_bound_us:
                raise Stale(f"this server has not heard of revocations for {old_us // 1000} ms", retry_after_s=0.5)
        self.listening.check(name, realm.policy, now_us)
        return realm

    def everything(self) -> list[Realm]:
        """All realms."""
        return list(self._realms.values())

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._realms)

    async def create(self, name: str, policy: Policy) -> Realm:
        """A new realm. Raises PolicyRefused, RealmExists, ServersOlder."""
        policies.check(name, policy)
        if len(self._realms) >= MAX_REALMS:
            raise PolicyRefused(f"there are {MAX_REALMS} realms; no more are allowed")
        if policy.kind is Kind.OPAQUE:
            await abilities.check_everywhere(self._store, abilities.OPAQUE)
        record = RealmRecord(name, 1, self.now_us(), policies.encode(policy))
        if not await self._store.put_realm(record, version=0):
            raise RealmExists(f"the realm {name} is there already")
        return self._take(record)

    async def ensure(self, name: str, policy: Policy) -> Realm:
        """The realm, made with this policy when it is not there. For the start: it may read all anew. Raises
        PolicyRefused, ServersOlder."""
        realm = self._realms.get(name)
        if realm is not None:
            return realm
        try:
            return await self.create(name, policy)
        except RealmExists:
            await self.load()  # another server made it just now
            return self._realms[name]

    async def update(self, name: str, policy: Policy, etag: str) -> Realm:
        """A realm's new policy, which counts at once for the sessions that are there.

        An empty `etag` asks for no particular one. Raises PolicyRefused, RealmNotFound, RealmChanged.
        """
        policies.check(name, policy)
        realm = self._expect(name, etag)
        if policy.kind is not realm.policy.kind:
            what = "cannot change: what a realm of one kind keeps means nothing in the other; make another realm"
            raise PolicyRefused(f"realm.kind: {what}", violations=[("realm.kind", what)])
        record = RealmRecord(name, realm.version + 1, realm.created_us, policies.encode(policy))
        if not await self._store.put_realm(record, version=realm.version):
            raise RealmChanged(self._realms[name].etag if name in self._realms else "")
        return self._take(record)

    async def delete(self, name: str, etag: str) -> None:
        """Ends all sessions of a realm, then forgets its policy. Raises RealmNotFound, RealmChanged.

        Its epochs stay: a realm of the same name made later revives nothing.
        """
        realm = self._expect(name, etag)
        await self.revoke(name)
        if not await self._store.delete_realm(name, version=realm.version):
            raise RealmChanged(self._realms[name].etag if name in self._realms else "")
        self._realms.pop(name, None)

    async def revoke(self, name: str) -> Epoch:
        """Ends every session of a realm by one write."""
        epoch = await self._store.raise_realm_epoch(name, self._datacentre, self.now_us())
        return self.learn(name, epoch)

    def learn(self, name: str, epoch: Epoch) -> Epoch:
        """Takes in a realm's epoch, which never falls by it."""
        now = self._epochs[name] = merged(self._epochs.get(name, Epoch()), epoch)
        if name in self._realms:
            self._realms[name] = replace(self._realms[name], epoch=now)
        return now

    def _expect(self, name: str, etag: str) -> Realm:
        realm = self._realms.get(name)
        if realm is None:
            raise RealmNotFound
        if etag and etag != realm.etag:
            raise RealmChanged(realm.etag)
        return realm

    def _take(self, record: RealmRecord) -> Realm:
        epoch = self._epochs.get(record.name, Epoch())
        realm = Realm(record.name, policies.decode(record.body), record.version, record.created_us, epoch)
        self._realms[record.name] = realm
        return realm
