"""What a connection to a Redis server needs to know."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: who signs the server's certificate, and this process's own certificate with its key (both or none).
    ``server_name`` is the name that the certificate must carry when it is not the host."""

    ca_file: str
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """``address`` is (host, port), or the path of a Unix socket. ``timeout_s`` bounds an exchange as a whole, the wait
    for one of ``max_connections`` and the making of a connection included."""

    address: tuple[str, int] | str
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: Tls | None = None
    timeout_s: float = 0.05
    max_connections: int = 32
