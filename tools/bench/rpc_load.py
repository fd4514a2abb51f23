"""A load generator for unary gRPC calls over plain HTTP/2 that costs a tenth of what a gRPC client in Python does.

On two cores a generator as dear as the server measures itself. This one knows its requests beforehand: every frame but
the stream's number is built once. It reads of an answer what it needs: a unary call that failed brings no message.
"""

import asyncio
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
FRAME_BYTES = 16384
"""SETTINGS_MAX_FRAME_SIZE that every peer accepts (RFC 9113, 6.5.2)."""
FIRST_WINDOW = 65535
"""Flow-control window before any WINDOW_UPDATE (RFC 9113, 6.9.2)."""
WHOLE_WINDOW = 2**31 - 1


class LoadError(Exception):
    """The server answered in a way that makes the measurement worthless."""


@dataclass
class Outcome:
    """What a run of calls took: wall seconds, and the time of each call in seconds."""

    seconds: float
    latencies_s: list[float] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Calls answered well."""
        return len(self.latencies_s)

    def quantile_ms(self, share: float) -> float:
        """The latency that ``share`` of the calls stayed below, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


async def run_load(
    address: str, method: str, requests: Sequence[bytes], *, calls: int, connections: int = 8, streams: int = 8
) -> Outcome:
    """Makes ``calls`` unary calls of ``method`` (``package.Service/Method``) with the given serialised requests in
    turn.

    ``connections`` each keep ``streams`` calls under way. Raises LoadError at the first call that fails.
    """
    host, _, port = address.rpartition(":")
    left = _Left(calls)
    loop = asyncio.get_running_loop()
    opened = []
    try:
        for index in range(connections):
            connection = _Connection(address, method, requests[index::connections] or requests, left)
            await loop.create_connection(partial(_same, connection), host, int(port))
            opened.append(connection)
        await asyncio.gather(*(connection.first_answer() for connection in opened))
        began = time.perf_counter()
        await asyncio.gather(*(connection.run(streams) for connection in opened))
        seconds = time.perf_counter() - began
    finally:
        for connection in opened:
            connection.close()
    return Outcome(seconds, [latency for connection in opened for latency in connection.latencies_s])


def _same(connection: "_Connection") -> "_Connection":
    return connection


class _Left:
    """Calls that have not been sent yet, of all connections together."""

    __slots__ = ("calls",)

    def __init__(self, calls: int) -> None:
        self.calls = calls


