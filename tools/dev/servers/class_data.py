"""Writes the archive of classes (AppCDS) with which a server's JVM starts sooner: `class_data cassandra|kafka OUT`.

The server is started once, used a little and ended; what it had loaded by then is the archive. It holds for this
machine's Java and these jars alone; a JVM that finds others says so in its log, and loads its classes itself. OUT is
empty where the server cannot be had.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tools.dev.servers.cassandra import Cassandra
from tools.dev.servers.kafka import Kafka
from tools.dev.servers.locate import ServerRequired, ServerUnavailable
from tools.dev.servers.process import START_TIMEOUT_S, Process, ServerError


def _cassandra(option: str) -> None:
    server = Cassandra(java_options=(option,))
    (node,) = server.nodes
    # Java archives nothing where an agent might have changed classes; this one measures objects only.
    node.command = [word for word in node.command if not word.startswith("-javaagent:")]
    with server:
        session = server.connect()
        session.execute("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        session.execute("CREATE TABLE k.t (a int PRIMARY KEY, b text)")
        session.execute("INSERT INTO k.t (a, b) VALUES (1, 'x')")
        session.execute("INSERT INTO k.t (a, b) VALUES (2, 'x') IF NOT EXISTS")
        session.execute("SELECT * FROM k.t").all()
        session.execute("TRUNCATE k.t")
        session.cluster.shutdown()
        _end(node)


def _kafka(option: str) -> None:
    server = Kafka(java_options=(option,))
    with server:
        admin = AdminClient({"bootstrap.servers": server.address})
        for made in admin.create_topics([NewTopic("t", 1)]).values():
            made.result()
        producer = Producer({"bootstrap.servers": server.address, "transactional.id": "t"})
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce("t", b"x")
        producer.commit_transaction()
        _end(server.brokers[0])


def _end(process: Process) -> None:
    """SIGTERM: the archive is written when the JVM ends by itself."""
    os.kill(process.pid, signal.SIGTERM)
    end = time.monotonic() + START_TIMEOUT_S
    while process.running and time.monotonic() < end:
        time.sleep(0.1)


_SERVERS: dict[str, Callable[[str], None]] = {"cassandra": _cassandra, "kafka": _kafka}


def main(arguments: Sequence[str]) -> None:
    """Writes the archive, or an empty file with the reason on standard error."""
    server, out = arguments[0], Path(arguments[1]).absolute()
    try:
        _SERVERS[server](f"-XX:ArchiveClassesAtExit={out}")
    except (ServerUnavailable, ServerRequired, ServerError) as error:
        print(f"no classes of {server} are archived: {error}", file=sys.stderr)
    out.touch()


if __name__ == "__main__":
    main(sys.argv[1:])
