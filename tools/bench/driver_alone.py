"""What drivers alone have in common: connecting, keeping work under way, what it took, and being asked."""

import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.io.libevreactor import LibevConnection
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import tuple_factory

_PROTOCOL_VERSION = 4
"""The driver loses bytes of a segment that arrives in two reads with version 5."""
_PATIENCE_S = 60.0

Then = Callable[[], None]
"""Called, on the driver's thread, when a piece of work is done."""


def connected(address: str, keyspace: str) -> Session:
    """A session in the keyspace, which is made where there is none; its cluster is to be shut down."""
    host, _, port = address.rpartition(":")
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy("dc1")),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=_PATIENCE_S,
        row_factory=tuple_factory,
    )
    session = Cluster(
        [host],
        port=int(port),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        protocol_version=_PROTOCOL_VERSION,
        connection_class=LibevConnection,
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        connect_timeout=_PATIENCE_S,
        control_connection_timeout=_PATIENCE_S,
    ).connect()
    replication = "{'class': 'NetworkTopologyStrategy', 'dc1': 1}"
    session.execute(f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}")
    session.set_keyspace(keyspace)
    return session


class Flight:
    """``count`` pieces of work, ``width`` of them under way until none is left."""

    def __init__(self, count: int, width: int, begin: Callable[[int, Then], None]) -> None:
        """``begin(number, then)`` begins a piece and has ``then`` called at its end."""
        self._count = count
        self._width = min(width, count)
        self._begin = begin
        self._next = 0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self.latencies_s: list[float] = []

    def run(self) -> float:
        """All of it; wall seconds."""
        began = time.perf_counter()
        for _ in range(self._width):
            self._step()
        if not self._done.wait(_PATIENCE_S + self._count):
            raise SystemExit("the driver did not come to an end")
        return time.perf_counter() - began

    def _step(self) -> None:
        with self._lock:
            number = self._next
            self._next += 1
        if number >= self._count:
            return
        began = time.perf_counter()

        def ended() -> None:
            self.latencies_s.append(time.perf_counter() - began)
            if len(self.latencies_s) == self._count:
                self._done.set()
            else:
                self._step()

        self._begin(number, ended)

    def figures(self, items: int) -> dict[str, float]:
        """Runs it: of all the pieces' ``items``, how many a second and the CPU for one; latencies of pieces."""
        before_s = time.process_time()
        seconds = self.run()
        used_s = time.process_time() - before_s
        ordered = sorted(self.latencies_s)
        return {
            "per_s": items / seconds,
            "cpu_us": used_s * 1e6 / items,
            "p50_ms": ordered[len(ordered) // 2] * 1e3,
            "p99_ms": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] * 1e3,
        }


class After:
    """Calls ``then`` when it was called so often."""

    def __init__(self, often: int, then: Then) -> None:
        self._called = itertools.count(1).__next__  # atomic, whichever thread calls
        self._often = often
        self._then = then

    def __call__(self) -> None:
        if self._called() == self._often:
            self._then()


def serve(session: Session, run: Callable[[str, int, int], dict[str, Any]]) -> None:
    """Answers each line of standard input, a work, how often, and how many under way, by one line of what it took."""
    try:
        for line in sys.stdin:
            work, count, width = line.split()
            print(json.dumps(run(work, int(count), int(width))), flush=True)
    finally:
        session.cluster.shutdown()
