"""Renderers and caches that misbehave, as HTTP servers of the test's own process: each kind on a port of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Behaviour = Callable[[str, Writer], Awaitable[None]]
"""Answers one request line; whoever wants the connection closed closes it."""

_PIECE: Final = b"x" * (1 << 16)
_HUGE: Final = 10 << 30


async def good(line: str, writer: Writer) -> None:
    """A small page that says what was asked for."""
    await _answer(writer, "200 OK", line.split()[1].encode())


async def nothing(_: str, writer: Writer) -> None:
    """No byte of a page."""
    await _answer(writer, "200 OK", b"")


async def garbage(_: str, writer: Writer) -> None:
    """Bytes that are no HTTP."""
    writer.write(bytes(range(256)) * 8)
    await writer.drain()
    writer.close()


async def huge(_: str, writer: Writer) -> None:
    """Ten gigabytes, as fast as they are taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % _HUGE)
    await _pour(writer, _HUGE // len(_PIECE), _PIECE)


async def endless(_: str, writer: Writer) -> None:
    """As much, in chunks, never having said how much."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    await _pour(writer, _HUGE // len(_PIECE), b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE))


async def endless_headers(_: str, writer: Writer) -> None:
    """Headers without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await _pour(writer, _HUGE // len(_PIECE), b"X-More: " + _PIECE + b"\r\n")


async def never(_: str, writer: Writer) -> None:
    """No answer at all."""


async def trickle(_: str, writer: Writer) -> None:
    """A byte now and then."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _byte in range(1000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


async def cut(_: str, writer: Writer) -> None:
    """Half a page."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def failing(_: str, writer: Writer) -> None:
    """Always an error."""
    await _answer(writer, "500 Internal Server Error", b"out of order")


async def _answer(writer: Writer, status: str, body: bytes) -> None:
    writer.write(
        b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body))
    )
    writer.write(body)
    await writer.drain()


async def _pour(writer: Writer, times: int, piece: bytes) -> None:
    for _ in range(times):
        writer.write(piece)
        await writer.drain()
    writer.close()


class Stub:
    """Serves on a free port of loopback; `behaviour` may be changed at any time, `asked` counts the requests."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.asked = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Its base."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self) -> asyncio.Server:
        """Begins to listen."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _talk(self, reader: Reader, writer: Writer) -> None:
        # Who is asked goes away as he likes, and so does who asks.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                await self.behaviour(head.split(b"\r\n", 1)[0].decode("latin-1"), writer)
        writer.close()


@contextlib.contextmanager
def serving(*stubs: Stub) -> Iterator[None]:
    """The stubs, on a thread of their own."""
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        for stub in stubs:
            await stub.serve()

    loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
