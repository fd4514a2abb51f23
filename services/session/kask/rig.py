"""A front over real sockets, in the process of a test, and clients for it."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry
from yarl import URL

from libs.clock.clock import SystemClock
from libs.rpc.listen import parse_address
from services.session.conformance.harness import Service, opened, service
from services.session.domain.guesses import Guesses, GuessLimits
from services.session.domain.opaque import OpaqueValues
from services.session.domain.policy import HOUR, Kind, Policy
from services.session.domain.quotas import Limits, Quotas
from services.session.domain.tools import Tools
from services.session.kask import files
from services.session.kask.callers import Callers, Rule
from services.session.kask.front import Front, FrontOptions
from services.session.kask.health import Health
from services.session.kask.opening import listen
from wellspring.config.v1 import session_pb2 as config_pb

BASE = "/sessions/v1/"
SECRET = "canary-credential-0123456789-0123456789"  # noqa: S105 - looked for in every answer
PATIENCE_S = 120

Answer = tuple[int, bytes, Mapping[str, str]]


class Served:
    """A front and clients for it. `seen` keeps every answer as it came."""

    def __init__(
        self, s: Service, store: Any, front: Front, runner: web.ServerRunner, http: aiohttp.ClientSession
    ) -> None:
        self.s, self.store, self.front, self.http = s, store, front, http
        self.server, self.port = runner.server, runner.addresses[0][1]
        self.registry = CollectorRegistry()
        self.tls: ssl.SSLContext | None = None
        self.seen: list[bytes] = []

    async def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """Status, body and headers of an answer; the path goes as it is."""
        scheme = "https" if self.tls is not None else "http"
        url = URL(f"{scheme}://127.0.0.1:{self.port}{path}", encoded=True)
        if self.tls is not None:
            more.setdefault("ssl", self.tls)
        async with self.http.request(method, url, data=body, **more) as r:
            text = await r.read()
            self.seen.append(bytes(str(r.headers), "utf-8", "replace") + text)
            return r.status, text, r.headers

    async def key(self, method: str, key: str, body: Any = None, **more: Any) -> Answer:
        """As above, of a key."""
        return await self(method, BASE + quote(key, safe=""), body, **more)

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection, for bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def say(self, data: bytes) -> bytes:
        """Bytes in, all bytes that come back until the connection is closed."""
        async with self.raw() as (reader, writer):
            writer.write(data)
            text = b""
            # Closed while more was coming than it reads: the end may be a reset.
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(1 << 16):
                    text += piece
            self.seen.append(text)
            return text


async def until(true: Callable[[], Any]) -> None:
    """Waits for something that the server does not tell."""
    while not true():  # noqa: ASYNC110 - as said
        await asyncio.sleep(0.01)


def served(
    test: Callable[[Served], Awaitable[None]],
    *,
    rules: Sequence[Rule] = (Rule("anonymous", frozenset("*")),),
    credentials: Mapping[bytes, str] | None = None,
    config: Mapping[str, Any] | None = None,
    idle_s: int = 60,
    transfer_ms: int = 60_000,
    guesses: GuessLimits | None = None,
    quotas: Limits | None = None,
    health: Callable[[Tools], Health] | None = None,
    policy: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Runs a test against a front for the realm "wiki", whose limit of size is 100,000 bytes."""
    given = config_pb.KaskFront(realm="wiki", max_connections=64)
    given.MergeFrom(config_pb.KaskFront(**(config or {})))
    given.idle_timeout.FromSeconds(idle_s)
    given.transfer_timeout.FromMilliseconds(transfer_ms)
    given.drain_grace.FromSeconds(1)

    async def main() -> None:
        async with opened("embedded") as store:
            s = await service(store, clock=SystemClock())
            made = Policy(kind=Kind.OPAQUE, ttl_us=HOUR, max_data_bytes=100_000, **(policy or {}))
            await s.tools.realms.create("wiki", made)
            registry = CollectorRegistry()
            options.setdefault("transfer_s", transfer_ms / 1000)
            front = Front(
                OpaqueValues(s.tools),
                Callers(rules, credentials or {}),
                health(s.tools) if health else Health(s.tools, "wiki", lambda: False),
                # In a minute that does not end.
                Guesses(guesses or GuessLimits(), lambda: 1000.0, bytes),
                Quotas(quotas or Limits(), lambda: 1000.0, bytes),
                FrontOptions("wiki", **options),
                registry,
            )
            context = files.tls_context(given)
            runner = await listen(front, given, [parse_address("127.0.0.1:0")], context)
            try:
                async with aiohttp.ClientSession() as http:
                    one = Served(s, store, front, runner, http)
                    one.registry = registry
                    await asyncio.wait_for(test(one), PATIENCE_S)
            finally:
                await runner.cleanup()

    asyncio.run(main())


def problem(answer: Answer, status: int) -> dict[str, Any]:
    """The problem document of an answer, which it must be."""
    code, text, headers = answer
    assert code == status, (code, text)
    assert headers["Content-Type"] == "application/problem+json" and headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = json.loads(text)
    assert set(body) == {"type", "title", "status", "detail", "instance"} and body["status"] == status
    assert body["instance"].startswith("urn:uuid:") and all(body.values())
    return body
