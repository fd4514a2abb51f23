"""How a Cassandra node is set up for tests: its configuration files, its token and its command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from tools.dev.servers import locate

CommitLog = Literal["batch", "group", "periodic"]
_COMMIT_LOGS: dict[str, dict[str, object]] = {
    "batch": {"commitlog_sync": "batch"},
    "group": {"commitlog_sync": "group", "commitlog_sync_group_window": "10ms"},
    "periodic": {"commitlog_sync": "periodic", "commitlog_sync_period": "10000ms"},
}

# What Cassandra 5.0 opens of Java 17's modules (its conf/jvm17-server.options).
_EXPORTS = (
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.attach/sun.tools.attach",
)
_OPENS = (
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/java.nio",
    "jdk.compiler/com.sun.tools.javac",
)

_LOGBACK = """<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level [%thread] %date{ISO8601} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="STDOUT"/></root>
</configuration>
"""


PATIENT: dict[str, object] = {
    "read_request_timeout": "60s",
    "range_request_timeout": "60s",
    "write_request_timeout": "60s",
    "cas_contention_timeout": "60s",
    "request_timeout": "60s",
}
"""Settings of a node without others, which waits for nobody but itself, and of those whose tests are of no outage: on a
busy machine they take their time, and give nothing up."""


USER: Final = "cassandra"
PASSWORD: Final = USER
"""The user that a guarded cluster has from its first start, and may do everything."""


@dataclass(frozen=True)
class Guard:
    """Makes a cluster ask for USER and PASSWORD, and nodes speak TLS on a port of its own, with callers whose
    certificate `ca` has signed. PEM files: `identity` is the nodes' key and certificate in one, for their addresses."""

    identity: str
    ca: str
    java_option: ClassVar[str] = "-Dcassandra.auth_bcrypt_gensalt_log2_rounds=4"
    """Users come and go with a test, and their passwords are cheap to check."""

    def settings(self, tls_port: int) -> dict[str, object]:
        """What it adds to cassandra.yaml."""
        return {
            "authenticator": "PasswordAuthenticator",
            "role_manager": "CassandraRoleManager",
            "native_transport_port_ssl": tls_port,
            "client_encryption_options": {
                "enabled": True,
                "optional": False,
                "require_client_auth": True,
                "ssl_context_factory": {"class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory"},
                "keystore": self.identity,
                "truststore": self.ca,
            },
        }


@dataclass(frozen=True)
class Common:
    """What all nodes of one cluster share. `alone`: there is one only. `settings` are added to cassandra.yaml; None
    removes a setting."""

    seed: str
    alone: bool
    port: int
    storage_port: int
    heap_mib: int
    commit_log: CommitLog
    settings: dict[str, object]
    java_options: tuple[str, ...]


def tokens(datacenters: Mapping[str, int]) -> list[int]:
    """One token a node: even shares of the ring in each data centre, the centres slightly apart (none may be equal)."""
    lowest = -(2**63)
    return [
        lowest + 1000 + 2**64 // datacenters[dc] * node + 100 * number
        for number, dc in enumerate(datacenters)
        for node in range(datacenters[dc])
    ]


def write(common: Common, directory: Path, host: str, datacenter: str, token: int, front: str) -> list[str]:
    """Writes a node's files into `directory` and returns the command that starts it. `front`: where others reach it."""
    if common.commit_log not in _COMMIT_LOGS:
        raise ValueError(f"commit_log is {common.commit_log!r}; allowed: {', '.join(_COMMIT_LOGS)}")
    directory.mkdir(parents=True)
    yaml = {**_yaml(common, directory, host, token), **_COMMIT_LOGS[common.commit_log]}
    if front != host:
        yaml |= {"broadcast_address": front, "broadcast_rpc_address": front}
    yaml |= (PATIENT if common.alone else {}) | common.settings
    # JSON is YAML.
    (directory / "cassandra.yaml").write_text(json.dumps({k: v for k, v in yaml.items() if v is not None}, indent=1))
    (directory / "rackdc.properties").write_text(f"dc={datacenter}\nrack=rack1\n")
    (directory / "logback.xml").write_text(_LOGBACK)
    options = _java_options(directory) + list(common.java_options)
    return [
        *locate.java_command(common.heap_mib, options, "cassandra_jars"),
        "org.apache.cassandra.service.CassandraDaemon",
    ]


def _yaml(common: Common, directory: Path, host: str, token: int) -> dict[str, object]:
    seeds = [{"seeds": f"{common.seed}:{common.storage_port}"}]
    return {
        "cluster_name": "test",
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "num_tokens": 1,
        "initial_token": str(token),
        "auto_bootstrap": False,
        "endpoint_snitch": "GossipingPropertyFileSnitch",
        "dynamic_snitch": False,
        "listen_address": host,
        "storage_port": common.storage_port,
        "ssl_storage_port": common.storage_port,
        "rpc_address": host,
        "native_transport_port": common.port,
        "start_native_transport": True,
        "seed_provider": [{"class_name": "org.apache.cassandra.locator.SimpleSeedProvider", "parameters": seeds}],
        "data_file_directories": [str(directory / "data")],
        "commitlog_directory": str(directory / "commitlog"),
        "saved_caches_directory": str(directory / "saved_caches"),
        "hints_directory": str(directory / "hints"),
        "cdc_raw_directory": str(directory / "cdc_raw"),
        "commitlog_segment_size": "8MiB",
        "commitlog_total_space": "256MiB",
        "memtable_allocation_type": "heap_buffers",
        "memtable_heap_space": f"{common.heap_mib // 4}MiB",
        "memtable_offheap_space": "64MiB",
        "file_cache_size": "32MiB",
        "networking_cache_size": "32MiB",
        "key_cache_size": "8MiB",
        "counter_cache_size": "4MiB",
        "concurrent_reads": 16,
        "concurrent_writes": 16,
        "concurrent_counter_writes": 8,
        "concurrent_compactors": 1,
        "native_transport_max_threads": 32,
        "auto_snapshot": False,
        "hinted_handoff_enabled": True,
        "authenticator": "AllowAllAuthenticator",
        "authorizer": "AllowAllAuthorizer",
    }


def _java_options(directory: Path) -> list[str]:
    jamm = next((locate.repository("cassandra_jars") / "jars").glob("jamm-*.jar"))
    options = [
        "-ea",
        "-da:net.openhft...",
        "-Xss512k",
        "-XX:MaxDirectMemorySize=256m",
        f"-javaagent:{jamm}",
        "-Djdk.attach.allowAttachSelf=true",
        "-Dio.netty.tryReflectionSetAccessible=true",
        f"-Dio.netty.native.workdir={directory}",
        f"-Djna.tmpdir={directory}",
        f"-Djava.io.tmpdir={directory}",
        f"-Dcassandra.config=file://{directory}/cassandra.yaml",
        f"-Dcassandra.storagedir={directory}",
        f"-Dcassandra-rackdc.properties=file://{directory}/rackdc.properties",
        f"-Dlogback.configurationFile=file://{directory}/logback.xml",
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.superuser_setup_delay_ms=0",
        "-Dcassandra.consistent.rangemovement=false",
        "-Dcassandra.shutdown_announce_in_ms=100",
        "-Dcassandra-foreground=yes",
    ]
    for kind, names in (("--add-exports", _EXPORTS), ("--add-opens", _OPENS)):
        for name in names:
            options += [kind, f"{name}=ALL-UNNAMED"]
    return options
