"""A cluster asked from asyncio: prepared statements, callbacks instead of threads, bounded, with deadlines.

What the driver would do by default and does not here: ask with LOCAL_ONE, guess the data centre, send a conditional
write again after a lost connection, wrap rows in named tuples, speak protocol 5 (3.30 loses bytes of it under load).
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import DCAwareRoundRobinPolicy, ExponentialReconnectionPolicy, TokenAwarePolicy
from cassandra.query import BatchStatement, BatchType, tuple_factory

from libs.cassandra import binding
from libs.cassandra.bridge import Bridge
from libs.cassandra.connection import Connection, ask
from libs.cassandra.deadlines import Deadlines
from libs.cassandra.errors import translate
from libs.cassandra.options import Options
from libs.cassandra.policies import Resend
from libs.cassandra.refusals import refusal
from libs.cassandra.routing import Replicas, Routed
from libs.errors.errors import Unavailable

logger = logging.getLogger(__name__)

PROTOCOL_VERSION: Final = 4
_CONNECT_TIMEOUT_S: Final = 10.0

Row = tuple[Any, ...]

LOCAL_ONE: Final[int] = ConsistencyLevel.LOCAL_ONE
LOCAL_QUORUM: Final[int] = ConsistencyLevel.LOCAL_QUORUM
QUORUM: Final[int] = ConsistencyLevel.QUORUM
EACH_QUORUM: Final[int] = ConsistencyLevel.EACH_QUORUM
ALL: Final[int] = ConsistencyLevel.ALL
SERIAL: Final[int] = ConsistencyLevel.SERIAL
LOCAL_SERIAL: Final[int] = ConsistencyLevel.LOCAL_SERIAL


@dataclass(frozen=True, slots=True)
class Statement:
    """A prepared statement. `write`: an answer that is lost leaves it open whether it happened. `conditional`: it has
    an IF, and is never sent twice. `encode`: its values for a batch."""

    prepared: Any
    write: bool
    conditional: bool
    encode: Sequence[binding.Encode] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and where the next ones begin (None: these were the last). `state` stays inside the service: a foreign one
    skips rows silently."""

    rows: list[Row]
    state: bytes | None


