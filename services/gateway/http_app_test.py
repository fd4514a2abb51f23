"""The readers' side over real sockets, with an origin that the test steers."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from services.gateway.domain.cache import Page, PageCache
from services.gateway.domain.reads import ReadCounts
from services.gateway.domain.routes import Route
from services.gateway.http_app import Gateway, HttpOptions, parse_networks
from services.gateway.origin import OriginUnavailable


def version(n):
    return n.to_bytes(16, "big")


class SteeredOrigin:
    def __init__(self):
        self.pages: dict[bytes, Page] = {}
        self.reads = 0
        self.strong_pages: dict[bytes, Page] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading = asyncio.Event()
        self.up = True

    async def fetch(self, target, *, strong):
        self.reads += 1
        self.reading.set()
        page = (strong and self.strong_pages.get(target.record)) or self.pages.get(target.record)
        await self.gate.wait()
        if not self.up:
            raise OriginUnavailable("storage cannot be reached")
        return page

    async def healthy(self):
        return self.up

    def put(self, name, n, tags=()):
        self.pages[f"p/{name}".encode()] = Page(f"{name} {n}".encode(), "text/html", f"e{n}", version(n), tags)


class Client:
    def __init__(self, session, port):
        self.session, self.port = session, port

    async def __call__(self, method, path, **headers):
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        async with self.session.request(method, url, headers=headers) as r:
            return r.status, await r.read(), r.headers


def served(test, **options):
    async def main():
        origin = SteeredOrigin()
        gateway = Gateway(
            origin,
            PageCache(1 << 20, 60),
            HttpOptions(**{"routes": (Route("/wiki/", "html", "p/"),), **options}),
        )
        origin.gateway = gateway
        runner = web.AppRunner(gateway.app(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            async with aiohttp.ClientSession() as session:
                await asyncio.wait_for(test(origin, Client(session, runner.addresses[0][1])), 120)
        finally:
            await runner.cleanup()

    asyncio.run(main())


def test_a_page_is_read_once_and_then_kept_until_purged():
    async def test(origin, http):
        origin.put("A", 1, ("t1", "t2"))
        status, body, headers = await http("GET", "/wiki/A")
        assert (status, body, headers["X-Cache"]) == (200, b"A 1", "MISS")
        assert headers["ETag"] == '"e1"' and headers["X-Wellspring-Version"] == version(1).hex()
        assert headers["Surrogate-Key"] == headers["Xkey"] == "t1 t2"
        origin.put("A", 2)
        assert (await http("GET", "/wiki/A"))[1] == b"A 1"
        status, body, _ = await http("PURGE", "/wiki/A", X_Min_Version=version(2).hex())
        assert (status, body) == (200, b'{"purged": 1}')
        assert (await http("GET", "/wiki/A"))[1] == b"A 2"
        assert origin.reads == 2

    served(test)


def test_purge_by_tag_with_a_minimum():
    async def test(origin, http):
        for number, name in enumerate("ABC", 1):
            origin.put(name, number, ("t",))
            await http("GET", f"/wiki/{name}")
        assert (await http("PURGE", "/", Xkey="t", X_Min_Version=version(2).hex()))[1] == b'{"purged": 1}'
        assert [(await http("GET", f"/wiki/{name}"))[2]["X-Cache"] for name in "ABC"] == ["MISS", "HIT", "HIT"]
        assert (await http("PURGE", "/", Xkey="t", X_Min_Version="1234"))[0] == 400

    served(test)


def test_purge_by_tag():
    async def test(origin, http):
        origin.put("A", 1, ("t",))
        origin.put("B", 1)
        for name in "AB":
            await http("GET", f"/wiki/{name}")
        assert (await http("PURGE", "/", Xkey="t other"))[1] == b'{"purged": 1}'
        assert [(await http("GET", f"/wiki/{name}"))[2]["X-Cache"] for name in "AB"] == ["MISS", "HIT"]

    served(test)


def test_conditional_reads():
    async def test(origin, http):
        origin.put("A", 1)
        for header in ['"e1"', 'W/"e1"', '"e0", "e1"', "*"]:
            status, body, headers = await http("GET", "/wiki/A", If_None_Match=header)
            assert (status, body, headers["ETag"]) == (304, b"", '"e1"')
        assert (await http("GET", "/wiki/A", If_None_Match='"e2"'))[0] == 200
        status, body, headers = await http("HEAD", "/wiki/A")
        assert (status, body, headers["Content-Length"]) == (200, b"", "3")

    served(test)


def test_readers_who_wait_for_the_same_page_share_one_read():
    async def test(origin, http):
        origin.put("A", 1)
        origin.gate.clear()
        readers = [asyncio.create_task(http("GET", "/wiki/A")) for _ in range(20)]
        await origin.reading.wait()
        readers[0].cancel()
        await asyncio.sleep(0.05)
        origin.gate.set()
        assert {(await r)[1] for r in readers[1:]} == {b"A 1"}
        assert origin.reads == 1

    served(test)


def test_a_read_that_a_purge_overtook_is_never_what_later_readers_get():
    async def test(origin, http):
        origin.put("A", 1)
        origin.gate.clear()
        early = asyncio.create_task(http("GET", "/wiki/A"))
        await origin.reading.wait()
        origin.put("A", 2)
        await http("PURGE", "/wiki/A", X_Min_Version=version(2).hex())
        origin.gate.set()
        # The early read brought version 1: refused, read again.
        assert (await early)[1] == b"A 2"
        assert (await http("GET", "/wiki/A"))[1] == b"A 2"

    served(test)


def test_a_lagging_replica_is_asked_strongly_and_then_refused():
    async def test(origin, http):
        origin.put("A", 1)
        await http("PURGE", "/wiki/A", X_Min_Version=version(2).hex())
        status, _, headers = await http("GET", "/wiki/A")
        assert status == 503 and headers["Retry-After"] == "1" and headers["Cache-Control"] == "no-store"
        origin.strong_pages[b"p/A"] = Page(b"A 2", "text/html", "e2", version(2))
        assert (await http("GET", "/wiki/A"))[1] == b"A 2"

    served(test)


def test_storage_away_is_said_and_not_kept():
    async def test(origin, http):
        origin.put("A", 1)
        origin.up = False
        assert (await http("GET", "/wiki/A"))[0] == 503
        assert (await http("GET", "/healthz"))[0] == 503
        origin.up = True
        assert (await http("GET", "/wiki/A"))[0] == 200
        assert (await http("GET", "/healthz"))[0] == 200
        assert b'wellspring_gateway_reads_total{cache="miss"} 2.0' in (await http("GET", "/metrics"))[1]

    served(test)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "what"),
    [
        ("GET", "/wiki/none", {}, 404, b"no such page"),
        ("GET", "/elsewhere", {}, 404, b"no route"),
        ("GET", "/wiki/%FF", {}, 400, b"not UTF-8"),
        ("POST", "/wiki/A", {}, 405, b"POST is not served"),
        ("PURGE", "/wiki/A", {"X_Min_Version": "zz"}, 400, b"not hexadecimal"),
        ("PURGE", "/wiki/A", {"X_Min_Version": "00ff"}, 400, b"4 hexadecimal digits; 32"),
        ("PURGE", "/elsewhere", {}, 404, b"no route"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(method, path, headers, status, what):
    async def test(origin, http):
        got, body, answer = await http(method, path, **headers)
        assert got == status and what in body
        assert answer["Content-Type"].startswith("application/problem+json")

    served(test)


def test_purges_from_elsewhere_are_refused():
    async def test(origin, http):
        origin.put("A", 1)
        await http("GET", "/wiki/A")
        assert (await http("PURGE", "/wiki/A"))[0] == 403
        assert (await http("PURGE", "/", Xkey="t"))[0] == 403
        assert (await http("GET", "/wiki/A"))[2]["X-Cache"] == "HIT"

    served(test, purgers=parse_networks(["10.0.0.0/8", "::1/128"]))


def test_reads_are_counted_by_view_and_resource():
    async def test(origin, http):
        counts = origin.gateway.reads = ReadCounts()
        origin.put("A", 1)
        for _ in range(3):
            await http("GET", "/wiki/A")
        await http("HEAD", "/wiki/A")
        await http("GET", "/wiki/none")
        await http("PURGE", "/wiki/A", X_Min_Version=version(2).hex())
        assert (await http("GET", "/wiki/A"))[0] == 503
        assert {
            view: {name: (tally.reads, tally.fresh) for name, tally in names.items()}
            for view, names in counts.take().items()
        } == {"html": {"site/A": (5, 4)}}

    served(test, routes=(Route("/wiki/", "html", "p/", view="html", resource_prefix="site/"),))


@pytest.mark.parametrize("path", ["/wiki/%41%C3%BC", "/wiki/A%c3%bc", "/wiki/A%C3%BC?x=1"])
def test_a_spelling_that_no_purge_would_find_is_not_for_shared_caches(path):
    async def test(origin, http):
        origin.put("Aü", 1)
        _, body, headers = await http("GET", path)
        assert body == "Aü 1".encode() and "s-maxage=0," in headers["Cache-Control"]
        assert "s-maxage=86400," in (await http("GET", "/wiki/A%C3%BC"))[2]["Cache-Control"]

    served(test)
