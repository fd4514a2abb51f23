"""Two data centres on one machine: a node of the cluster and a storage server in each."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from services.storage.server_process import environment
from tests.datacentres.promises import DATACENTRES, HOME
from tests.histories.server import Server
from tools.dev.servers.cassandra import Cassandra, Node

_SETTINGS: Final = {
    # What waits for a node that is away says so sooner, and what was kept for it is sent sooner.
    "read_request_timeout": "2000ms",
    "write_request_timeout": "2000ms",
    "cas_contention_timeout": "1500ms",
    "hints_flush_period": "1000ms",
    # A busy machine is no reason to believe that a node is gone.
    "phi_convict_threshold": 16,
}


class Datacentre(NamedTuple):
    """One of them."""

    name: str
    node: Node
    server: Server


class Site(NamedTuple):
    """The data centres by name."""

    cassandra: Cassandra
    datacentres: dict[str, Datacentre]


def nodes() -> Cassandra:
    """The cluster alone, one replica of everything in each data centre: enter it."""
    return Cassandra(dict.fromkeys(DATACENTRES, 1), settings=_SETTINGS, links=True)


@contextlib.contextmanager
def cut(cassandra: Cassandra) -> Iterator[None]:
    """The data centres are all well, and nothing comes from one to the other, of nodes and of servers."""
    for link in cassandra.links:
        link.cut()
    try:
        yield
    finally:
        for link in cassandra.links:
            link.mend()


def migrated(cassandra: Cassandra, keyspace: str) -> dict[str, str]:
    """The setting for the backend of a server in each data centre, on a keyspace that is made for them."""
    backends = {name: json.dumps(_backend(cassandra, keyspace, name)) for name in DATACENTRES}
    settings = {name: f"backend.cassandra={backend}" for name, backend in backends.items()}
    command = [sys.executable, "-m", "services.storage.migrate", "--set", settings[HOME]]
    subprocess.run(command, env=environment(), check=True, timeout=300, stdout=subprocess.DEVNULL)
    return settings


@contextlib.contextmanager
def served(cassandra: Cassandra, keyspace: str) -> Iterator[Site]:
    """A server in each of the cluster's data centres, on a keyspace of their own."""
    settings = migrated(cassandra, keyspace)
    found = {}
    with contextlib.ExitStack() as stack:
        for name in DATACENTRES:
            server = stack.enter_context(Server([settings[name], "sweep.interval=200ms"]))
            found[name] = Datacentre(name, cassandra.in_datacenter(name)[0], server)
        yield Site(cassandra, found)


def _backend(cassandra: Cassandra, keyspace: str, datacentre: str) -> dict[str, object]:
    return {
        "contact_points": [f"{node.host}:{node.port}" for node in cassandra.in_datacenter(datacentre)],
        "keyspace": keyspace,
        "local_datacentre": datacentre,
        "replication": dict.fromkeys(DATACENTRES, 1),
        "request_timeout": "6s",
    }
