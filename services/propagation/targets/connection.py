"""One HTTP/1.1 connection: requests go out together, and their answers come back in that order, each read no further
than its exchange allows.

Most answers are a 200 with a Content-Length, whole or nearly so in what was received at once: these are taken apart
here. Whatever else there is (chunks, hints, other statuses, heads in pieces) goes through httptools.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import cast

import httptools

from services.propagation.targets.exchange import CONNECTION_LOST, LATER, MALFORMED, TOO_LARGE, Exchange, Headers

MAX_HEAD_BYTES = 64 << 10
"""Of an answer: status line, headers and trailers."""
MAX_FRAMING = 8
"""Times the body: what the chunks' own lines may add."""

# RFC 9112, sections 4 and 5, without folded lines.
_PLAIN = re.compile(rb"HTTP/1\.1 200 [\t -~\x80-\xff]*\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)+)\r\n")
_LENGTH = b"content-length"
_FRAMING = frozenset({_LENGTH, b"transfer-encoding", b"connection", b"proxy-connection", b"upgrade"})
_MOST_DIGITS = 18
_NO_FRAMING, _OTHER_FRAMING = -1, -2
_KNOWN_BYTES = 256


class Connection(asyncio.Protocol):
    """`on_progress(connection, ended)` is called when exchanges have ended, or when the connection has while some were
    unanswered. It can be given others while it is `usable` and not `busy`."""

    __slots__ = (
        "_body_at_end",
        "_chunks",
        "_deaf",
        "_ended",
        "_headers",
        "_in_head",
        "_left",
        "_loop",
        "_on_progress",
        "_parser",
        "_parsing",
        "_queue",
        "_received",
        "_size",
        "_transport",
        "closed",
        "idle_since_s",
        "used",
    )

    def __init__(self, on_progress: "Callable[[Connection, list[Exchange]], None]") -> None:
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        # Unanswered, in the order in which they were sent.
        self._queue: deque[Exchange] = deque()
        self._ended: list[Exchange] = []
        # Bytes of a plain answer's body that are still to come.
        self._left = 0
        # Whether the parser is in the middle of an answer.
        self._parsing = False
        self._in_head = False
        # Of the present answer, as far as the parser has it: `_received` are its bytes, `_size` those of its body.
        self._received = self._size = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._body_at_end = False
        # What the parser goes on to say is nobody's.
        self._deaf = False
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

    @property
    def busy(self) -> bool:
        """Whether something is unanswered."""
        return bool(self._queue)

    def send(self, exchanges: Sequence[Exchange]) -> None:
        """Writes the requests, at least one; nothing may be unanswered. The time of each begins when it is the first
        unanswered one."""
        assert self._transport is not None and not self._queue
        now_s = self._loop.time()
        for exchange in exchanges:
            exchange.connection = self
            exchange.began_s = exchange.deadline_s = LATER
        self._queue.extend(exchanges)
        self._next(now_s)
        data = exchanges[0].data if len(exchanges) == 1 else b"".join([exchange.data for exchange in exchanges])
        self._transport.write(data)

    def abort(self) -> list[Exchange]:
        """Ends the connection at once; what was unanswered is nobody's any more, and is returned."""
        self._close()
        return self.take_rest()

    def take_rest(self) -> list[Exchange]:
        """What is unanswered, and will not be answered here."""
        rest = list(self._queue)
        self._queue.clear()
        return rest

    def data_received(self, data: bytes) -> None:
        if not self._queue:
            # Nothing was asked: what follows would be taken for the next answer.
            self._close()
            return
        at = 0 if self._parsing else self._take_plain(data)
        if at < len(data) and not self.closed:
            if self._queue:
                self._parse(data[at:] if at else data)
            else:
                self._close()
        self._tell()

    def _take_plain(self, data: bytes) -> int:
        """Ends what can be ended without the parser; how many bytes that took."""
        now_s = self._loop.time()
        queue, size, at = self._queue, len(data), 0
        if self._left:
            exchange = queue[0]
            at = min(self._left, size)
            self._chunks.append(data[:at] if at < size else data)
            self._left -= at
            if self._left:
                return at
            exchange.body, self._chunks = b"".join(self._chunks), []
            self._end(now_s)
        while queue and at < size:
            plain = _plain_head(data, at)
            if plain is None:
                break
            exchange = queue[0]
            start, length, exchange.headers = plain
            exchange.status = 200
            if length > exchange.max_body_bytes:
                self._fail(TOO_LARGE, f"{length:,} bytes, more than {exchange.max_body_bytes:,}")
                return size
            at = start + length
            if at > size:
                self._chunks = [data[start:]]
                self._left = at - size
                return size
            exchange.body = data[start:at]
            self._end(now_s)
        return at

    def _parse(self, data: bytes) -> None:
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # What the parser calls back must not raise into it, so this is its own word. After the last answer of a
            # connection it may say so of whatever follows.
            if not self.closed:
                self._fail(MALFORMED, "the answer is no HTTP/1.1")
            return
        if self._deaf:
            # An answer came to what was not asked.
            self._close()
        elif self._queue and self._received - self._size > MAX_HEAD_BYTES + MAX_FRAMING * self._size:
            self._fail(MALFORMED, f"headers of more than {MAX_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """From the parser. An answer more than was asked is nobody's."""
        self._parsing = self._in_head = True
        self._deaf = self._deaf or not self._queue
        self._headers, self._chunks, self._size = [], [], 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """From the parser."""
        if self._in_head and not self._deaf:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """From the parser."""
        if self._deaf:
            return
        exchange = self._queue[0]
        status = self._parser.get_status_code()
        if status < 200:
            return
        self._in_head = False
        exchange.status, exchange.headers = status, self._headers
        self._body_at_end = False
        if not self._parser.should_keep_alive():
            framed = any(name in (_LENGTH, b"transfer-encoding") for name, _ in self._headers)
            self._body_at_end = not framed

    def on_body(self, data: bytes) -> None:
        """From the parser."""
        if self._deaf:
            return
        self._size += len(data)
        most_bytes = self._queue[0].max_body_bytes
        if self._size > most_bytes:
            self._fail(TOO_LARGE, f"more than {most_bytes:,} bytes")
            return
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        """From the parser, at the end of each answer."""
        if self._deaf or not self._queue[0].status:
            return
        self._parsing = False
        self._end_parsed()
        if not self._parser.should_keep_alive():
            self._close()

    def eof_received(self) -> bool:
        if self._queue and self._queue[0].status and self._body_at_end:
            self._end_parsed()
            self._close()
            self._tell()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = self._deaf = True
        if self._queue and not self._lost_untouched(self._queue[0]):
            self._fail(CONNECTION_LOST, "the connection ended before the answer did")
        self._tell()

    def _lost_untouched(self, exchange: Exchange) -> bool:
        """Whether the server ended a connection that it had answered on, just as it was used again: what it did not
        begin to answer may be sent once more."""
        begun = self._left or self._parsing
        return self.used and not begun and exchange.idempotent and not exchange.resent

    def _end_parsed(self) -> None:
        chunks, self._chunks = self._chunks, []
        self._queue[0].body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._end(self._loop.time())

    def _end(self, now_s: float) -> None:
        """The first unanswered exchange has its answer."""
        self._ended.append(self._queue.popleft())
        self.used = True
        if self._queue:
            self._next(now_s)

    def _next(self, now_s: float) -> None:
        exchange = self._queue[0]
        exchange.began_s = now_s
        exchange.deadline_s = now_s + exchange.timeout_s
        self._received = self._size = 0

    def _fail(self, error: str, detail: str) -> None:
        if self._queue:
            exchange = self._queue.popleft()
            exchange.error, exchange.detail = error, detail
            self._ended.append(exchange)
        self._close()

    def _close(self) -> None:
        self.closed = self._deaf = True
        if self._transport is not None:
            self._transport.abort()

    def _tell(self) -> None:
        ended = self._ended
        if ended or (self.closed and self._queue):
            self._ended = []
            self._on_progress(self, ended)


def _plain_head(data: bytes, at: int) -> tuple[int, int, Headers] | None:
    """(where the body begins, its length, the headers) of a 200 that is framed by one Content-Length and after which
    the connection stays; None for all others, and for a head that is not whole."""
    found = _PLAIN.match(data, at)
    if found is None or found.end() - at > MAX_HEAD_BYTES:
        return None
    length = _NO_FRAMING
    headers: list[tuple[bytes, bytes]] = []
    for line in found[1].split(b"\r\n")[:-1]:
        header, framing = _known_line(line) if len(line) <= _KNOWN_BYTES else _line(line)
        if framing != _NO_FRAMING:
            if length != _NO_FRAMING or framing == _OTHER_FRAMING:
                return None
            length = framing
        headers.append(header)
    return (found.end(), length, headers) if length >= 0 else None


def _line(line: bytes) -> tuple[tuple[bytes, bytes], int]:
    """A header's name and value, and the length of the body if it says that, or _OTHER_FRAMING."""
    name, _, value = line.partition(b":")
    name, value = name.lower(), value.strip()
    framing = _NO_FRAMING
    if name in _FRAMING:
        plain = name == _LENGTH and value.isdigit() and len(value) <= _MOST_DIGITS
        framing = int(value) if plain else _OTHER_FRAMING
    return (name, value), framing


# Most lines of a server's answers are the same, page after page; there are few of them, and none is long.
_known_line = lru_cache(maxsize=1024)(_line)
