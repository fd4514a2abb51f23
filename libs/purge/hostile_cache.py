"""A cache on a socket for tests: it reads requests, answers each, and misbehaves as told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

Plan = Mapping[int, str | int]


class Cache:
    """`plan` says of the n-th request: a status, "close", "last", "hang", "garbage", "drip", "408" or "twice".

    `seen` are (first line, headers); `journal` is called with each first line.
    """

    def __init__(self, plan: Plan | None = None, journal: Callable[[str], None] = lambda line: None) -> None:
        self.plan: Plan = plan or {}
        self.always: str | int = "ok"
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.url = ""
        self._journal = journal

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one connection until it ends."""
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                self.seen.append((first, dict(line.split(": ", 1) for line in lines)))
                self._journal(first)
                what = self.plan.get(len(self.seen), self.always)
                if not await self._answer(what, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, what: str | int, writer: asyncio.StreamWriter) -> bool:
        if what == "close":
            return False
        if what == "hang":
            await asyncio.sleep(60)
        if what == "drip":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            for _ in range(600):
                writer.write(b"x")
                await asyncio.sleep(0.02)
        if what == "garbage":
            writer.write(b"no http at all\r\n\r\n")
            return True
        if what == "408":
            writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        extra = b"Connection: close\r\n" if what == "last" else b""
        status = what if isinstance(what, int) else 200
        answer = b"HTTP/1.1 %d X\r\nContent-Length: 6\r\n%b\r\nPurged" % (status, extra)
        writer.write(answer * 2 if what == "twice" else answer)
        return what != "last"


@asynccontextmanager
async def running(plan: Plan | None = None, journal: Callable[[str], None] = lambda line: None) -> AsyncIterator[Cache]:
    """A cache that listens on loopback while the block lasts."""
    cache = Cache(plan, journal)
    server = await asyncio.start_server(cache.serve, "127.0.0.1", 0)
    cache.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield cache
    finally:
        server.close()