class _Connection(asyncio.Protocol):
    """One HTTP/2 connection with a fixed number of calls under way."""

    def __init__(self, address: str, method: str, requests: Sequence[bytes], left: _Left) -> None:
        self._headers = _headers(address, method)
        self._requests = [_data_parts(request) for request in requests]
        self._left = left
        self._next_request = 0
        self._next_stream = 1
        self._window = FIRST_WINDOW
        self._stream_window = FIRST_WINDOW
        self._waiting = 0
        self._sent_at: dict[int, float] = {}
        self._with_message: set[int] = set()
        self._received = b""
        self._unacknowledged = 0
        self._running = False
        self._done: asyncio.Future[None] | None = None
        self.latencies_s: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduces itself: no header table to keep, windows as wide as they go."""
        self._transport = writer = cast(Any, transport)  # uvloop's is no asyncio.Transport by inheritance
        settings = struct.pack(">HIHIHI", 1, 0, 2, 0, 4, WHOLE_WINDOW)
        writer.write(PREFACE + _frame(SETTINGS, 0, 0, settings) + _window_update(WHOLE_WINDOW - FIRST_WINDOW))

    def connection_lost(self, error: Exception | None) -> None:
        """The server hung up."""
        self._fail("the server closed the connection")

    async def first_answer(self) -> None:
        """Makes one call, which also waits for the server's settings."""
        self._done = asyncio.get_running_loop().create_future()
        self._send(1)
        await asyncio.wait_for(self._done, 60)
        self.latencies_s.clear()

    async def run(self, streams: int) -> None:
        """Keeps ``streams`` calls under way until none are left to send."""
        self._done = asyncio.get_running_loop().create_future()
        self._running = True
        for _ in range(streams):
            if self._left.calls > 0:
                self._left.calls -= 1
                self._send(1)
        if self._sent_at or self._waiting:
            await self._done

    def close(self) -> None:
        """Hangs up."""
        self._done = None
        self._transport.close()

    def _send(self, count: int) -> None:
        """Sends ``count`` calls, or as many as the connection's window has room for; the others wait."""
        self._waiting += count
        while self._waiting:
            parts, size = self._requests[self._next_request]
            if size > self._stream_window:
                raise LoadError(f"a request of {size} bytes is wider than a stream's window, {self._stream_window}")
            if size > self._window:
                return
            self._waiting -= 1
            self._window -= size
            self._next_request = (self._next_request + 1) % len(self._requests)
            stream = self._next_stream
            self._next_stream += 2
            number = stream.to_bytes(4, "big")
            pieces: list[bytes] = []
            for head, payload in (self._headers, *parts):
                pieces += (head, number, payload)
            self._sent_at[stream] = time.perf_counter()
            self._transport.write(b"".join(pieces))

    def data_received(self, data: bytes) -> None:
        """Takes the frames out of what has come."""
        received = self._received + data if self._received else data
        at, size = 0, len(received)
        while size - at >= 9:
            length = int.from_bytes(received[at : at + 3], "big")
            if size - at < 9 + length:
                break
            kind, flags = received[at + 3], received[at + 4]
            stream = int.from_bytes(received[at + 5 : at + 9], "big")
            at += 9 + length
            if kind == DATA:
                self._unacknowledged += length
                self._with_message.add(stream)
            elif kind == HEADERS:
                if flags & END_STREAM:
                    self._answered(stream)
            else:
                self._control(kind, flags, received[at - length : at], stream)
        self._received = received[at:]
        if self._unacknowledged > 1 << 20:
            self._transport.write(_window_update(self._unacknowledged))
            self._unacknowledged = 0

    def _answered(self, stream: int) -> None:
        sent_at = self._sent_at.pop(stream, None)
        if sent_at is None or stream not in self._with_message:
            self._fail("a call ended without an answer")
            return
        self._with_message.discard(stream)
        self.latencies_s.append(time.perf_counter() - sent_at)
        if self._running and self._left.calls > 0:
            self._left.calls -= 1
            self._send(1)
        elif not self._sent_at and not self._waiting and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _control(self, kind: int, flags: int, payload: bytes, stream: int) -> None:
        if kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
            self._send(0)
        elif kind == SETTINGS and not flags & ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == 4:
                    self._stream_window = value
            self._transport.write(_frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, ACK, 0, payload))
        elif kind in (RST_STREAM, GOAWAY, CONTINUATION):
            self._fail(f"the server sent frame {kind} on stream {stream}: {payload!r}")

    def _fail(self, what: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(LoadError(what))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _headers(address: str, method: str) -> tuple[bytes, bytes]:
    """The request's header frame, in two pieces around the stream's number (RFC 7541, appendix A for the short
    ones)."""
    block = b"\x83\x86"  # :method POST, :scheme http
    block += b"\x04" + _text(b"/" + method.encode()) + b"\x01" + _text(address.encode())  # :path, :authority
    block += b"\x0f\x10" + _text(b"application/grpc")  # content-type
    block += b"\x00" + _text(b"te") + _text(b"trailers") + b"\x00" + _text(b"grpc-timeout") + _text(b"60S")
    return len(block).to_bytes(3, "big") + bytes((HEADERS, END_HEADERS)), block


def _data_parts(request: bytes) -> tuple[list[tuple[bytes, bytes]], int]:
    """The data frames of a request, each in two pieces around the stream's number, and their size together."""
    message = b"\0" + len(request).to_bytes(4, "big") + request
    parts = []
    for at in range(0, len(message), FRAME_BYTES):
        piece = message[at : at + FRAME_BYTES]
        last = END_STREAM if at + FRAME_BYTES >= len(message) else 0
        parts.append((len(piece).to_bytes(3, "big") + bytes((DATA, last)), piece))
    return parts, len(message)


def _window_update(size: int) -> bytes:
    return _frame(WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))


def _text(value: bytes) -> bytes:
    """A string without Huffman code (RFC 7541, 5.2)."""
    if len(value) > 126:
        raise LoadError(f"{value!r} is longer than the 126 bytes that this generator writes")
    return bytes((len(value),)) + value
