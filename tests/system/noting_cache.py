"""A cache that holds nothing: it notes of each path the newest minimum version that it was purged with."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from libs.purge.naming import MINIMUM_HEADER

_END = b"\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_HEADER = MINIMUM_HEADER.lower().encode()


class NotingCache:
    """`purged`: by path the newest minimum version, and `purges` how many came. `url` once it is running."""

    def __init__(self) -> None:
        self.purged: dict[str, bytes] = {}
        self.purges = 0
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["NotingCache"]:
        """On a free port of loopback."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            server.close()

    def note(self, request: bytes) -> None:
        """One request, without its body: there is none."""
        line, *headers = request.split(b"\r\n")
        method, path, _ = line.split(b" ")
        given = {name.lower(): value.strip() for name, _, value in (header.partition(b":") for header in headers)}
        assert method == b"PURGE", request
        version = bytes.fromhex(given[_HEADER].decode())
        self.take(path.decode(), version)

    def take(self, path: str, version: bytes) -> None:
        """One purge."""
        self.purged[path] = max(version, self.purged.get(path, b""))
        self.purges += 1


class _Connection(asyncio.Protocol):
    def __init__(self, cache: NotingCache) -> None:
        self._cache = cache
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._rest = (self._rest + data).split(_END)
        for request in requests:
            self._cache.note(request)
        assert self._transport is not None
        self._transport.write(_ANSWER * len(requests))
