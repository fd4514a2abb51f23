"""Purges against a real server on a socket that misbehaves as told."""

import asyncio

import pytest
import uvloop

from libs.purge.client import CacheTarget, Purge, PurgeClient, PurgeFailed


class Cache:
    """Reads requests, answers each; `plan` may say for the n-th request: "close", "status", "hang", "garbage"."""

    def __init__(self, plan=None):
        self.plan = plan or {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.most_unanswered = 0

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                first, *lines = head.strip().split("\r\n")
                self.seen.append((first, dict(line.split(": ", 1) for line in lines)))
                what = self.plan.get(len(self.seen), "ok")
                if what == "close":
                    return
                if what == "hang":
                    await asyncio.sleep(60)
                if what == "garbage":
                    writer.write(b"no http at all\r\n\r\n")
                    continue
                status = what if isinstance(what, int) else 200
                body = b"Purged"
                extra = b"Connection: close\r\n" if what == "last" else b""
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), extra, body))
                if what == "last":
                    return
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def purged(test, plan=None, **options):
    async def main():
        cache = Cache(plan)
        server = await asyncio.start_server(cache.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = PurgeClient(CacheTarget(f"http://127.0.0.1:{port}", **options))
        try:
            await test(cache, client)
        finally:
            await client.close()
            server.close()

    uvloop.run(main())


def test_a_thousand_purges_arrive_in_order_on_few_connections():
    async def test(cache, client):
        await client.purge([Purge(f"/wiki/{n}", n.to_bytes(16, "big")) for n in range(1000)])
        assert sorted(int(f.split()[1][6:]) for f, _ in cache.seen) == list(range(1000))
        assert all(int(h["X-Min-Version"], 16) == int(f.split()[1][6:]) for f, h in cache.seen)
        assert cache.connections <= 3

    purged(test, connections=3)


def test_tags_and_host():
    async def test(cache, client):
        await client.purge([Purge(tags=("a", "b"))])
        assert cache.seen == [("PURGE / HTTP/1.1", {"Host": "wiki.example", "Xkey": "a b"})]

    purged(test, host_header="wiki.example")


@pytest.mark.parametrize("plan", [{5: "close"}, {5: "last"}, {5: "garbage"}])
def test_a_connection_that_ends_is_replaced_and_nothing_lost(plan):
    async def test(cache, client):
        await client.purge([Purge(f"/{n}") for n in range(10)])
        await client.purge([Purge("/again")])
        assert {f.split()[1] for f, _ in cache.seen} == {f"/{n}" for n in range(10)} | {"/again"}

    purged(test, plan, connections=1)


def test_an_idle_connection_that_the_cache_closed_is_replaced():
    async def test(cache, client):
        await client.purge([Purge("/1")])
        await asyncio.sleep(0.05)
        await client.purge([Purge("/2")])
        assert [f.split()[1] for f, _ in cache.seen] == ["/1", "/2"]

    purged(test, {1: "last"}, connections=1)


@pytest.mark.parametrize(
    ("plan", "what"),
    [
        ({3: 500}, "answered 500"),
        ({3: 302}, "answered 302"),
        ({3: "hang"}, "no answer"),
        ({3: "close", 6: "close"}, "twice"),
    ],
)
def test_a_cache_that_does_not_acknowledge_is_a_failure(plan, what):
    async def test(cache, client):
        with pytest.raises(PurgeFailed, match=what):
            await client.purge([Purge(f"/{n}") for n in range(3)])
        cache.plan = {}
        await client.purge([Purge("/after")])

    purged(test, plan, connections=1, timeout_s=0.3)


def test_a_cache_without_the_page_has_acknowledged():
    async def test(cache, client):
        await client.purge([Purge("/1")])

    purged(test, {1: 404})


def test_nobody_listens():
    async def main():
        client = PurgeClient(CacheTarget("http://127.0.0.1:9"))
        with pytest.raises(PurgeFailed, match="cache http://127.0.0.1:9"):
            await client.purge([Purge("/1")])

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/a b", "/a\r\nEvil: 1", "", "/ü"])
def test_what_would_split_a_request_is_refused(path):
    with pytest.raises(ValueError, match="percent-encode"):
        PurgeClient(CacheTarget("http://127.0.0.1:9")).request(Purge(path))


def test_a_cache_url_must_be_one():
    with pytest.raises(ValueError, match="http://host:port"):
        PurgeClient(CacheTarget("ftp://x"))
