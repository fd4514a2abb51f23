"""The configured backend, opened; and the migrations of one that has them."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from libs.cassandra import migrations
from libs.cassandra.options import Options
from libs.config import wiring
from libs.config.mistakes import ConfigError, Mistake
from libs.rpc.options import StartError
from libs.rpc.server import Server
from services.storage.cassandra.store import MIGRATIONS, CassandraStore
from services.storage.store.embedded import open_store
from services.storage.store.local import LocalOptions, LocalStore
from wellspring.config.v1 import backend_pb2, server_pb2, storage_pb2

_PORT: Final = 9042
"""Where Cassandra listens when nothing else is said."""


async def open_backend(
    server: Server, config: storage_pb2.StorageConfig, clock_us: Callable[[], int], local: LocalOptions
) -> tuple[LocalStore | CassandraStore, tuple[str, ...]]:
    """The store, a resource of ``server``, and the names of the data centres that it spans. Raises StartError for a
    backend that this release does not have, ConfigError and what opening raises."""
    kind = config.backend.WhichOneof("kind")
    if kind == "cassandra":
        options = cassandra_options(config.backend.cassandra)

        async def open_cluster() -> CassandraStore:
            return await CassandraStore.open(options, clock_us, local)

        cluster = await server.resources.add(
            "store", open_cluster, close=CassandraStore.close, health=CassandraStore.check
        )
        return cluster, cluster.datacentres
    if kind != "embedded":
        raise StartError("backend: this release has the backends embedded and cassandra")
    if config.server.workers != 1:
        raise StartError("server.workers: the embedded backend has one process; 1 is allowed")

    async def open_local() -> LocalStore:
        settings = wiring.embedded_settings(config.backend.embedded)
        return open_store(config.backend.embedded.path, clock_us, local, settings)

    store = await server.resources.add("store", open_local, close=LocalStore.close, health=LocalStore.check)
    return store, (config.datacentre,)


async def migrate(config: storage_pb2.StorageConfig) -> list[str]:
    """Makes and changes the backend's tables; answers the names of the migrations that were missing. Raises ConfigError
    when the backend has none, FailedPrecondition and Unavailable."""
    if config.backend.WhichOneof("kind") != "cassandra":
        raise ConfigError([Mistake("", 0, 0, "backend", "has no migrations", "only the backend cassandra has them")])
    return await migrations.apply(cassandra_options(config.backend.cassandra), migrations.read(MIGRATIONS))


def cassandra_options(config: backend_pb2.Cassandra) -> Options:
    """The cluster that a configuration names. Raises ConfigError for what cannot be read."""
    tls = _tls(config.tls) if config.HasField("tls") else None
    return Options(
        contact_points=tuple(_address(point, index) for index, point in enumerate(config.contact_points)),
        keyspace=config.keyspace,
        local_datacentre=config.local_datacentre,
        username=config.username,
        password=_password(config.password_file) if config.password_file else "",
        tls=tls,
        tls_server_name=config.tls.server_name if tls is not None else "",
        request_timeout_s=wiring.seconds(config.request_timeout),
        replication=dict(config.replication),
        max_in_flight=config.max_in_flight,
    )


def _address(point: str, index: int) -> tuple[str, int]:
    host, colon, port = point.rpartition(":")
    if not colon:
        return point, _PORT
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        field = f"backend.cassandra.contact_points[{index}]"
        raise ConfigError([Mistake("", 0, 0, field, f"is {point!r}", '"host" or "host:port" is allowed')])
    return host, int(port)


def _password(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        field = "backend.cassandra.password_file"
        raise ConfigError([Mistake(path, 0, 0, field, "cannot be read", "a file with the password")]) from None


def _tls(config: server_pb2.ClientTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.certificate_file:
            context.load_cert_chain(config.certificate_file, config.key_file)
    except (OSError, ssl.SSLError):
        wanted = "PEM files with certificates and their key"
        raise ConfigError([Mistake("", 0, 0, "backend.cassandra.tls", "cannot be used", wanted)]) from None
    return context
