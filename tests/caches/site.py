"""A real Varnish with the VCL that is deployed, in front of a gateway: in the test's own process over an origin that
the test steers, or as processes over a real storage service."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from libs.purge.caches import Caches
from services.gateway.domain.cache import Page, PageCache
from services.gateway.domain.routes import Route, Target
from services.gateway.http_app import Gateway, HttpOptions
from tools.dev.servers.varnish import Varnish
from wellspring.config.v1 import propagation_pb2

DEPLOYED = Path(os.path.abspath(__file__)).parents[2] / "deploy/varnish"
TEXT = "text/plain"


def version(number: int) -> bytes:
    """A version as the store has it."""
    return number.to_bytes(16, "big")


def deployed_vcl(purgers: str = '"127.0.0.0"/8;') -> str:
    """The deployed VCL, with the backend to be filled in; purges are taken from `purgers`."""
    text = (DEPLOYED / "site.vcl").read_text(encoding="utf-8")
    for what, by in (
        ('"127.0.0.1";', '"@ORIGIN_HOST@";'),
        ('"8080";', '"@ORIGIN_PORT@";'),
        ('"127.0.0.0"/8;', purgers),
        ("/etc/varnish/", f"{DEPLOYED}/"),
    ):
        if what not in text:
            raise LookupError(f"site.vcl has no {what}")
        text = text.replace(what, by, 1)
    return text


def targets(layers: Mapping[str, str], *, timeout_s: float = 10.0, pipeline: int = 32) -> Caches:
    """Caches by name and URL, inner before outer; the one called "varnish" is of that kind."""
    found = []
    for name, url in layers.items():
        kind = (
            propagation_pb2.CacheTarget.KIND_VARNISH if name == "varnish" else propagation_pb2.CacheTarget.KIND_GATEWAY
        )
        target = propagation_pb2.CacheTarget(name=name, kind=kind, urls=[url], max_concurrency=64, pipeline=pipeline)
        target.timeout.FromNanoseconds(int(timeout_s * 1e9))
        found.append(target)
    return Caches.of(found)


@dataclass
class SteeredOrigin:
    """Pages by record; each read waits at a gate of its record, if there is one, after it has looked."""

    pages: dict[bytes, Page] = field(default_factory=dict)
    lagging: dict[bytes, Page] = field(default_factory=dict)
    gates: dict[bytes, asyncio.Event] = field(default_factory=dict)
    reading: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    async def fetch(self, target: Target, *, strong: bool) -> Page | None:
        """What is there now; of a lagging record, only a strong read sees the newest."""
        found = self.pages.get(target.record)
        if not strong:
            found = self.lagging.get(target.record, found)
        self.reading.put_nowait(target.record)
        gate = self.gates.get(target.record)
        if gate is not None:
            await gate.wait()
        return found

    async def healthy(self) -> bool:
        """Always."""
        return True

    def put(self, name: str, number: int, tags: tuple[str, ...] = ()) -> None:
        """Stores a page whose body says its version."""
        self.pages[name.encode()] = Page(f"{name} {number}".encode(), TEXT, f"e{number}", version(number), tags)


@dataclass
class Site:
    """A steered site. `get` asks Varnish as a reader would."""

    origin: SteeredOrigin
    gateway: Gateway
    gateway_url: str
    varnish: Varnish
    caches: Caches
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """Status, body and headers of an answer of Varnish's."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(f"{self.varnish.url}{path}", encoded=True)
        async with self.http.request(method, url, headers=given) as answer:
            return answer.status, (await answer.read()).decode(), answer.headers

    async def get(self, path: str, **headers: str) -> tuple[str, str]:
        """Body, and HIT or MISS."""
        status, body, told = await self.ask("GET", path, **headers)
        assert status == 200, (status, body)
        return body, told["X-Cache"]


@asynccontextmanager
async def steered(purgers: str = '"127.0.0.0"/8;', timeout_s: float = 10.0) -> AsyncIterator[Site]:
    """Varnish, a gateway with the route /p/NAME, and the origin that the test steers; `timeout_s` is of purges."""
    origin = SteeredOrigin()
    options = HttpOptions((Route("/p/", "html"),))
    gateway = Gateway(origin, PageCache(1 << 22, 3600), options)
    runner = web.AppRunner(gateway.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"127.0.0.1:{runner.addresses[0][1]}"
    varnish = Varnish(address, vcl=deployed_vcl(purgers))
    await asyncio.to_thread(varnish.__enter__)
    caches = targets({"gateway": f"http://{address}", "varnish": varnish.url}, timeout_s=timeout_s)
    try:
        async with aiohttp.ClientSession() as http:
            yield Site(origin, gateway, f"http://{address}", varnish, caches, http)
    finally:
        await caches.close()
        await asyncio.to_thread(varnish.close)
        await runner.cleanup()
