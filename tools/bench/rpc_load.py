"""A load generator for unary gRPC calls over plain HTTP/2 that costs a tenth of what a gRPC client in Python does.

On two cores a generator as dear as the server measures itself. This one knows its requests beforehand: every frame but
the stream's number is built once. It reads of an answer what it needs: a unary call that failed brings no message.
"""

import asyncio
import itertools
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
CONNECTIONS = 8
MESSAGE_HEAD_BYTES = 5
"""Before each gRPC message: whether it is compressed, and its length."""


class LoadError(Exception):
    """The server answered in a way that makes the measurement worthless."""


@dataclass
class Outcome:
    """What a run of calls took: wall seconds, the time of each call in seconds, and the serialised answers, if they
    were to be kept: those of the first call of each connection too."""

    seconds: float
    latencies_s: list[float] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Calls answered well."""
        return len(self.latencies_s)

    def quantile_ms(self, share: float) -> float:
        """The latency that ``share`` of the calls stayed below, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


async def run_load(
    address: str,
    method: str,
    requests: Sequence[bytes],
    *,
    calls: int,
    connections: int = CONNECTIONS,
    streams: int = 8,
    keep_answers: bool = False,
) -> Outcome:
    """Makes ``calls`` unary calls of ``method`` (``package.Service/Method``) with the given serialised requests in
    turn, after one call on each connection that does not count.

    ``connections`` each keep ``streams`` calls under way. Raises LoadError at the first call that fails.
    """
    host, _, port = address.rpartition(":")
    supply = _Supply(requests, calls)
    loop = asyncio.get_running_loop()
    opened = []
    try:
        for _ in range(connections):
            connection = _Connection(address, method, supply, keep_answers=keep_answers)
            await loop.create_connection(partial(_same, connection), host, int(port))
            opened.append(connection)
        await asyncio.gather(*(connection.first_answer() for connection in opened))
        began = time.perf_counter()
        await asyncio.gather(*(connection.run(streams) for connection in opened))
        seconds = time.perf_counter() - began
    finally:
        for connection in opened:
            connection.close()
    latencies_s = [latency for connection in opened for latency in connection.latencies_s]
    return Outcome(seconds, latencies_s, [answer for connection in opened for answer in connection.answers])


def _same(connection: "_Connection") -> "_Connection":
    return connection


class _Supply:
    """The requests of all connections together, as messages on the wire, and how many calls are still to be made."""

    def __init__(self, requests: Sequence[bytes], calls: int) -> None:
        self.next = itertools.cycle([_Message(request) for request in requests]).__next__
        self.calls = calls


class _Message:
    """A request as it goes over the wire, and its frames for when a stream's window holds it whole: each in two pieces
    around the stream's number."""

    __slots__ = ("body", "frames")

    def __init__(self, request: bytes) -> None:
        self.body = b"\0" + len(request).to_bytes(4, "big") + request
        self.frames = []
        for at in range(0, len(self.body), FRAME_BYTES):
            piece = self.body[at : at + FRAME_BYTES]
            last = END_STREAM if at + FRAME_BYTES >= len(self.body) else 0
            self.frames.append((len(piece).to_bytes(3, "big") + bytes((DATA, last)), piece))


class _Connection(asyncio.Protocol):
    """One HTTP/2 connection with a fixed number of calls under way."""

    def __init__(self, address: str, method: str, supply: _Supply, *, keep_answers: bool) -> None:
        self._headers = _headers(address, method)
        self._supply = supply
        self._keep_answers = keep_answers
        self._next_stream = 1
        self._window = FIRST_WINDOW
        self._stream_window = FIRST_WINDOW
        self._unsent: dict[int, _Unsent] = {}
        self._sent_at: dict[int, float] = {}
        self._with_message: dict[int, list[bytes]] = {}
        self._received = b""
        self._unacknowledged = 0
        self._running = False
        self._done: asyncio.Future[None] | None = None
        self.latencies_s: list[float] = []
        self.answers: list[bytes] = []

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
        self._send()
        await asyncio.wait_for(self._done, 60)
        self.latencies_s.clear()

    async def run(self, streams: int) -> None:
        """Keeps ``streams`` calls under way until none are left to send."""
        self._done = asyncio.get_running_loop().create_future()
        self._running = True
        for _ in range(streams):
            if self._supply.calls > 0:
                self._supply.calls -= 1
                self._send()
        if self._sent_at:
            await self._done

    def close(self) -> None:
        """Hangs up."""
        self._done = None
        self._transport.close()

    def _send(self) -> None:
        """Sends the next request, at once when the windows have room for it whole, else as they open."""
        message = self._supply.next()
        stream = self._next_stream
        self._next_stream += 2
        number = stream.to_bytes(4, "big")
        head, block = self._headers
        self._sent_at[stream] = time.perf_counter()
        size = len(message.body)
        if self._unsent or size > self._window or size > self._stream_window:
            self._transport.write(head + number + block)
            self._unsent[stream] = _Unsent(message.body, self._stream_window)
            self._send_rest()
            return
        self._window -= size
        pieces = [head, number, block]
        for start, payload in message.frames:
            pieces += (start, number, payload)
        self._transport.write(b"".join(pieces))

    def _send_rest(self) -> None:
        """Sends of what is unsent as much as the windows hold, the oldest stream first."""
        for stream, unsent in list(self._unsent.items()):
            while (room := min(self._window, unsent.window, FRAME_BYTES)) > 0:
                piece = unsent.body[unsent.at : unsent.at + room]
                unsent.at += len(piece)
                unsent.window -= len(piece)
                self._window -= len(piece)
                ended = unsent.at == len(unsent.body)
                self._transport.write(_frame(DATA, END_STREAM if ended else 0, stream, piece))
                if ended:
                    del self._unsent[stream]
                    break

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
                pieces = self._with_message.setdefault(stream, [])
                if self._keep_answers:
                    pieces.append(received[at - length : at])
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
        pieces = self._with_message.pop(stream)
        if self._keep_answers:
            self.answers.append(b"".join(pieces)[MESSAGE_HEAD_BYTES:])
        self.latencies_s.append(time.perf_counter() - sent_at)
        if self._running and self._supply.calls > 0:
            self._supply.calls -= 1
            self._send()
        elif not self._sent_at and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _control(self, kind: int, flags: int, payload: bytes, stream: int) -> None:
        if kind == WINDOW_UPDATE:
            if stream == 0:
                self._window += int.from_bytes(payload, "big")
            elif stream in self._unsent:
                self._unsent[stream].window += int.from_bytes(payload, "big")
            self._send_rest()
        elif kind == SETTINGS and not flags & ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == 4:
                    for unsent in self._unsent.values():
                        unsent.window += value - self._stream_window
                    self._stream_window = value
            self._send_rest()
            self._transport.write(_frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, ACK, 0, payload))
        elif kind in (RST_STREAM, GOAWAY, CONTINUATION):
            self._fail(f"the server sent frame {kind} on stream {stream}: {payload!r}")

    def _fail(self, what: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(LoadError(what))


class _Unsent:
    """A message of which a part still has to go out, and how much of it its stream's window holds."""

    __slots__ = ("at", "body", "window")

    def __init__(self, body: bytes, window: int) -> None:
        self.body = body
        self.window = window
        self.at = 0


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


def _window_update(size: int) -> bytes:
    return _frame(WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))


def _text(value: bytes) -> bytes:
    """A string without Huffman code (RFC 7541, 5.2)."""
    if len(value) > 126:
        raise LoadError(f"{value!r} is longer than the 126 bytes that this generator writes")
    return bytes((len(value),)) + value
