"""The synchronous client: every method of the asynchronous one, with the same arguments, answers and errors.

An asynchronous iterator becomes an iterator. Any thread may use the client. Do not call it from a coroutine: it would
block the loop.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Generic, Self, TypeVar

from wellspring_client import aio
from wellspring_client.channels import Tls
from wellspring_client.portal import Portal
from wellspring_client.propagation import Propagation as AsyncPropagation
from wellspring_client.propagation_admin import PropagationAdmin as AsyncAdmin
from wellspring_client.propagation_work import PropagationWork as AsyncWork
from wellspring_client.record_codecs import Codec
from wellspring_client.records import Records as AsyncRecords
from wellspring_client.session import Realm as AsyncRealm
from wellspring_client.session import Sessions as AsyncSessions
from wellspring_client.storage import Namespace as AsyncNamespace
from wellspring_client.storage_admin import Storage as AsyncStorage

_Kind = TypeVar("_Kind")


class Records(Generic[_Kind]):
    """Typed records: :class:`wellspring_client.records.Records`, synchronous."""

    def __init__(self, portal: Portal, records: AsyncRecords[_Kind]) -> None:
        self.get = portal.call(records.get)
        self.get_many = portal.call(records.get_many)
        self.put = portal.call(records.put)
        self.update = portal.call(records.update)
        self.delete = portal.call(records.delete)
        self.scan = portal.flatten(records.scan_pages)


class Namespace:
    """One namespace: :class:`wellspring_client.storage.Namespace`, synchronous."""

    def __init__(self, portal: Portal, namespace: AsyncNamespace) -> None:
        self._portal = portal
        self._namespace = namespace
        self.name = namespace.name
        self.new_token = namespace.new_token
        self.put = portal.call(namespace.put)
        self.put_many = portal.call(namespace.put_many)
        self.put_columns = portal.call(namespace.put_columns)
        self.mutate = portal.call(namespace.mutate)
        self.delete = portal.call(namespace.delete)
        self.get = portal.call(namespace.get)
        self.get_many = portal.call(namespace.get_many)
        self.read = portal.call(namespace.read)
        self.items = portal.flatten(namespace.item_pages)
        self.scan = portal.flatten(namespace.record_pages)
        self.scan_pages = portal.iterate(namespace.scan_pages)
        self.split = portal.call(namespace.split)
        self.watch = portal.iterate(namespace.watch)
        self.outcome = portal.call(namespace.outcome)
        self.upload = portal.call(namespace.upload)
        self.download = portal.iterate(namespace.download)

    def records(self, kind: type[_Kind], *, codec: Codec[_Kind] | None = None) -> Records[_Kind]:
        """The records as values of the class ``kind``; no call is made."""
        return Records(self._portal, self._namespace.records(kind, codec=codec))


class Storage:
    """The storage service: :class:`wellspring_client.storage_admin.Storage`, synchronous."""

    def __init__(self, portal: Portal, storage: AsyncStorage) -> None:
        self._portal = portal
        self._storage = storage
        self.create_namespace = portal.call(storage.create_namespace)
        self.get_namespace = portal.call(storage.get_namespace)
        self.list_namespaces = portal.iterate(storage.list_namespaces)
        self.update_namespace = portal.call(storage.update_namespace)
        self.delete_namespace = portal.call(storage.delete_namespace)
        self.undelete_namespace = portal.call(storage.undelete_namespace)
        self.usage = portal.call(storage.usage)
        self.inspect = portal.call(storage.inspect)
        self.rebucket = portal.call(storage.rebucket)
        self.mirror = portal.call(storage.mirror)
        self.take_snapshot = portal.call(storage.take_snapshot)
        self.restore_snapshot = portal.call(storage.restore_snapshot)
        self.list_snapshots = portal.iterate(storage.list_snapshots)
        self.delete_snapshot = portal.call(storage.delete_snapshot)
        self.get_operation = portal.call(storage.get_operation)
        self.list_operations = portal.iterate(storage.list_operations)
        self.cancel_operation = portal.call(storage.cancel_operation)
        self.follow_operation = portal.iterate(storage.follow_operation)
        self.finished = portal.call(storage.finished)
        self.export_namespace = portal.iterate(storage.export_namespace)
        self.import_namespace = portal.call(storage.import_namespace)

    def namespace(self, name: str) -> Namespace:
        """The records of ``name``; no call is made."""
        return Namespace(self._portal, self._storage.namespace(name))


class Realm:
    """The sessions of one realm: :class:`wellspring_client.session.Realm`, synchronous."""

    def __init__(self, portal: Portal, realm: AsyncRealm) -> None:
        self.name = realm.name
        self.create = portal.call(realm.create)
        self.validate = portal.call(realm.validate)
        self.get = portal.call(realm.get)
        self.update_data = portal.call(realm.update_data)
        self.update_shared = portal.call(realm.update_shared)
        self.rotate = portal.call(realm.rotate)
        self.reauthenticate = portal.call(realm.reauthenticate)
        self.revoke = portal.call(realm.revoke)
        self.list_by_subject = portal.iterate(realm.list_by_subject)
        self.erase_subject = portal.call(realm.erase_subject)
        self.watch_revocations = portal.iterate(realm.watch_revocations)


class Sessions:
    """The session service: :class:`wellspring_client.session.Sessions`, synchronous."""

    def __init__(self, portal: Portal, sessions: AsyncSessions) -> None:
        self._portal = portal
        self._sessions = sessions
        self.create_realm = portal.call(sessions.create_realm)
        self.list_realms = portal.iterate(sessions.list_realms)
        self.set_readmission_window = portal.call(sessions.set_readmission_window)
        self.usage = portal.call(sessions.usage)
        self.list_keys = portal.call(sessions.list_keys)
        self.promote_key = portal.call(sessions.promote_key)
        self.retire_key = portal.call(sessions.retire_key)
        self.fence_datacentre = portal.call(sessions.fence_datacentre)
        self.unfence_datacentre = portal.call(sessions.unfence_datacentre)
        self.key_set = portal.call(sessions.key_set)

    def realm(self, name: str) -> Realm:
        """The sessions of ``name``; no call is made."""
        return Realm(self._portal, self._sessions.realm(name))


class PropagationAdmin:
    """For operators: :class:`wellspring_client.propagation_admin.PropagationAdmin`, synchronous."""

    def __init__(self, portal: Portal, admin: AsyncAdmin) -> None:
        self.validate_views = portal.call(admin.validate_views)
        self.put_views = portal.call(admin.put_views)
        self.list_views = portal.call(admin.list_views)
        self.validate_rules = portal.call(admin.validate_rules)
        self.put_rules = portal.call(admin.put_rules)
        self.list_rules = portal.call(admin.list_rules)
        self.dead_letters = portal.iterate(admin.dead_letters)
        self.replay_dead_letters = portal.call(admin.replay_dead_letters)
        self.discard_dead_letters = portal.call(admin.discard_dead_letters)
        self.rerender = portal.call(admin.rerender)
        self.outputs = portal.iterate(admin.outputs)
        self.costs = portal.iterate(admin.costs)
        self.purge = portal.call(admin.purge)
        self.status = portal.call(admin.status)
        self.shards = portal.call(admin.shards)
        self.grow_shards = portal.call(admin.grow_shards)


class PropagationWork:
    """For executors: :class:`wellspring_client.propagation_work.PropagationWork`, synchronous."""

    def __init__(self, portal: Portal, work: AsyncWork) -> None:
        self.lease = portal.call(work.lease)
        self.complete = portal.call(work.complete)
        self.extend = portal.call(work.extend)
        self.views = portal.call(work.views)
        self.report_reads = portal.call(work.report_reads)


class Propagation:
    """The propagation service: :class:`wellspring_client.propagation.Propagation`, synchronous."""

    def __init__(self, portal: Portal, propagation: AsyncPropagation) -> None:
        self.admin = PropagationAdmin(portal, propagation.admin)
        self.work = PropagationWork(portal, propagation.work)
        self.publish = portal.call(propagation.publish)
        self.change = portal.call(propagation.change)
        self.declare = portal.call(propagation.declare)
        self.dependencies = portal.call(propagation.dependencies)
        self.dependents = portal.iterate(propagation.dependents)
        self.count_dependents = portal.call(propagation.count_dependents)
        self.estimate = portal.call(propagation.estimate)
        self.get_change = portal.call(propagation.get_change)
        self.list_changes = portal.iterate(propagation.list_changes)
        self.watch_change = portal.iterate(propagation.watch_change)
        self.watch_changes = portal.iterate(propagation.watch_changes)
        self.pause = portal.call(propagation.pause)
        self.resume = portal.call(propagation.resume)
        self.cancel = portal.call(propagation.cancel)
        self.reprioritize = portal.call(propagation.reprioritize)
        self.await_visible = portal.call(propagation.await_visible)
        self.explain = portal.call(propagation.explain)


class Client:
    """The services behind one set of addresses. Made by :func:`connect`; close it, or use it as a context manager."""

    def __init__(self, portal: Portal, client: aio.Client) -> None:
        self._portal = portal
        self._client = client

    @property
    def storage(self) -> Storage:
        """The storage service. Raises ValueError when its address was not given."""
        return Storage(self._portal, self._client.storage)

    @property
    def session(self) -> Sessions:
        """The session service. Raises ValueError when its address was not given."""
        return Sessions(self._portal, self._client.session)

    @property
    def propagation(self) -> Propagation:
        """The propagation service. Raises ValueError when its address was not given."""
        return Propagation(self._portal, self._client.propagation)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the client's thread. Harmless when called twice."""
        self._portal.close(self._client.close)


def connect(
    address: aio.Addresses | None = None,
    *,
    storage: aio.Addresses | None = None,
    session: aio.Addresses | None = None,
    propagation: aio.Addresses | None = None,
    tls: Tls | None = None,
    timeout: float = 10.0,
    connections: int = 1,
    headers: Callable[[], Mapping[str, str]] | None = None,
) -> Client:
    """A synchronous client; nothing is called before the first method is.

    ``storage``, ``session``, ``propagation``: where each service listens, "host:port" or "unix:/path", several as a
    list; ``address`` for those not named. ``timeout``: seconds of a call, all its attempts together, unless the call
    says otherwise. ``connections`` to each service. ``headers``: called for each call, gives metadata to send.

    Raises ValueError when no address is given or one is malformed, OSError when a TLS file cannot be read.
    """
    portal = Portal()

    async def make() -> aio.Client:
        return aio.connect(
            address,
            storage=storage,
            session=session,
            propagation=propagation,
            tls=tls,
            timeout=timeout,
            connections=connections,
            headers=headers,
        )

    try:
        return Client(portal, portal.run(make()))
    except BaseException:
        portal.close(_nothing)
        raise


async def _nothing() -> None:
    pass
