"""One HTTP/1.1 connection: one exchange at a time, its answer read no further than the exchange allows."""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from services.propagation.targets.exchange import CONNECTION_LOST, MALFORMED, TOO_LARGE, Exchange

MAX_HEAD_BYTES = 64 << 10
"""Of an answer: status line, headers and trailers."""
MAX_FRAMING = 8
"""Times the body: what the chunks' own lines may add."""


class Connection(asyncio.Protocol):
    """`on_free(connection, exchange, keep)` is called when an exchange has ended; `keep`: it can take another one."""

    __slots__ = (
        "_body_at_end",
        "_exchange",
        "_in_head",
        "_on_free",
        "_over",
        "_parser",
        "_received",
        "_stray",
        "_transport",
        "answered",
        "closed",
        "idle_since_s",
        "used",
    )

    def __init__(self, on_free: "Callable[[Connection, Exchange, bool], None]") -> None:
        self._on_free = on_free
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._in_head = False
        self._received = 0
        self._body_at_end = False
        self._over = False
        self._stray = False
        self.answered = False
        """Whether a byte of an answer to the present exchange has come."""
        self.used = False
        """Whether an exchange has ended well on it."""
        self.closed = False
        self.idle_since_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Another event loop's transport is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    @property
    def usable(self) -> bool:
        """Whether a request can be written to it."""
        return not self.closed and self._transport is not None and not self._transport.is_closing()

    def send(self, exchange: Exchange) -> None:
        """Writes the request."""
        assert self._transport is not None
        self._exchange = exchange
        exchange.connection = self
        self.answered = False
        self._in_head = True
        self._received = 0
        self._transport.write(exchange.data)

    def abort(self) -> None:
        """Ends the connection at once; the exchange on it is nobody's any more."""
        self._exchange = None
        self._close()

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            # Nothing was asked: what follows would be taken for the next answer.
            self._close()
            return
        self.answered = True
        self._received += len(data)
        self._over = self._stray = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # What the parser calls back must not raise into it, so this is its own word.
            self._fail(MALFORMED, "the answer is no HTTP/1.1")
            return
        if self._stray:
            self._fail(MALFORMED, "an answer came to what was not asked")
            return
        exchange = self._exchange
        if exchange is not None and self._received - exchange.size > MAX_HEAD_BYTES + MAX_FRAMING * exchange.size:
            self._fail(MALFORMED, f"headers of more than {MAX_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """From the parser. A second answer in the bytes that ended the first is nobody's."""
        self._stray = self._over

    def on_header(self, name: bytes, value: bytes) -> None:
        """From the parser."""
        if self._exchange is not None and self._in_head and not self._stray:
            self._exchange.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """From the parser."""
        exchange = self._exchange
        if exchange is None or self._stray:
            return
        status = self._parser.get_status_code()
        if status < 200:
            exchange.headers = []
            return
        self._in_head = False
        exchange.status = status
        self._body_at_end = False
        if not self._parser.should_keep_alive():
            framed = any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in exchange.headers)
            self._body_at_end = not framed

    def on_body(self, data: bytes) -> None:
        """From the parser."""
        exchange = self._exchange
        if exchange is None or self._stray:
            return
        exchange.size += len(data)
        if exchange.size > exchange.max_body_bytes:
            self._fail(TOO_LARGE, f"more than {exchange.max_body_bytes:,} bytes")
            return
        exchange.chunks.append(data)

    def on_message_complete(self) -> None:
        """From the parser, at the end of each answer."""
        exchange = self._exchange
        if exchange is None or self._stray or not exchange.status:
            return
        self._over = True
        self._end(exchange, bool(self._parser.should_keep_alive()))

    def eof_received(self) -> bool:
        exchange = self._exchange
        if exchange is not None and exchange.status and self._body_at_end:
            self._end(exchange, keep=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._exchange is not None:
            self._fail(CONNECTION_LOST, "the connection ended before the answer did")

    def _end(self, exchange: Exchange, keep: bool) -> None:
        chunks = exchange.chunks
        exchange.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._exchange = None
        self.used = True
        if not keep:
            self._close()
        self._on_free(self, exchange, keep)

    def _fail(self, error: str, detail: str) -> None:
        exchange, self._exchange = self._exchange, None
        self._close()
        if exchange is not None:
            exchange.error, exchange.detail = error, detail
            self._on_free(self, exchange, False)

    def _close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
