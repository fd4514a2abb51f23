"""The Cassandra cluster that a configuration names, as libs/cassandra takes it."""

from typing import Final

from libs.cassandra.options import Options
from libs.config import wiring
from libs.config.mistakes import ConfigError, Mistake
from wellspring.config.v1 import backend_pb2

_LOGIN_FILE: Final = "backend.cassandra.password_file"
_PORT: Final = 9042
"""Where Cassandra listens when nothing else is said."""


def cassandra_options(config: backend_pb2.Cassandra) -> Options:
    """The cluster that a configuration names. Raises ConfigError for what cannot be read."""
    wiring.refuse_half(config, "backend.cassandra", "username", "password_file")
    tls = wiring.client_tls(config.tls, "backend.cassandra.tls") if config.HasField("tls") else None
    return Options(
        contact_points=tuple(_address(point, index) for index, point in enumerate(config.contact_points)),
        keyspace=config.keyspace,
        local_datacentre=config.local_datacentre,
        username=config.username,
        password=wiring.password(config.password_file, _LOGIN_FILE) if config.password_file else "",
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
