"""One connection to a cache: requests go out in one piece, their answers are counted as they come."""

import asyncio
from collections.abc import Sequence
from typing import Final, cast

import httptools

_REQUEST_TIMEOUT: Final = 408
"""A server that closes an idle connection may say so with this; it is no answer to what was just sent."""


class Connection(asyncio.Protocol):
    """Answers come in the order of the requests. Once `closed` it is of no more use.

    `fault` says what was wrong with the cache's last words, when something was.
    """

    def __init__(self) -> None:
        self.closed = False
        self.fault = ""
        self._statuses: list[int] = []
        self._expected = 0
        self._done: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._status = self._parser.get_status_code
        self._keeps = self._parser.should_keep_alive
        self._keep = True

    async def exchange(self, requests: Sequence[bytes]) -> list[int]:
        """Sends the requests; the statuses of their answers in order, fewer than requests when the connection ended.

        One exchange at a time. When it is cancelled the connection must be closed: answers are still to come.
        """
        assert self._transport is not None
        self._statuses = []
        self._expected = len(requests)
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(b"".join(requests))
        await self._done
        return self._statuses

    def close(self) -> None:
        """Ends the connection."""
        self.closed = True
        self._finish()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # Another event loop's transport is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop; bodies are passed over, never kept."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.fault = "its answer is not HTTP"
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.closed = True
        self._finish()

    def on_headers_complete(self) -> None:
        """Called by the parser; only here it knows whether the connection stays."""
        self._keep = self._keeps()

    def on_message_complete(self) -> None:
        """Called by the parser at the end of each answer."""
        status = self._status()
        if status < 200:
            return
        if self._done is None or self._done.done() or (status == _REQUEST_TIMEOUT and not self._keep):
            # An answer that nobody asked for: what came after it would be taken for the next purge's.
            self.close()
            return
        self._statuses.append(status)
        if len(self._statuses) == self._expected:
            self._finish()
        if not self._keep:
            self.close()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
