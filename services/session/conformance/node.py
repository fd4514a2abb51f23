"""The Cassandra node of a run: one for all of its tests, started when the first of them asks, ended with the process.

It lets in only who has a password, at a port of its own by TLS. ``WELLSPRING_CASSANDRA=host:port`` in the environment
names one that runs already, and lets in everybody.
"""

import asyncio
import atexit
import functools
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from libs.cassandra import migrations
from libs.cassandra.options import Options
from libs.cassandra.session import Session as Connection
from libs.cassandra.testing.guarded import Guarded
from services.session.cassandra.cluster import Cluster
from services.session.cassandra.statements import Statements
from services.session.cassandra.store import MIGRATIONS, CassandraStore
from tools.dev.servers.cassandra import Cassandra
from tools.dev.servers.cassandra_config import PASSWORD, USER

_Result = TypeVar("_Result")
_KEYSPACE: Final = f"conformance_{os.getpid()}"
_HEDGE_S: Final = 0.0
"""No timers: a clock that jumps to the next one would not wait for the node."""


@functools.cache
def options() -> Options:
    """A node with a keyspace of this process, whose tables are there."""
    running = os.environ.get("WELLSPRING_CASSANDRA")
    if running:
        host, port = running.split(":")
        user = password = ""
    else:
        node, _ = guarded()
        host, port = node.contact_points[0], str(node.port)
        user, password = USER, PASSWORD
    points = ((host, int(port)),)
    given = Options(points, _KEYSPACE, "dc1", user, password, request_timeout_s=60.0, hedge_after_s=_HEDGE_S)
    _run(migrations.apply(given, migrations.read(MIGRATIONS)))
    return given


@functools.cache
def guarded() -> tuple[Cassandra, Guarded]:
    """The node that was started for this run, and the files of those it lets in."""
    folder = tempfile.TemporaryDirectory()
    files = Guarded(Path(folder.name))
    node = Cassandra(commit_log="periodic", settings={"auto_snapshot": False}, guard=files.guard)
    node.__enter__()
    atexit.register(folder.cleanup)
    atexit.register(node.__exit__, None, None, None)
    return node, files


def settings() -> dict[str, object]:
    """Where a server's configuration finds the keyspace: by TLS and with the password, unless it runs already."""
    given = options()
    ((host, port),) = given.contact_points
    where = {"keyspace": given.keyspace, "local_datacentre": "dc1", "request_timeout": "30s"}
    if not given.username:
        return {**where, "contact_points": [f"{host}:{port}"]}
    node, files = guarded()
    return {**where, "contact_points": [f"{host}:{node.tls_port}"], "tls": files.tls(), **files.login()}


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """On a loop and thread of its own: whoever asks may be on a loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@asynccontextmanager
async def opened(now_us: Callable[[], int] = lambda: 0) -> AsyncIterator[CassandraStore]:
    """A store over empty tables, on the connection that all tests share. `now_us`: from when rows' times to live are
    counted; by default they outlive the test."""
    cluster, raw, statements = _connected()
    empty()
    connection = Connection(cluster, raw, options(), asyncio.get_running_loop())
    yield CassandraStore(Cluster(connection, statements, now_us), "local")


def empty() -> None:
    """Nothing is left in the tables of what other tests wrote."""
    _, raw, _ = _connected()
    for table in _tables():
        # Where times are not the clock's, what a test deleted would hide what the next one writes.
        if table in ("sessions", "opaque") or raw.execute(f"SELECT * FROM {table} LIMIT 1", timeout=60).one():
            raw.execute(f"TRUNCATE {table}", timeout=120)


def rows() -> bytes:
    """Every value of every row of the keyspace."""
    _, raw, _ = _connected()
    values = (
        value for table in _tables() for row in raw.execute(f"SELECT * FROM {table}", timeout=120) for value in row
    )
    return b"\0".join(value if isinstance(value, bytes) else str(value).encode() for value in values)


def commit_log() -> bytes:
    """What the node's commit log holds; nothing of one that ran already."""
    if os.environ.get("WELLSPRING_CASSANDRA"):
        return b""
    found = sorted((guarded()[0].nodes[0].directory / "commitlog").glob("*.log"))
    return b"".join(path.read_bytes().rstrip(b"\0") for path in found)


def again(store: CassandraStore) -> CassandraStore:
    """Another server's store, over the same tables: it knows nothing of the first one."""
    there = store._cluster
    return CassandraStore(Cluster(there.session, _connected()[2], there.now_us), "local")


@functools.cache
def _connected() -> tuple[Any, Any, Statements]:
    """A connection and its statements, which belong to no event loop."""

    async def connect() -> tuple[Any, Any, Statements]:
        connection = await Connection.open(options())
        return connection._cluster, connection._raw, await Statements.prepare(connection)

    found = _run(connect())
    atexit.register(found[0].shutdown)
    return found


@functools.cache
def _tables() -> list[str]:
    _, raw, _ = _connected()
    rows = raw.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", (_KEYSPACE,))
    return [row[0] for row in rows if not row[0].startswith("migrations")]
