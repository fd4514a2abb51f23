"""The configured backend, opened; and the migrations of one that has them.

What only a cluster needs is imported when one is configured: its driver costs a server on one machine memory and time.
"""

from collections.abc import Callable

from libs.config import wiring
from libs.config.mistakes import ConfigError, Mistake
from libs.rpc.options import StartError
from libs.rpc.server import Server
from services.storage.mirrors import Opener
from services.storage.store.embedded import open_store
from services.storage.store.interface import Store
from services.storage.store.local import LocalOptions, LocalStore
from wellspring.config.v1 import storage_pb2


async def open_backend(
    server: Server, config: storage_pb2.StorageConfig, clock_us: Callable[[], int], local: LocalOptions
) -> tuple[Store, tuple[str, ...]]:
    """The store, a resource of ``server``, and the names of the data centres that it spans. Raises StartError for a
    backend that this release does not have, ConfigError and what opening raises."""
    kind = config.backend.WhichOneof("kind")
    if kind == "cassandra":
        return await _open_cluster(server, config, clock_us, local)
    if kind != "embedded":
        raise StartError("backend: this release has the backends embedded and cassandra")
    if config.server.workers != 1:
        raise StartError("server.workers: the embedded backend has one process; 1 is allowed")

    async def open_local() -> LocalStore:
        settings = wiring.embedded_settings(config.backend.embedded)
        return open_store(config.backend.embedded.path, clock_us, local, settings)

    store = await server.resources.add("store", open_local, close=LocalStore.close, health=LocalStore.check)
    return store, (config.datacentre,)


async def _open_cluster(
    server: Server, config: storage_pb2.StorageConfig, clock_us: Callable[[], int], local: LocalOptions
) -> tuple[Store, tuple[str, ...]]:
    from services.storage.cassandra.opening import open_cluster
    from services.storage.cassandra.store import CassandraStore

    async def opened() -> CassandraStore:
        return await open_cluster(config.backend.cassandra, clock_us, local)

    store = await server.resources.add("store", opened, close=CassandraStore.close, health=CassandraStore.check)
    return store, store.datacentres


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
    if config.backend.WhichOneof("kind") != "cassandra":
        raise ConfigError([Mistake("", 0, 0, "backend", "has no migrations", "only the backend cassandra has them")])
    from services.storage.cassandra.opening import migrate_cluster

    return await migrate_cluster(config.backend.cassandra)
