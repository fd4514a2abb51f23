"""Real Cassandra nodes for tests: `with Cassandra() as cassandra: session = cassandra.connect()`.

Several data centres run on one machine: node j of data centre i listens on 127.0.(i-1).j, all on the same port. With
links between them, others reach it at 127.1.(i-1).j.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cassandra import DriverException, OperationTimedOut
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.policies import ConstantReconnectionPolicy, WhiteListRoundRobinPolicy

from tools.dev.servers import cassandra_config, locate
from tools.dev.servers.cassandra_config import PASSWORD, USER, CommitLog, Guard
from tools.dev.servers.link import Link
from tools.dev.servers.ports import free_port
from tools.dev.servers.process import START_TIMEOUT_S, Process
from tools.dev.servers.server import Server

# cassandra-driver 3.30 loses bytes of a segment header that arrives in two reads with protocol version 5.
PROTOCOL_VERSION = 4
_CQL_SUPPORTED = 6  # Opcode of the answer to OPTIONS (native protocol v4, section 2.4).


class Node(Process):
    """One node: `host`, and `datacenter`, the one it belongs to."""

    def __init__(self, host: str, datacenter: str, port: int, directory: Path, command: list[str]) -> None:
        self.host = host
        self.datacenter = datacenter
        self.port = port
        super().__init__(f"cassandra {host} ({datacenter})", command, directory)

    def wait_cql(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when the node answers CQL."""
        self.wait_ready(self._speaks_cql, timeout_s, every_s=0.1)

    def restart(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Kills it if it runs (kill -9), starts it on its data, and waits until it answers CQL."""
        self.kill()
        self.start()
        self.wait_cql(timeout_s)

    def _speaks_cql(self) -> bool:
        with socket.create_connection((self.host, self.port), 2) as connection:
            connection.sendall(struct.pack(">BBhBi", PROTOCOL_VERSION, 0, 0, 5, 0))  # OPTIONS
            header = connection.recv(9)
            return len(header) == 9 and header[4] == _CQL_SUPPORTED


class Cassandra(Server):
    """A cluster: `contact_points` and `port` are what the driver takes, `address` is "host:port" of the first node.

    With commit_log "batch" (the default here) or "group" an acknowledged write outlives kill -9 of the node; with
    "periodic", Cassandra's own default, the last writes are lost.
    """

    name = "cassandra"

    def __init__(
        self,
        datacenters: Mapping[str, int] | None = None,
        commit_log: CommitLog = "batch",
        settings: Mapping[str, object] | None = None,
        java_options: tuple[str, ...] = (),
        heap_mib: int = 512,
        timeout_s: float = START_TIMEOUT_S,
        *,
        measured: bool = False,
        links: bool = False,
        guard: Guard | None = None,
    ) -> None:
        """`datacenters`: name -> number of nodes (default {"dc1": 1}); `settings` are added to cassandra.yaml. With
        `measured`, nodes compile what they run as deployed ones do; without it they are sooner at work. With `links`,
        a node is reached by other nodes, and by clients of another one's, over a link that can be cut (`links`). With
        a `guard` it is for callers who have a password, and speaks TLS at `tls_port` beside."""
        datacenters = dict(datacenters or {"dc1": 1})
        if not all(1 <= n <= 250 for n in datacenters.values()):
            raise ValueError(f"datacenters is {datacenters}; each needs 1 to 250 nodes")
        locate.repository("cassandra_jars")
        super().__init__(timeout_s)
        hosts = [(f"127.0.{d}.{n + 1}", dc) for d, dc in enumerate(datacenters) for n in range(datacenters[dc])]
        self.contact_points = [host for host, _ in hosts]
        self._fronts = {host: host.replace("127.0.", "127.1.", 1) if links else host for host in self.contact_points}
        self.port = free_port(*self.contact_points, *self._fronts.values())
        self.address = f"{self.contact_points[0]}:{self.port}"
        self.nodes: list[Node] = []
        self.links: list[Link] = []
        self.guard = guard
        self.tls_port = free_port(*self.contact_points) if guard is not None else 0
        guarded = guard.settings(self.tls_port) if guard is not None else {}
        quick = [*([] if measured else [locate.QUICK]), *([guard.java_option] if guard is not None else [])]
        common = cassandra_config.Common(
            seed=self._fronts[self.contact_points[0]],
            alone=len(hosts) == 1,
            port=self.port,
            storage_port=free_port(*self.contact_points, *self._fronts.values()),
            heap_mib=heap_mib,
            commit_log=commit_log,
            settings={**guarded, **(settings or {})},
            java_options=(*quick, *java_options),
        )
        for (host, dc), token in zip(hosts, cassandra_config.tokens(datacenters), strict=True):
            directory = self.directory / host
            command = cassandra_config.write(common, directory, host, dc, token, self._fronts[host])
            self.nodes.append(Node(host, dc, self.port, directory, command))
        self.processes = list(self.nodes)
        self._storage_port = common.storage_port

    def prepare(self) -> None:
        ports = self.port, self._storage_port
        self.links = [Link(front, host, ports) for host, front in self._fronts.items() if front != host]

    def close(self, failed: bool = False) -> None:
        super().close(failed)
        for link in self.links:
            link.close()

    def wait_ready(self) -> None:
        for node in self.nodes:
            node.wait_cql(self.timeout_s)
        if len(self.nodes) > 1:
            for node in self.nodes:
                node.wait_ready(partial(self._sees_all, node), self.timeout_s, every_s=0.5)
        if self.guard is not None:  # a node makes the user only after it answers
            for node in self.nodes:
                node.wait_ready(partial(self._lets_in, node), self.timeout_s, every_s=0.2)

    def in_datacenter(self, name: str) -> list[Node]:
        """The nodes of the data centre `name`; KeyError when there is none."""
        found = [n for n in self.nodes if n.datacenter == name]
        if not found:
            raise KeyError(f"no data centre {name!r}; there are {sorted({n.datacenter for n in self.nodes})}")
        return found

    def connect(self, node: Node | None = None, request_timeout_s: float = 30.0) -> Session:
        """A session that sends all to `node` (default the first). The caller ends it by session.cluster.shutdown()."""
        host = (node or self.nodes[0]).host
        login = PlainTextAuthProvider(USER, PASSWORD) if self.guard is not None else None
        profile = ExecutionProfile(
            load_balancing_policy=WhiteListRoundRobinPolicy([host]), request_timeout=request_timeout_s
        )
        cluster = Cluster(
            [host],
            port=self.port,
            protocol_version=PROTOCOL_VERSION,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            reconnection_policy=ConstantReconnectionPolicy(0.5, None),
            auth_provider=login,
            connect_timeout=request_timeout_s,
            control_connection_timeout=request_timeout_s,
        )
        try:
            return cluster.connect()
        except BaseException:
            cluster.shutdown()
            raise

    def _lets_in(self, node: Node) -> bool:
        try:
            self.connect(node, request_timeout_s=10).cluster.shutdown()
        except (NoHostAvailable, OperationTimedOut, DriverException):
            return False
        return True

    def _sees_all(self, node: Node) -> bool:
        """Whether `node` knows every other node, its data centre and tokens, and agrees with them on the schema."""
        try:
            session = self.connect(node, request_timeout_s=10)
        except (NoHostAvailable, OperationTimedOut, DriverException):
            return False
        try:
            version = session.execute("SELECT schema_version FROM system.local").one().schema_version
            peers = session.execute("SELECT schema_version, data_center, tokens FROM system.peers_v2").all()
        except (NoHostAvailable, OperationTimedOut, DriverException):
            return False
        finally:
            session.cluster.shutdown()
        known = [p for p in peers if p.schema_version == version and p.tokens and p.data_center]
        return len(known) == len(self.nodes) - 1
