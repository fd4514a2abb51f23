"""Real Kafka brokers (KRaft) for tests: `with Kafka() as kafka: Producer({"bootstrap.servers": kafka.address})`."""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tools.dev.servers import locate
from tools.dev.servers.ports import accepts, free_port
from tools.dev.servers.process import START_TIMEOUT_S, Process, ServerError
from tools.dev.servers.server import Server

_MIB = 1024 * 1024


class Broker(Process):
    """One broker, which is a controller too. `number` counts from 1, `address` is "host:port" for clients."""

    def __init__(self, number: int, directory: Path, heap_mib: int, java_options: tuple[str, ...]) -> None:
        self.number = number
        self.port = free_port()
        self.controller_port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.properties_path = directory / "server.properties"
        directory.mkdir()
        command = [*_java(heap_mib, directory, *java_options), "kafka.Kafka", str(self.properties_path)]
        super().__init__(f"kafka broker {number}", command, directory)

    def wait_member(self, others: set[int], timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when the broker serves clients, and it and all of `others` (numbers) are in its metadata."""
        # The port first: the client library would log every refused connection.
        self.wait_ready(lambda: accepts("127.0.0.1", self.port), timeout_s)
        self.wait_ready(lambda: _members(self.address) >= {self.number, *others}, timeout_s, every_s=0.2)

    def restart(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Kills it if it runs (kill -9), starts it on its data, and waits until clients are served."""
        self.kill()
        self.start()
        self.wait_member(set(), timeout_s)


class Kafka(Server):
    """A cluster of brokers on loopback. `address` is the bootstrap list, `brokers` the single ones.

    Topics are not created by use. With three brokers or more, a topic has three replicas by default, two of which must
    be in sync. An acknowledged message (acks=all) outlives kill -9 of the brokers.
    """

    name = "kafka"

    def __init__(
        self,
        brokers: int = 1,
        properties: dict[str, str] | None = None,
        heap_mib: int = 256,
        timeout_s: float = START_TIMEOUT_S,
        *,
        java_options: tuple[str, ...] = (),
        measured: bool = False,
    ) -> None:
        """`properties` are added to every broker's server.properties, or replace what is there. With `measured`,
        brokers compile what they run as deployed ones do; without it they are sooner at work."""
        if brokers < 1:
            raise ValueError(f"brokers is {brokers}; at least 1 is needed")
        locate.repository("kafka_jars")
        super().__init__(timeout_s)
        options = (*([] if measured else [locate.QUICK]), *java_options)
        self.brokers = [Broker(n + 1, self.directory / f"b{n + 1}", heap_mib, options) for n in range(brokers)]
        self.processes = list(self.brokers)
        self.address = ",".join(b.address for b in self.brokers)
        self._properties = properties or {}
        # As `kafka-storage random-uuid` prints it: 22 characters, of which the first is no dash.
        self._cluster_id = "W" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]

    def prepare(self) -> None:
        for broker in self.brokers:
            lines = [f"{k}={v}\n" for k, v in {**_defaults(broker, self.brokers), **self._properties}.items()]
            broker.properties_path.write_text("".join(lines))
            command = [*_java(128, broker.directory, locate.QUICK), "kafka.tools.StorageTool", "format"]
            command += ["-t", self._cluster_id, "-c", str(broker.properties_path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.timeout_s, check=False)
            if done.returncode:
                raise ServerError(f"{broker.name}: its storage could not be formatted:\n{done.stdout}{done.stderr}")

    def wait_ready(self) -> None:
        everybody = {b.number for b in self.brokers}
        for broker in self.brokers:
            broker.wait_member(everybody, self.timeout_s)


def _members(address: str) -> set[int]:
    """The brokers that the broker at `address` knows of; empty when it does not answer."""
    try:
        metadata = AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=5)
    except KafkaException:
        return set()
    return set(metadata.brokers)


def _java(heap_mib: int, directory: Path, *options: str) -> list[str]:
    logging = [
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    ]
    own = [f"-Djava.io.tmpdir={directory}", "-XX:MaxDirectMemorySize=128m", *logging]
    return locate.java_command(heap_mib, [*own, *options], "kafka_jars")


def _defaults(broker: Broker, brokers: list[Broker]) -> dict[str, object]:
    replicas = min(3, len(brokers))
    in_sync = 2 if replicas == 3 else 1
    return {
        "process.roles": "broker,controller",
        "node.id": broker.number,
        "controller.quorum.voters": ",".join(f"{b.number}@127.0.0.1:{b.controller_port}" for b in brokers),
        "listeners": f"PLAINTEXT://{broker.address},CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{broker.address}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": broker.directory / "data",
        "auto.create.topics.enable": "false",
        "num.partitions": 1,
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 2,
        "group.initial.rebalance.delay.ms": 0,
        # Small: the default de-duplication buffer alone is 128 MiB of heap.
        "log.cleaner.dedupe.buffer.size": 8 * _MIB,
        "log.cleaner.threads": 1,
        "log.segment.bytes": 64 * _MIB,
        "log.index.size.max.bytes": _MIB,
        "num.network.threads": 2,
        "num.io.threads": 2,
        "background.threads": 2,
        # After kill -9 the next incarnation waits until the session of the last one has run out.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.fetch.timeout.ms": 1500,
    }
