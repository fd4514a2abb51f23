"""Addresses to listen on: read, judged (loopback?), tried before a server exists, held for worker processes."""

import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass

from libs.rpc.options import StartError


@dataclass(frozen=True, slots=True)
class Address:
    """``host`` and ``port`` of a TCP listener, or ``path`` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.path) or ipaddress.ip_address(self.host).is_loopback

    @property
    def family(self) -> socket.AddressFamily:
        """The family of its sockets."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def parse_address(text: str) -> Address:
    """``127.0.0.1:8001``, ``[::1]:8001``, ``localhost:8001`` or ``unix:/path``; StartError for anything else."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or len(path.encode()) > 107:
            raise StartError(f"server.listen: {text!r}: an absolute path of at most 107 bytes is expected after unix:")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise StartError(f"server.listen: {text!r}: host:port with a port of 0 to 65535, or unix:/path, is expected")
    if host == "localhost":
        host = "127.0.0.1"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise StartError(f"server.listen: {text!r}: an IPv6 address stands in brackets, as in [::1]:8001")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise StartError(
            f"server.listen: {text!r}: {host!r} is not an IP address; an address of this machine is expected, such as"
            " 127.0.0.1, or 0.0.0.0 for all of them"
        ) from None
    return Address(host, int(port))


def try_address(address: Address) -> None:
    """Raises StartError, naming the address and the cure, when nobody could listen on it now.

    The engines share ports or replace socket files where this must be an error: it is found out here, before them.
    """
    if address.path:
        _try_path(address)
        return
    with _socket(address) as probe:
        _bind(probe, address)
        try:
            probe.listen(1)
        except OSError as error:
            raise _taken(address, error) from None


def hold_port(address: Address) -> tuple[socket.socket, Address]:
    """A bound socket that never listens, so that worker processes can share its port, and the address with that port.

    Close the socket when the workers are gone.
    """
    if address.port:
        try_address(address)
    held = _socket(address)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        _bind(held, address)
    except StartError:
        held.close()
        raise
    return held, Address(address.host, held.getsockname()[1])


def _socket(address: Address) -> socket.socket:
    made = socket.socket(address.family, socket.SOCK_STREAM)
    # A port whose last connections are in TIME_WAIT is free; a port that somebody listens on is not, with or without
    # it.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def _bind(bound: socket.socket, address: Address) -> None:
    try:
        bound.bind((address.host, address.port))
    except OSError as error:
        raise _taken(address, error) from None


def _taken(address: Address, error: OSError) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(
            f"cannot listen on {address}: another process listens there; stop it, or choose another address in"
            " server.listen (port 0 takes a free one)"
        )
    if error.errno == errno.EACCES:
        return StartError(
            f"cannot listen on {address}: ports below 1024 need a privilege; choose another in server.listen"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return StartError(
            f"cannot listen on {address}: this machine has no such address; choose another in server.listen"
        )
    return StartError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}")


def _try_path(address: Address) -> None:
    folder = os.path.dirname(address.path)
    if not os.path.isdir(folder):
        raise StartError(f"cannot listen on {address}: there is no folder {folder}")
    try:
        kind = os.stat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise StartError(f"cannot listen on {address}: the path is in use by something that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            os.unlink(address.path)
            return
        except OSError as error:
            raise StartError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}") from None
    raise StartError(f"cannot listen on {address}: another process listens there; stop it, or choose another path")
