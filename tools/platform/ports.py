"""Ports on loopback: which of those that a layout wants are taken, and a stretch that is free."""

import secrets
import socket
from collections.abc import Iterator, Mapping
from typing import Final

METRICS_OFFSET: Final = 100
"""The metrics of a process are at its port plus this."""
HTTP: Final = "http"
_LOWEST, _HIGHEST = 10_000, 30_000
"""Below what Linux gives to outgoing connections (32768 and up: ip(7), ip_local_port_range)."""
_TRIES: Final = 200


def wanted(ports: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """What each port is for, in words, with the port; each process has one more for its metrics."""
    for name, port in ports.items():
        yield ("readers (HTTP)" if name == HTTP else name), port
        if name != HTTP:
            yield f"the metrics of {name}", port + METRICS_OFFSET


def first_taken(ports: Mapping[str, int]) -> tuple[str, int] | None:
    """The first port that something listens on already, with what it is wanted for; None when all are free."""
    return next(((name, port) for name, port in wanted(ports) if not is_free(port)), None)


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def free_base(span: int = 8, http_offset: int = 79) -> int:
    """A port from which on `span` are free, their metrics' as well, and the one of HTTP. Raises OSError."""
    for _ in range(_TRIES):
        base = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        needed = {f"p{n}": base + n for n in range(span)} | {HTTP: base + http_offset}
        if first_taken(needed) is None:
            return base
    raise OSError(f"no {span} free ports in a row were found on 127.0.0.1 in {_TRIES} tries")
