"""The configured backend, opened; and the migrations of one that has them.

What only a cluster needs is imported when one is configured: its driver costs a server on one machine memory and time.
"""

import time
from collections.abc import Callable
from typing import Final

from libs.config import wiring
from libs.config.mistakes import ConfigError, Mistake
from libs.config.origins import origin_of
from libs.rpc.options import StartError
from libs.rpc.server import Server
from services.storage.mirrors import Opener
from services.storage.store.embedded import open_store
from services.storage.store.interface import Store
from services.storage.store.local import LocalOptions, LocalStore
from wellspring.config.v1 import backend_pb2, storage_pb2

SETTLE_S: Final = 30.0
"""Servers of a cluster look for changed namespaces with each sweep; after so long all that work have seen one."""


async def open_backend(
    server: Server, config: storage_pb2.StorageConfig, clock_us: Callable[[], int], local: LocalOptions
) -> tuple[Store, tuple[str, ...]]:
    """The store, a resource of ``server``, and the names of the data centres that it spans. Raises StartError,
    ConfigError and what opening raises."""
    origin = origin_of(config.backend)
    if origin.WhichOneof("kind") == "cassandra":
        store, datacentres = await _open_cluster(server, origin.cassandra, clock_us, local)
    else:
        store = await _open_embedded(server, config, origin.embedded, clock_us, local)
        datacentres = (config.datacentre,)
    if config.backend.WhichOneof("kind") == "cached":
        store = await _open_cached(server, config, store, clock_us)
    return store, datacentres


async def _open_embedded(
    server: Server,
    config: storage_pb2.StorageConfig,
    embedded: backend_pb2.Embedded,
    clock_us: Callable[[], int],
    local: LocalOptions,
) -> Store:
    if config.server.workers != 1:
        raise StartError("server.workers: the embedded backend has one process; 1 is allowed")

    async def open_local() -> LocalStore:
        return open_store(embedded.path, clock_us, local, wiring.embedded_settings(embedded))

    return await server.resources.add("store", open_local, close=LocalStore.close, health=LocalStore.check)


async def _open_cluster(
    server: Server, cassandra: backend_pb2.Cassandra, clock_us: Callable[[], int], local: LocalOptions
) -> tuple[Store, tuple[str, ...]]:
    from services.storage.cassandra.opening import open_cluster
    from services.storage.cassandra.store import CassandraStore

    async def opened() -> CassandraStore:
        return await open_cluster(cassandra, clock_us, local)

    store = await server.resources.add("store", opened, close=CassandraStore.close, health=CassandraStore.check)
    return store, store.datacentres


async def _open_cached(
    server: Server, config: storage_pb2.StorageConfig, inside: Store, clock_us: Callable[[], int]
) -> Store:
    """The store behind its cache. It has no health of its own: without the cache the store answers."""
    from services.storage.cache.opening import open_cached
    from services.storage.cache.stats import CacheCollector
    from services.storage.cache.store import CachedStore

    cassandra = config.backend.cached.origin.WhichOneof("kind") == "cassandra"
    place = config.backend.cached.origin.cassandra.local_datacentre if cassandra else config.datacentre
    settle_s = max(SETTLE_S, 3 * wiring.seconds(config.sweep.interval)) if cassandra else 0.0

    async def opened() -> CachedStore:
        cached = config.backend.cached
        return await open_cached(cached, inside, clock_us, time.monotonic, place=place, settle_s=settle_s)

    store = await server.resources.add("cache", opened, close=CachedStore.close)
    server.telemetry.registry.register(CacheCollector(store.stats))
    server.add_background("cache", store.care)
    return store.as_store


def mirror_openers(
    config: storage_pb2.StorageConfig, clock_us: Callable[[], int], local: LocalOptions
) -> dict[str, Opener]:
    """How the backends that mirrors may be made on are opened, by their names. Raises StartError for one that this
    release does not have."""

    def opener(name: str, backend: storage_pb2.StorageBackend) -> Opener:
        kind = backend.WhichOneof("kind")
        if kind not in ("embedded", "cassandra"):
            raise StartError(f"mirrors.{name}: this release has the backends embedded and cassandra")

        async def opened() -> Store:
            if kind == "cassandra":
                from services.storage.cassandra.opening import open_cluster

                return await open_cluster(backend.cassandra, clock_us, local)
            return open_store(backend.embedded.path, clock_us, local, wiring.embedded_settings(backend.embedded))

        return opened

    return {name: opener(name, config.mirrors[name]) for name in sorted(config.mirrors)}


async def migrate(config: storage_pb2.StorageConfig) -> list[str]:
    """Makes and changes the backend's tables; answers the names of the migrations that were missing. Raises ConfigError
    when the backend has none, FailedPrecondition and Unavailable."""
    origin = origin_of(config.backend)
    if origin.WhichOneof("kind") != "cassandra":
        raise ConfigError([Mistake("", 0, 0, "backend", "has no migrations", "only the backend cassandra has them")])
    from services.storage.cassandra.opening import migrate_cluster

    return await migrate_cluster(origin.cassandra)
