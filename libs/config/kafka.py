"""From a KafkaCluster message to the options of libs/kafka."""

from pathlib import Path
from typing import Final

from libs.config import wiring
from libs.config.mistakes import ConfigError, Mistake
from libs.kafka.options import Options
from wellspring.config.v1 import backend_pb2

_SOURCE: Final = "the configuration"


def kafka_options(config: backend_pb2.KafkaCluster, key: str) -> Options:
    """The options; `key` is where the message stands in the configuration, for mistakes. Raises ConfigError."""
    for at, address in enumerate(config.bootstrap_servers):
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65536) or "," in address:
            raise _wrong(f"{key}.bootstrap_servers[{at}]", f"is {address!r}", "host:port is allowed")
    wiring.refuse_half(config, key, "username", "password_file", source=_SOURCE)
    tls = config.tls if config.HasField("tls") else None
    if tls is not None and tls.server_name:
        raise _wrong(f"{key}.tls.server_name", "is not kept", "certificates of brokers carry the names they are at")
    for name in ("ca_file", "certificate_file", "key_file") if tls is not None else ():
        path = getattr(tls, name)
        if path:
            _read(f"{key}.tls.{name}", path)
    return Options(
        bootstrap=tuple(config.bootstrap_servers),
        client_id=config.client_id,
        username=config.username,
        password=_read(f"{key}.password_file", config.password_file).strip() if config.password_file else "",
        tls=tls is not None,
        ca_file=tls.ca_file if tls is not None else "",
        certificate_file=tls.certificate_file if tls is not None else "",
        key_file=tls.key_file if tls is not None else "",
        request_timeout_s=wiring.seconds(config.request_timeout),
        delivery_timeout_s=wiring.seconds(config.delivery_timeout),
    )


def _read(key: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise _wrong(key, f"{path} cannot be read", "the name of a text file is allowed") from None


def _wrong(key: str, what: str, allowed: str) -> ConfigError:
    return ConfigError([Mistake(_SOURCE, 0, 0, key, what, allowed)])
