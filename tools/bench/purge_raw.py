"""The least that a purger in Python can be: requests that were built before, an asyncio.Protocol and httptools. It
keeps so many requests unanswered on each connection, and looks at nothing but the answers' number and status."""

import asyncio
from collections.abc import Sequence
from typing import cast

import httptools


class Raw(asyncio.Protocol):
    """One connection and its share of the requests."""

    def __init__(self, requests: Sequence[bytes], depth: int, done: asyncio.Future[int]) -> None:
        self._requests = requests
        self._depth = depth
        self._done = done
        self._sent = self._answered = self._bad = 0
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        self._send(self._depth)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        before = self._answered
        self._parser.feed_data(data)
        if self._answered == len(self._requests):
            if not self._done.done():
                self._done.set_result(self._bad)
            self._transport.close()
        else:
            self._send(self._answered - before)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        if not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("closed before the last answer"))

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._answered += 1
        if self._parser.get_status_code() != 200:
            self._bad += 1

    def _send(self, count: int) -> None:
        if count and self._sent < len(self._requests):
            self._transport.write(b"".join(self._requests[self._sent : self._sent + count]))
            self._sent += count


async def send_all(port: int, requests: Sequence[bytes], connections: int, depth: int) -> int:
    """Sends all over so many connections; how many were not answered 200. Raises OSError."""
    loop = asyncio.get_running_loop()
    share = -(-len(requests) // connections)
    waiting: list[asyncio.Future[int]] = []
    for start in range(0, len(requests), share):
        done: asyncio.Future[int] = loop.create_future()
        waiting.append(done)
        part = requests[start : start + share]
        await loop.create_connection(lambda part=part, done=done: Raw(part, depth, done), "127.0.0.1", port)  # type: ignore[misc]
    return sum([await one for one in waiting])
