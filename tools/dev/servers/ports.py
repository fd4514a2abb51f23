"""Free TCP ports for servers that bind them only seconds later."""

from __future__ import annotations

import secrets
import socket
from contextlib import ExitStack

# Below Linux' ephemeral range (32768-60999, net.ipv4.ip_local_port_range): there, some client's outgoing connection
# could take the port between its choice here and the server's bind.
_LOWEST, _HIGHEST = 15000, 32000
_ATTEMPTS = 500
_given: set[int] = set()


def free_port(*hosts: str) -> int:
    """A port that is free on each of `hosts` (IPv4 addresses; default 127.0.0.1) and was not given out before."""
    for _ in range(_ATTEMPTS):
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        if port not in _given and all(_is_free(host, port) for host in hosts or ("127.0.0.1",)):
            _given.add(port)
            return port
    raise OSError(f"no free port between {_LOWEST} and {_HIGHEST} on {', '.join(hosts) or '127.0.0.1'}")


def _is_free(host: str, port: int) -> bool:
    with ExitStack() as stack:
        try:
            stack.enter_context(socket.socket()).bind((host, port))
        except OSError:
            return False
    return True


def accepts(host: str, port: int, timeout_s: float = 0.5) -> bool:
    """Whether something accepts connections at (host, port)."""
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError:
        return False
    return True
