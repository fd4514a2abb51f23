"""Purges over HTTP/1.1: kept connections, pipelined as deep as the cache allows, each answer accounted for.

A purge is idempotent, so one whose connection ended before its answer (a cache closes idle connections) is sent once
more on a new connection. What then has no answer is a failure that the caller sees.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True, slots=True)
class Purge:
    """One purge: of a path (percent-encoded, with its query), or of all that carries one of the tags.

    `min_version`: what is at least so new may stay (16 bytes; empty: all goes).
    """

    path: str = "/"
    min_version: bytes = b""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheTarget:
    """A cache to be purged.

    `url` is http://host:port; `depth` is how many purges may be unanswered on one connection (1: no pipelining).
    """

    url: str
    host_header: str = ""
    connections: int = 2
    depth: int = 32
    timeout_s: float = 5.0


class PurgeFailed(Exception):
    """A cache did not acknowledge; the text says which and how it failed."""


class _Connection(asyncio.Protocol):
    """One connection; answers come in the order of the requests."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[int]] = deque()
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._keep = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Another event loop's transport is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_headers_complete(self) -> None:
        self._keep = bool(self._parser.should_keep_alive())

    def on_message_complete(self) -> None:
        """Called by the parser at the end of each answer."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        if self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(status)
        if not self._keep:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionResetError())

    def send(self, data: bytes, count: int, loop: asyncio.AbstractEventLoop) -> list[asyncio.Future[int]]:
        futures: list[asyncio.Future[int]] = [loop.create_future() for _ in range(count)]
        self.waiting.extend(futures)
        assert self._transport is not None
        self._transport.write(data)
        return futures

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()


class PurgeClient:
    """Purges one cache. Close it when done."""

    def __init__(self, target: CacheTarget) -> None:
        parts = urlsplit(target.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"a cache's url is http://host:port, not {target.url!r}")
        self.target = target
        self._host, self._port = parts.hostname, parts.port or 80
        self._host_header = (target.host_header or parts.netloc).encode("ascii")
        self._idle: asyncio.LifoQueue[_Connection | None] = asyncio.LifoQueue(target.connections)
        for _ in range(target.connections):
            self._idle.put_nowait(None)

    def request(self, purge: Purge) -> bytes:
        """The bytes of a purge on the wire. Raises ValueError for what cannot be part of a request."""
        lines = [b"PURGE %b HTTP/1.1\r\nHost: %b\r\n" % (_token(purge.path), self._host_header)]
        if purge.min_version:
            lines.append(b"X-Min-Version: %b\r\n" % purge.min_version.hex().encode())
        if purge.tags:
            lines.append(b"Xkey: %b\r\n" % b" ".join(map(_token, purge.tags)))
        lines.append(b"\r\n")
        return b"".join(lines)

    async def purge(self, purges: Sequence[Purge]) -> None:
        """Ends when the cache has acknowledged all of them. Raises PurgeFailed; some may have taken effect then."""
        depth = self.target.depth
        requests = [self.request(p) for p in purges]
        chunks = [requests[i : i + depth] for i in range(0, len(requests), depth)]
        async with asyncio.timeout(None) as scope:
            loop = asyncio.get_running_loop()
            scope.reschedule(loop.time() + self.target.timeout_s * max(1, len(chunks) / self.target.connections))
            try:
                statuses = await asyncio.gather(*(self._exchange(chunk) for chunk in chunks))
            except OSError as error:
                raise PurgeFailed(f"cache {self.target.url}: {error or type(error).__name__}") from None
            except asyncio.CancelledError:
                if scope.expired():
                    raise PurgeFailed(f"cache {self.target.url}: no answer in {self.target.timeout_s} s") from None
                raise
        for purge, status in zip(purges, (s for chunk in statuses for s in chunk), strict=True):
            # A cache that knows no such page has nothing to forget.
            if status >= 300 and status != 404:
                raise PurgeFailed(f"cache {self.target.url}: PURGE {purge.path} answered {status}")

    async def close(self) -> None:
        """Ends the idle connections."""
        while not self._idle.empty():
            connection = self._idle.get_nowait()
            if connection is not None:
                connection.close()

    async def _exchange(self, chunk: Sequence[bytes]) -> list[int]:
        connection = await self._idle.get()
        try:
            for fresh in (False, True):
                if connection is None or connection.closed or fresh:
                    connection = await self._connect()
                futures = connection.send(b"".join(chunk), len(chunk), asyncio.get_running_loop())
                results = await asyncio.gather(*futures, return_exceptions=True)
                statuses = [r for r in results if isinstance(r, int)]
                if len(statuses) == len(chunk):
                    return statuses
            raise ConnectionResetError("the connection ended before the answer, twice")
        except BaseException:
            # Answers that were not waited for would be taken for those of the next purges.
            if connection is not None:
                connection.close()
            raise
        finally:
            self._idle.put_nowait(connection)

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection


def _token(text: str) -> bytes:
    data = text.encode("ascii", "strict") if text.isascii() else b""
    if not data or any(c <= 0x20 or c == 0x7F for c in data):
        raise ValueError(f"not fit for a purge (percent-encode it): {text!r}")
    return data
