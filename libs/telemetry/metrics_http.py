"""``GET /metrics`` on loopback: the registry in Prometheus' text format; and pages of JSON for people, if a process has
some."""

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 5.0
_REQUEST_BYTES = 8192
_MOST_CONNECTIONS = 16


class MetricsServer:
    """Serves ``registry`` on ``listen`` (``host:port`` of a loopback address, port 0 for any).

    ``start`` raises ValueError for an address that is not loopback and OSError where it cannot listen; ``address`` is
    then the address with the chosen port.
    """

    def __init__(self, registry: CollectorRegistry, listen: str) -> None:
        self._registry = registry
        self._host, self._port = split_loopback(listen)
        self._server: asyncio.Server | None = None
        self._open = 0
        self.address = listen
        self.pages: dict[str, Callable[[], Mapping[str, object]]] = {}
        """By path, beside /metrics."""

    async def start(self) -> None:
        """Listens."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=_REQUEST_BYTES)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self) -> None:
        """Listens no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _MOST_CONNECTIONS:
                async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            log.debug("a request for metrics did not come whole")
        finally:
            self._open -= 1
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3:
            return _response("400 Bad Request", self._expected())
        if words[0] not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", self._expected())
        path = words[1].split(b"?", 1)[0].decode("ascii", "replace")
        if path in self.pages:
            text = json.dumps(self.pages[path](), indent=2).encode() + b"\n"
            return _response("200 OK", text, "application/json", body_sent=words[0] == b"GET")
        if path != "/metrics":
            return _response("404 Not Found", self._expected())
        body = generate_latest(self._registry)
        return _response("200 OK", body, CONTENT_TYPE_PLAIN_0_0_4, body_sent=words[0] == b"GET")

    def _expected(self) -> bytes:
        return f"GET {' or '.join(['/metrics', *self.pages])} is expected\n".encode()


def split_loopback(listen: str) -> tuple[str, int]:
    """Host and port of ``listen``; ValueError when it is not ``host:port`` or not loopback."""
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"telemetry.metrics_listen is {listen!r}; host:port is expected")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"telemetry.metrics_listen is {listen!r}; metrics are served on a loopback address only")
    return ("127.0.0.1" if host == "localhost" else host), int(port)


def _response(status: str, body: bytes, kind: str = "text/plain; charset=utf-8", *, body_sent: bool = True) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("ascii") + (body if body_sent else b"")
