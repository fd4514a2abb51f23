"""An engine with rules over topics in memory, and a target that they call: what tests of rules play with."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any, cast

from libs.clock.clock import SystemClock
from services.propagation.domain.engine import Engine
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import View
from services.propagation.rules.caller import TargetsCaller
from services.propagation.rules.memory import MemoryTopics
from services.propagation.rules.rules import Rules
from services.propagation.rules.state import Letter
from services.propagation.store.interface import Store
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk
from services.propagation.targets.targets import Targets

RID = "b7a8a2f2-3b3e-4a34-9a0e-6d6c6c0a3a11"
URI = "https://en.wikipedia.org/wiki/SamplePage"
TOPICS = ("simple_test_rule", "simple_test_rule2", "simple_test_rule3", "kafka_producing_rule", "sample_test_rule")


class Stub:
    """An HTTP server that keeps what it was asked, and answers as it is told, then 200. `gate` holds a call up."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, str], str]] = []
        self.answers: list[int] = []
        self.gate: Callable[[str], Awaitable[object]] | None = None
        self.running = 0
        self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split()
                headers: dict[str, str] = {}
                while (row := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = row.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.calls.append((method, path, headers, body.decode()))
                status = self.answers.pop(0) if self.answers else 200
                self.running += 1
                self.most = max(self.most, self.running)
                if self.gate is not None:
                    await self.gate(path)
                self.running -= 1
                more = "Location: /elsewhere\r\n" if status == 301 else ""
                writer.write(f"HTTP/1.1 {status} x\r\n{more}Content-Length: 2\r\n\r\n{{}}".encode())
        finally:
            writer.close()

    @property
    def chains(self) -> list[str]:
        """What each call said of its cause."""
        return [headers["x-triggered-by"] for _, _, headers, _ in self.calls]

    @property
    def paths(self) -> list[str]:
        """Of each call."""
        return [path for _, path, _, _ in self.calls]


class Site:
    """An engine with rules, over a disk that survives it. In rules, PORT stands for the stub's."""

    def __init__(self, disk: MemoryDisk, topics: MemoryTopics, stub: Stub, port: int) -> None:
        self.disk, self.topics, self.stub, self.port = disk, topics, stub, port
        rng = Random(1)  # noqa: S311  a test
        view = View("html", ("w/page/",))
        self.engine = Engine(cast("Store", MemoryStore(disk)), SystemClock(), rng, Settings(), [view], 1)
        self.rules = Rules(self.engine, TargetsCaller(Targets()), SystemClock(), rng, [topics], topics)

    async def put(self, rules: Mapping[str, object]) -> None:
        """Puts the rules in force."""
        text = json.dumps({"service": "changeprop", "rules": rules}).replace("PORT", str(self.port))
        await self.rules.put(text)

    async def idle(self) -> None:
        """Until everything is done."""
        await self.until(lambda: self.rules.runner.idle)

    async def until(self, condition: Callable[[], object], seconds: float = 120.0) -> None:
        """Until the condition holds. Raises AssertionError when it never does."""
        end = asyncio.get_running_loop().time() + seconds
        while not condition():
            assert asyncio.get_running_loop().time() < end, ("waited too long", self.stub.calls)
            await asyncio.sleep(0.02)

    def letters(self, rule: str = "") -> list[Letter]:
        """The dead letters."""
        return self.rules.query(rule, "", "", "", 100, b"")[0]


Opened = Callable[[], Awaitable[Site]]


@asynccontextmanager
async def lives(
    disk: MemoryDisk | None = None, topics: MemoryTopics | None = None, stub: Stub | None = None
) -> AsyncIterator[Opened]:
    """Opens site after site on the same disk and port; what was not durable is lost between them, as by a kill."""
    disk, topics, stub = disk or MemoryDisk(), topics or MemoryTopics(TOPICS), stub or Stub()
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tasks: list[asyncio.Task[None]] = []

    async def kill() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def opened() -> Site:
        await kill()
        disk.crash()
        site = Site(disk, topics, stub, port)
        tasks.append(asyncio.create_task(site.rules.run()))
        return site

    try:
        yield opened
    finally:
        await kill()
        server.close()


def case(test: Callable[[Site], Awaitable[None]]) -> Callable[[], None]:
    """Runs a test with a site of its own."""

    def run() -> None:
        async def main() -> None:
            async with lives() as opened:
                await test(await opened())

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def event(stream: str = "simple_test_rule", uri: str = URI, **more: object) -> dict[str, Any]:
    """An event with all of its meta."""
    meta = {
        "stream": stream,
        "uri": uri,
        "request_id": RID,
        "id": "1c7c8f5e-0000-1000-8000-000000000000",
        "dt": "2026-11-22T10:00:00Z",
        "domain": "en.wikipedia.org",
    }
    return {"$schema": "event/1.0.0", "meta": meta, **more}


def call_of(path: str, **more: object) -> dict[str, object]:
    """A rule that calls the stub, tried again after 10 ms."""
    plain: dict[str, object] = {"topic": "simple_test_rule", "retry_delay": 10}
    return plain | {"exec": {"uri": f"http://127.0.0.1:PORT{path}"}} | more
