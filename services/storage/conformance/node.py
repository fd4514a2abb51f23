"""The Cassandra of a run: one cluster for all its tests, started when the first of them asks, ended with the process.

It is one node; with ``WELLSPRING_DATACENTRES=2`` two, each a data centre with a replica of everything, and every second
store is opened in the other one. ``WELLSPRING_CASSANDRA=host:port`` names a node that runs already.
"""

import asyncio
import atexit
import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile

from libs.cassandra import migrations
from libs.cassandra.options import Options
from services.storage.cassandra.lww.spreading import BucketSize
from services.storage.cassandra.store import MIGRATIONS, CassandraStore, Timing
from services.storage.store.interface import Store
from services.storage.store.local import LocalOptions
from tools.dev.servers.cassandra import Cassandra
from tools.dev.servers.cassandra_config import PATIENT as PATIENT_NODES

DATACENTRES: Final = tuple(f"dc{number + 1}" for number in range(int(os.environ.get("WELLSPRING_DATACENTRES", "1"))))
PATIENT: Final = Timing(patience_s=300.0)
"""However busy the machine is, no writer is given up that does not stop."""
SMALL: Final = BucketSize(items=1)
"""A record of two items is wide."""
_KEYSPACE: Final = f"conformance_{os.getpid()}"
_FORGETFUL: Final = {"hinted_handoff_enabled": False}
"""Nothing is kept for a node that missed it: what the other data centre must know, it is told or looks for."""
_turns = itertools.count()


@functools.cache
def cluster() -> Cassandra:
    """The nodes that were started for this run."""
    found = Cassandra(
        dict.fromkeys(DATACENTRES, 1), settings=PATIENT_NODES | (_FORGETFUL if len(DATACENTRES) > 1 else {})
    )
    found.__enter__()
    atexit.register(found.__exit__, None, None, None)
    return found


@functools.cache
def options(datacentre: str = DATACENTRES[0]) -> Options:
    """How a store in a data centre reaches the keyspace of this process."""
    running = os.environ.get("WELLSPRING_CASSANDRA")
    if running:
        host, port = running.split(":")
        points = [(host, int(port))]
    else:
        points = [(node.host, node.port) for node in cluster().in_datacenter(datacentre)]
    replication = dict.fromkeys(DATACENTRES, 1)
    given = Options(tuple(points), _KEYSPACE, datacentre, request_timeout_s=60.0, replication=replication)
    if datacentre == DATACENTRES[0]:
        asyncio.run(migrations.apply(given, migrations.read(MIGRATIONS)))
    return given


class CassandraDisk:
    """The cluster's tables, emptied of what other tests left there; the stores of a test are in one data centre."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._options = fresh(DATACENTRES[next(_turns) % len(DATACENTRES)])

    async def open(self) -> Store:
        return await CassandraStore.open(self._options, self._clock, LocalOptions(), PATIENT, SMALL)


def fresh(datacentre: str = DATACENTRES[0]) -> Options:
    """The keyspace without namespaces and without anything for a sweeper to do, as a data centre reaches it."""
    session = _session()
    session.execute(f"DELETE FROM {_KEYSPACE}.namespaces WHERE part = 0")
    for row in session.execute(f"SELECT slot FROM {_KEYSPACE}.due_slots WHERE part = 0"):
        for shard in range(4):
            session.execute(f"DELETE FROM {_KEYSPACE}.due WHERE slot = {row.slot} AND shard = {shard}")
    session.execute(f"DELETE FROM {_KEYSPACE}.due_slots WHERE part = 0")
    return options(datacentre)


@functools.cache
def _session() -> Any:
    """For statements that every data centre has when they are answered."""
    host, port = options().contact_points[0]
    everywhere = ExecutionProfile(consistency_level=ConsistencyLevel.ALL, request_timeout=60)
    cluster = Cluster(
        [host],
        port=port,
        protocol_version=4,
        connect_timeout=60,
        control_connection_timeout=60,
        execution_profiles={EXEC_PROFILE_DEFAULT: everywhere},
    )
    atexit.register(cluster.shutdown)
    return cluster.connect()
