"""A development server: HTTP/1.1 to ASGI, one request a connection, so that the example runs with nothing installed.

It is small, not fit for the open network: run an application behind uvicorn, hypercorn or granian.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from wellspring_client.asgi import App, Message

_HEAD_BYTES: Final = 32 << 10
_BODY_BYTES: Final = 1 << 20
_PATIENCE_S: Final = 30.0


@contextlib.asynccontextmanager
async def serving(app: App, host: str, port: int) -> AsyncIterator[int]:
    """The port that ``app`` is served at (0: any that is free), within ASGI's lifespan. Raises OSError."""
    told: asyncio.Queue[Message] = asyncio.Queue(2)
    began = asyncio.Event()

    async def answer(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            began.set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_PATIENCE_S):
                await _one(app, reader, writer)
        writer.close()

    async with asyncio.TaskGroup() as group:
        await told.put({"type": "lifespan.startup"})
        group.create_task(_lifespan(app, told, answer))
        await began.wait()
        server = await asyncio.start_server(connection, host, port, limit=_HEAD_BYTES)
        async with server:
            yield server.sockets[0].getsockname()[1]
        await told.put({"type": "lifespan.shutdown"})


async def _lifespan(app: App, told: asyncio.Queue[Message], answer: Any) -> None:
    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, told.get, answer)


async def _one(app: App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, and its answer."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        pairs = [line.partition(":") for line in lines[1:] if line]
        headers = [(name.strip().lower().encode(), value.strip().encode("latin-1")) for name, _, value in pairs]
        size = int(dict(headers).get(b"content-length", b"0"))
        if not 0 <= size <= _BODY_BYTES or b"transfer-encoding" in dict(headers):
            raise ValueError("only bodies of a stated, small length are taken")
    except (ValueError, asyncio.LimitOverrunError):
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        return
    path, _, query = target.partition("?")
    body = await reader.readexactly(size)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            writer.write(f"HTTP/1.1 {message['status']} \r\nconnection: close\r\n".encode())
            writer.write(b"".join(b"%b: %b\r\n" % pair for pair in message.get("headers", ())) + b"\r\n")
        else:
            writer.write(message.get("body", b""))
            await writer.drain()

    scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "method": method, "path": path}
    scope |= {"query_string": query.encode(), "scheme": "http", "headers": headers}
    await app(scope | {"client": writer.get_extra_info("peername")}, receive, send)
