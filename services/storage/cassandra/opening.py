"""The cluster that a configuration names: opened, migrated."""

from collections.abc import Callable

from libs.cassandra import migrations
from libs.config.cassandra import cassandra_options
from services.storage.cassandra.store import MIGRATIONS, CassandraStore
from services.storage.store.local import LocalOptions
from wellspring.config.v1 import backend_pb2


async def open_cluster(
    config: backend_pb2.Cassandra, clock_us: Callable[[], int], local: LocalOptions
) -> CassandraStore:
    """The store on the cluster. Raises ConfigError and as ``CassandraStore.open``."""
    return await CassandraStore.open(cassandra_options(config), clock_us, local)


async def migrate_cluster(config: backend_pb2.Cassandra) -> list[str]:
    """Makes and changes the tables; answers the names of the migrations that were missing. Raises ConfigError,
    FailedPrecondition and Unavailable."""
    return await migrations.apply(cassandra_options(config), migrations.read(MIGRATIONS))
