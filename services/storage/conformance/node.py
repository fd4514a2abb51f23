"""The Cassandra node of a run: one for all of its tests, started when the first of them asks, ended with the process.

``WELLSPRING_CASSANDRA=host:port`` in the environment names one that runs already.
"""

import asyncio
import atexit
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cassandra.cluster import Cluster

from libs.cassandra import migrations
from libs.cassandra.options import Options
from services.storage.cassandra.store import MIGRATIONS, CassandraStore, Timing
from services.storage.store.interface import Store
from services.storage.store.local import LocalOptions
from tools.dev.servers.cassandra import Cassandra

_KEYSPACE: Final = f"conformance_{os.getpid()}"
_PATIENT: Final = Timing(patience_s=300.0)
"""However busy the machine is, no writer is given up that does not stop."""


@functools.cache
def options() -> Options:
    """A node with a keyspace of this process."""
    running = os.environ.get("WELLSPRING_CASSANDRA")
    if running:
        host, port = running.split(":")
    else:
        node = Cassandra()
        node.__enter__()
        atexit.register(node.__exit__, None, None, None)
        host, port = node.contact_points[0], str(node.port)
    given = Options(((host, int(port)),), _KEYSPACE, "dc1", request_timeout_s=60.0)
    asyncio.run(migrations.apply(given, migrations.read(MIGRATIONS)))
    return given


class CassandraDisk:
    """The tables of the node, emptied of what other tests left there."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._options = fresh()

    async def open(self) -> Store:
        return await CassandraStore.open(self._options, self._clock, LocalOptions(), _PATIENT)


def fresh() -> Options:
    """The node's keyspace without namespaces and without anything for a sweeper to do."""
    given = options()
    session = _session()
    session.execute(f"DELETE FROM {_KEYSPACE}.namespaces WHERE part = 0")
    for row in session.execute(f"SELECT slot FROM {_KEYSPACE}.due_slots WHERE part = 0"):
        for shard in range(4):
            session.execute(f"DELETE FROM {_KEYSPACE}.due WHERE slot = {row.slot} AND shard = {shard}")
    session.execute(f"DELETE FROM {_KEYSPACE}.due_slots WHERE part = 0")
    return given


@functools.cache
def _session() -> Any:
    host, port = options().contact_points[0]
    cluster = Cluster([host], port=port, protocol_version=4, connect_timeout=60, control_connection_timeout=60)
    session = cluster.connect()
    session.default_timeout = 60
    atexit.register(cluster.shutdown)
    return session