class Session:
    """An open connection to a keyspace. All methods belong to one event loop."""

    def __init__(self, cluster: Any, raw: Any, options: Options, loop: asyncio.AbstractEventLoop) -> None:
        """Use :meth:`open`."""
        self._cluster = cluster
        self._raw = raw
        self._options = options
        self._bridge = Bridge(loop)
        self._deadlines = Deadlines(self._bridge.settle, cluster.connection_class.create_timer)
        self._room = asyncio.Semaphore(options.max_in_flight)
        self._hedges = _Credit(options.hedge_share)
        self._prepared: dict[str, Statement] = {}
        self._replicas = Replicas(cluster.metadata, options.keyspace, options.local_datacentre)
        self.hedged = 0

    @classmethod
    async def open(cls, options: Options, *, keyspace: bool = True) -> Self:
        """Connects. `keyspace` False: to the cluster alone, before the keyspace is made. Raises Unavailable."""
        cluster = None
        try:
            cluster = await asyncio.to_thread(_cluster, options)  # looks names up
            raw = await asyncio.to_thread(cluster.connect, options.keyspace if keyspace else None)
        except Exception as error:
            known = set[str]()
            if cluster is not None:
                known = {host.datacenter for host in cluster.metadata.all_hosts() if host.datacenter}
                await asyncio.to_thread(cluster.shutdown)
            logger.info("cannot connect to Cassandra", exc_info=error)
            raise refusal(error, options, known, keyspace=keyspace) from error
        return cls(cluster, raw, options, asyncio.get_running_loop())

    async def prepare(self, cql: str, *, write: bool) -> Statement:
        """Prepares a statement, once. Plain writes must carry their own timestamp: they are marked idempotent."""
        known = self._prepared.get(cql)
        if known is not None:
            return known
        try:
            prepared = await asyncio.to_thread(self._raw.prepare, cql)
        except Exception as error:
            raise translate(error, write=False) from error
        conditional = " IF " in f" {cql.upper()} "
        prepared.is_idempotent = not conditional
        prepared.fetch_size = None  # the node would page through a read of several partitions one after the other
        statement = self._prepared[cql] = Statement(prepared, write, conditional, binding.encoders(prepared))
        return statement

    async def execute(
        self,
        statement: Statement,
        values: Sequence[Any],
        consistency: int = LOCAL_QUORUM,
        *,
        serial: int | None = None,
        timeout_s: float | None = None,
        key: bytes | None = None,
    ) -> list[Row]:
        """The rows of a statement (all: it must not page). ``key``: of the partition whose replicas are asked first,
        when the statement does not tell it, for it reads several. Raises OutcomeUnknown for a write that may have
        happened, else Unavailable."""
        bound = statement.prepared.bind(values) if key is None else Routed(statement.prepared, key).bind(values)
        bound.consistency_level = consistency
        if serial is not None:
            bound.serial_consistency_level = serial
        timeout_s = self._options.request_timeout_s if timeout_s is None else timeout_s
        async with self._room:
            try:
                if statement.write or not self._options.hedge_after_s:
                    rows = await self._send(bound, timeout_s)
                else:
                    rows = await self._hedge(bound, timeout_s)
            except Exception as error:
                raise translate(error, write=statement.write, conditional=statement.conditional) from error
        return rows if rows is not None else []

    async def batch(
        self,
        writes: Sequence[tuple[Statement, Sequence[Any]]],
        consistency: int = LOCAL_QUORUM,
        *,
        serial: int | None = None,
        timeout_s: float | None = None,
    ) -> list[Row]:
        """Writes of one partition, all or none of them; of several, each partition's for itself: they must be few and
        small, and go to a replica of the first one's. With a conditional one among them (and ``serial``) the answer's
        first row begins with whether they were applied. Raises as :meth:`execute`."""
        batch = BatchStatement(batch_type=BatchType.UNLOGGED, consistency_level=consistency)
        batch.is_idempotent = not any(statement.conditional for statement, _ in writes)
        if serial is not None:
            batch.serial_consistency_level = serial
        for statement, values in writes:
            binding.add(batch, statement.prepared, statement.encode, values)
        timeout_s = self._options.request_timeout_s if timeout_s is None else timeout_s
        async with self._room:
            try:
                rows = await self._send(batch, timeout_s)
            except Exception as error:
                raise translate(error, write=True, conditional=serial is not None) from error
        return rows if rows is not None else []

    async def pages(
        self,
        statement: Statement,
        values: Sequence[Any],
        consistency: int = LOCAL_QUORUM,
        *,
        size: int = 1000,
        timeout_s: float | None = None,
    ) -> AsyncIterator[list[Row]]:
        """The rows of a statement, page by page. Raises as :meth:`execute`."""
        state: bytes | None = None
        while True:
            page = await self.page(statement, values, consistency, size=size, state=state, timeout_s=timeout_s)
            yield page.rows
            if page.state is None:
                return
            state = page.state

    async def page(
        self,
        statement: Statement,
        values: Sequence[Any],
        consistency: int = LOCAL_QUORUM,
        *,
        size: int,
        state: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Page:
        """One page of a read."""
        bound = statement.prepared.bind(values)
        bound.consistency_level = consistency
        bound.fetch_size = size
        timeout_s = self._options.request_timeout_s if timeout_s is None else timeout_s
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        settle = self._bridge.settle
        async with self._room:
            try:
                asked = ask(self._raw, bound, paging_state=state)
                asked.add_callbacks(
                    lambda rows: settle(future, (rows, asked._paging_state), None),
                    lambda error: settle(future, None, error),
                )
                self._deadlines.add(future, timeout_s)
                rows, state = await future
            except Exception as error:
                raise translate(error, write=False) from error
        return Page(rows, state or None)

    async def at_each_replica(self, statement: Statement, values: Sequence[Any]) -> AsyncIterator[list[Row]]:
        """The rows of a read of one partition as each replica in the own data centre has them, one after the other;
        those that do not answer are left out. A node asks another one in its place only when it is much the slower."""
        bound = statement.prepared.bind(values)
        bound.consistency_level = LOCAL_ONE
        for host in self._cluster.metadata.get_replicas(self._options.keyspace, bound.routing_key):
            if host.datacenter != self._options.local_datacentre:
                continue
            async with self._room:
                try:
                    rows = await self._send(bound, self._options.request_timeout_s, host)
                except Exception as error:
                    told = translate(error, write=False)
                    if not isinstance(told, Unavailable):
                        raise told from error
                    continue
            yield rows if rows is not None else []

    async def run(self, cql: str, *, timeout_s: float = 60.0) -> list[Row]:
        """A statement that is not prepared: for migrations."""
        try:
            rows = await asyncio.to_thread(self._raw.execute, cql, timeout=timeout_s)
        except Exception as error:
            logger.exception("a statement of a migration failed")
            raise translate(error, write=True) from error
        return list(rows)

    @property
    def options(self) -> Options:
        """What it was opened with."""
        return self._options

    def datacentres(self) -> set[str]:
        """The data centres that the cluster has now."""
        return {host.datacenter for host in self._cluster.metadata.all_hosts() if host.datacenter}

    def replicated(self) -> set[str]:
        """The data centres that have replicas of the keyspace: all, unless its replication names some."""
        keyspace = self._cluster.metadata.keyspaces.get(self._options.keyspace)
        named = getattr(keyspace and keyspace.replication_strategy, "dc_replication_factors", None)
        return set(named) if named else self.datacentres()

    def addresses(self, datacentre: str) -> tuple[tuple[str, int], ...]:
        """Where the nodes of a data centre listen."""
        hosts = [host for host in self._cluster.metadata.all_hosts() if host.datacenter == datacentre]
        return tuple(sorted((host.endpoint.address, host.endpoint.port) for host in hosts))

    def replicas(self, key: bytes) -> Hashable:
        """As ``Replicas.of``."""
        return self._replicas.of(key)

    async def close(self) -> None:
        """Ends the connections; what is under way fails."""
        await asyncio.to_thread(self._cluster.shutdown)

    def _send(self, bound: Any, timeout_s: float, host: Any = None) -> "asyncio.Future[Any]":
        """To ``host`` alone, if it is given."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        settle = self._bridge.settle
        to = {} if host is None else {"host": host}
        asked = ask(self._raw, bound, **to)
        asked.add_callbacks(settle_rows, settle_error, callback_args=(settle, future), errback_args=(settle, future))
        self._deadlines.add(future, timeout_s)
        return future

    async def _hedge(self, bound: Any, timeout_s: float) -> Any:
        """A read that is sent to a second replica too when the first is slow and there is credit for it."""
        self._hedges.earn()
        first = self._send(bound, timeout_s)
        second: asyncio.Future[Any] | None = None

        def again() -> None:
            nonlocal second
            if not first.done() and self._hedges.spend():
                self.hedged += 1
                second = self._send(bound, timeout_s)
                second.add_done_callback(lambda done: _answer(first, done))

        timer = asyncio.get_running_loop().call_later(self._options.hedge_after_s, again)
        try:
            return await first
        except Exception as error:
            if second is None:
                raise
            try:
                return await second
            except Exception:
                raise error from None
        finally:
            timer.cancel()
            if second is not None:
                second.cancel()


def _answer(first: "asyncio.Future[Any]", second: "asyncio.Future[Any]") -> None:
    """What the second sending of a read brought is the answer, unless it failed: then the first is still awaited."""
    if not second.cancelled() and second.exception() is None and not first.done():
        first.set_result(second.result())


def settle_rows(rows: Any, settle: Any, future: Any) -> None:
    """The driver's callback for an answer."""
    settle(future, rows, None)


def settle_error(error: Exception, settle: Any, future: Any) -> None:
    """The driver's callback for a failure."""
    settle(future, None, error)


class _Credit:
    """Earned with each read, spent by each hedge: a store that is slow as a whole is not asked twice for everything."""

    _MOST = 10.0

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = self._MOST * share

    def earn(self) -> None:
        self._left = min(self._MOST, self._left + self._share)

    def spend(self) -> bool:
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _cluster(options: Options) -> Any:
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(
            DCAwareRoundRobinPolicy(options.local_datacentre), shuffle_replicas=True
        ),
        retry_policy=Resend(),
        consistency_level=LOCAL_QUORUM,
        serial_consistency_level=SERIAL,
        request_timeout=options.request_timeout_s,
        row_factory=tuple_factory,
    )
    auth = PlainTextAuthProvider(options.username, options.password) if options.username else None
    tls = {"server_hostname": options.tls_server_name} if options.tls and options.tls_server_name else None
    return Cluster(
        contact_points=[*options.contact_points],
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        protocol_version=PROTOCOL_VERSION,
        connection_class=Connection,
        # The driver would give a node up after 64 attempts, and a data centre may be away for days.
        reconnection_policy=ExponentialReconnectionPolicy(*options.reconnect_s, max_attempts=None),
        auth_provider=auth,
        ssl_context=options.tls,
        ssl_options=tls,
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # else a write of several segments may take 40 ms
        connect_timeout=_CONNECT_TIMEOUT_S,
        control_connection_timeout=_CONNECT_TIMEOUT_S,
        idle_heartbeat_interval=10,
    )


@contextlib.asynccontextmanager
async def opened(options: Options, *, keyspace: bool = True) -> AsyncIterator[Session]:
    """A session for a while."""
    session = await Session.open(options, keyspace=keyspace)
    try:
        yield session
    finally:
        await session.close()
