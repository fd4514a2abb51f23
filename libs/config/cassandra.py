"""The Cassandra cluster that a configuration names, as libs/cassandra takes it."""

import ssl
from pathlib import Path
from typing import Final

from libs.cassandra.options import Options
from libs.config import wiring
from libs.config.mistakes import ConfigError, Mistake
from wellspring.config.v1 import backend_pb2, server_pb2

_PORT: Final = 9042
"""Where Cassandra listens when nothing else is said."""


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
