"""What a service's configuration says about its server: addresses, limits, times."""

from dataclasses import dataclass
from typing import Literal

MIB = 1 << 20


class Stopped(Exception):
    """A signal said stop while a server waited for what it needs: it ends as it was told to, having served nobody."""


class StartError(Exception):
    """The server cannot start as configured. The message is for the operator: what, where, what is allowed."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """PEM files. With ``client_ca_file`` every caller must show a certificate that it signed (mutual TLS).

    The files are read again when they change, at the next connection: a rotated certificate needs no restart.
    """

    certificate_file: str
    key_file: str
    client_ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """One server process, or several alike.

    ``service`` is its name in logs, metrics and the ready line. ``listen`` holds ``host:port`` (an IP address or
    ``localhost``; IPv6 in brackets; port 0 takes a free one) or ``unix:/path``. ``engine`` ``native`` answers on one
    loopback listener without TLS. ``workers`` above 1 starts that many processes on the same ports.

    Limits: ``max_message_bytes`` for one message in or out; ``max_concurrent_streams`` calls at once on one connection;
    ``max_in_flight`` unary calls and ``max_open_streams`` streams at once in one process, above which callers are sent
    away for ``overload_retry_s``.

    Times in seconds: a call without a deadline gets ``default_deadline_s``, an endless stream
    ``default_stream_deadline_s``; no call gets more than ``max_deadline_s``. To stop, a server says NOT_SERVING, waits
    ``drain_wait_s`` for the balancer to look away, then up to ``drain_grace_s`` for the calls under way.
    """

    service: str
    listen: tuple[str, ...] = ("127.0.0.1:0",)
    engine: Literal["grpcio", "native"] = "grpcio"
    workers: int = 1
    tls: TlsOptions | None = None
    max_message_bytes: int = 16 * MIB
    max_concurrent_streams: int = 1024
    max_in_flight: int = 2048
    max_open_streams: int = 1024
    overload_retry_s: float = 0.2
    default_deadline_s: float = 30.0
    default_stream_deadline_s: float = 3600.0
    max_deadline_s: float = 24 * 3600.0
    keepalive_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    drain_wait_s: float = 0.5
    drain_grace_s: float = 10.0
    health_interval_s: float = 2.0
    health_timeout_s: float = 1.0
    reflection: bool = True
    channelz: bool = True
    ready_file: str | None = None
    die_with_parent: bool = False

    def check(self) -> None:
        """Raises StartError for a value that no server could start with."""
        if not self.service:
            raise StartError("server.service is empty; the name of the service is expected")
        if not self.listen:
            raise StartError("server.listen is empty; at least one address is expected")
        if self.engine not in ("grpcio", "native"):
            raise StartError(f"server.engine is {self.engine!r}; grpcio and native are allowed")
        for name, lowest in _LOWEST.items():
            value = getattr(self, name)
            if not value >= lowest:
                raise StartError(f"server.{name} is {value}; {lowest} is the least allowed")


_LOWEST: dict[str, float] = {
    "workers": 1,
    "max_message_bytes": 1024,
    "max_concurrent_streams": 1,
    "max_in_flight": 1,
    "max_open_streams": 1,
    "overload_retry_s": 0.001,
    "default_deadline_s": 0.001,
    "default_stream_deadline_s": 0.001,
    "max_deadline_s": 0.001,
    "keepalive_s": 1,
    "keepalive_timeout_s": 1,
    "drain_wait_s": 0,
    "drain_grace_s": 0,
    "health_interval_s": 0.01,
    "health_timeout_s": 0.01,
}
