"""The configured backend, opened; and the migrations of one that has them.

What only a cluster needs is imported when one is configured: its driver costs a server on one machine memory and time.
"""

from typing import TYPE_CHECKING, NamedTuple

from libs.clock.clock import Clock
from libs.config import wiring
from libs.config.mistakes import ConfigError, Mistake
from libs.config.origins import origin_of
from libs.rpc.server import Server
from services.session.domain.hot import Following
from services.session.opening import Front
from services.session.store.embedded import EmbeddedStore
from services.session.store.interface import Store
from wellspring.config.v1 import session_pb2 as config_pb

if TYPE_CHECKING:
    from services.session.cache.opening import Cache


class Backend(NamedTuple):
    """A store; what the hot path reads of it, where that is not the store itself; and what follows its revocations."""

    store: Store
    front: Front | None = None
    following: Following | None = None


def is_shared(config: config_pb.SessionConfig) -> bool:
    """Whether other servers may have the same store."""
    return origin_of(config.backend).WhichOneof("kind") != "embedded"


async def open_backend(server: Server, config: config_pb.SessionConfig, clock: Clock) -> Backend:
    """The store is a resource of `server`. Raises ConfigError and what opening raises."""
    if is_shared(config):
        return await _open_cluster(server, config, clock)

    async def opened() -> EmbeddedStore:
        embedded = origin_of(config.backend).embedded
        return EmbeddedStore.open(embedded.path, wiring.embedded_settings(embedded))

    store = await server.resources.add("store", opened, close=EmbeddedStore.close, health=EmbeddedStore.check)
    return Backend(store)


async def _open_cluster(server: Server, config: config_pb.SessionConfig, clock: Clock) -> Backend:
    from libs.config.cassandra import cassandra_options
    from services.session.cassandra.store import CassandraStore

    async def opened() -> CassandraStore:
        options = cassandra_options(origin_of(config.backend).cassandra)
        return await CassandraStore.open(options, config.datacentre, lambda: clock.time_ns() // 1000)

    store = await server.resources.add("store", opened, close=CassandraStore.close, health=CassandraStore.check)
    if store.origins is not None:
        server.add_background("homes", store.homes.run)
    if config.backend.WhichOneof("kind") == "cached":
        return Backend(store)  # the cache is what the hot path reads
    server.add_background("revocations", store.known.run)
    return Backend(store, lambda _, ring, clock, listening: (store, store.hot(clock.now_us)), store.known)


async def open_cache(server: Server, config: config_pb.SessionConfig) -> "Cache | None":
    """What is put before the store, a resource of `server`; None where the configuration has none. It has no health of
    its own: without it the store answers. Raises ConfigError."""
    if config.backend.WhichOneof("kind") != "cached":
        return None
    from services.session.cache.opening import Cache

    async def opened() -> Cache:
        return Cache.of(config.backend.cached, server.telemetry.registry)

    return await server.resources.add("cache", opened, close=Cache.close)


async def migrate(config: config_pb.SessionConfig) -> list[str]:
    """Makes and changes the backend's tables; answers the names of the migrations that were missing. Raises ConfigError
    when the backend has none, FailedPrecondition and Unavailable."""
    origin = origin_of(config.backend)
    if origin.WhichOneof("kind") != "cassandra":
        raise ConfigError([Mistake("", 0, 0, "backend", "has no migrations", "only the backend cassandra has them")])
    from libs.cassandra import migrations
    from libs.config.cassandra import cassandra_options
    from services.session.cassandra.store import MIGRATIONS

    return await migrations.apply(cassandra_options(origin.cassandra), migrations.read(MIGRATIONS))
