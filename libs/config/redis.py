"""The Redis server that a configuration names, as libs/redis takes it."""

from typing import Final

from libs.config import wiring
from libs.config.mistakes import ConfigError, Mistake
from libs.redis.options import Options, Tls
from wellspring.config.v1 import backend_pb2, server_pb2

_FIELD: Final = "backend.cached.redis"
_PORT: Final = 6379
"""Where Redis listens when nothing else is said."""


def redis_options(config: backend_pb2.Redis) -> Options:
    """The server that a configuration names. Raises ConfigError for what cannot be read."""
    return Options(
        address=_address(config.address),
        database=config.database,
        username=config.username,
        password=wiring.password(config.password_file, f"{_FIELD}.password_file") if config.password_file else "",
        tls=_tls(config.tls) if config.HasField("tls") else None,
        timeout_s=wiring.seconds(config.timeout),
        max_connections=config.max_connections,
    )


def _address(text: str) -> tuple[str, int] | str:
    if text.startswith("unix:/"):
        return text.removeprefix("unix:")
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, _PORT
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        allowed = '"host", "host:port" or "unix:/path" is allowed'
        raise ConfigError([Mistake("", 0, 0, f"{_FIELD}.address", f"is {text!r}", allowed)])
    return host.strip("[]"), int(port)


def _tls(config: server_pb2.ClientTls) -> Tls:
    """The files, tried: a connection that could never be made would only look like a Redis that is away."""
    wiring.client_tls(config, f"{_FIELD}.tls")
    return Tls(config.ca_file, config.certificate_file, config.key_file, config.server_name)
