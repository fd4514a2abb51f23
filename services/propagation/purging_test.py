"""PropagationAdmin.Purge over a real server, with caches on sockets."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest

from libs.purge.caches import Caches
from libs.purge.hostile_cache import running
from services.propagation.simulation.serving import served
from wellspring.config.v1 import propagation_pb2
from wellspring.propagation.v1 import propagation_admin_pb2

VERSION = (7).to_bytes(16, "big")
VIEWS = """
views:
  - name: html
    resource_prefixes: [w/page/]
    render: {entry_point: {function: "m:f"}}
    store: {namespace: html}
    purge: {urls: ["/wiki/{path}", "/wiki/{path}?raw"], tags: ["page-{name}"]}
  - name: summary
    resource_prefixes: [w/]
    render: {entry_point: {function: "m:f"}}
    store: {namespace: summaries}
    purge: {urls: ["/api/{name}"]}
  - name: silent
    resource_prefixes: [x/]
    render: {entry_point: {function: "m:f"}}
    store: {namespace: silent}
"""


def purging(test, caches=("gateway", "varnish")):
    """Runs `test(purge, caches)`; `purge` takes the request's fields."""

    async def main():
        async with AsyncExitStack() as stack:
            found = {name: await stack.enter_async_context(running()) for name in caches}
            targets = [propagation_pb2.CacheTarget(name=n, urls=[c.url]) for n, c in found.items()]
            for target in targets:
                target.pipeline = target.max_concurrency = 8
                target.timeout.FromMilliseconds(60_000)
            layers = Caches.of(targets)
            stack.push_async_callback(layers.close)
            site = await stack.enter_async_context(served(caches=layers))
            await site.admin.PutViews(propagation_admin_pb2.PutViewsRequest(yaml=VIEWS))

            async def purge(**fields):
                response = await site.admin.Purge(propagation_admin_pb2.PurgeRequest(**fields))
                return [(result.cache, result.status.code, result.status.message) for result in response.results]

            await test(purge, found)

    asyncio.run(main())


def lines(cache):
    return sorted(headers.get("Xkey", first.split()[1]) for first, headers in cache.seen)


@pytest.mark.parametrize(
    ("fields", "purged"),
    [
        ({"url": "/wiki/A?b"}, ["/wiki/A?b"]),
        ({"url": "https://site.example/wiki/A"}, ["/wiki/A"]),
        ({"tag": "page-A"}, ["page-A"]),
        ({"resource": "w/page/Ä b"}, ["/api/page%2F%C3%84%20b", "/wiki/%C3%84%20b", "/wiki/%C3%84%20b?raw"]),
        ({"resource": "view/summary/w/page/A"}, ["/api/page%2FA"]),
        ({"resource": "w/x"}, ["/api/x"]),
    ],
)
def test_every_cache_is_purged_and_answers_for_itself(fields, purged):
    async def test(purge, caches):
        assert await purge(**fields, min_version=VERSION) == [("gateway", 0, ""), ("varnish", 0, "")]
        for cache in caches.values():
            assert [line for line in lines(cache) if "page-%" not in line] == purged
            assert all(headers["X-Min-Version"] == VERSION.hex() for _, headers in cache.seen)

    purging(test)


def test_the_views_tags_are_purged_too():
    async def test(purge, caches):
        await purge(resource="view/html/w/page/A")
        assert lines(caches["varnish"]) == ["/wiki/A", "/wiki/A?raw", "page-A"]

    purging(test)


def test_a_cache_that_fails_is_named_and_the_others_are_purged():
    async def test(purge, caches):
        caches["gateway"].always = 500
        (inner, code, why), outer = await purge(resource="w/page/A")
        assert (inner, code) == ("gateway", grpc.StatusCode.UNAVAILABLE.value[0])
        assert why == f"cache gateway ({caches['gateway'].url}): PURGE /wiki/A answered 500 (and 3 more)"
        assert outer == ("varnish", 0, "") and len(caches["varnish"].seen) == 4

    purging(test)


@pytest.mark.parametrize(
    ("fields", "code", "what"),
    [
        ({}, "INVALID_ARGUMENT", "target: is not set; one of url, tag, resource"),
        ({"url": ""}, "INVALID_ARGUMENT", "url: is ''"),
        ({"url": "wiki/A"}, "INVALID_ARGUMENT", "a path or a URL"),
        ({"url": "/a b"}, "INVALID_ARGUMENT", "percent-encoded"),
        ({"url": "/a\r\nX: 1"}, "INVALID_ARGUMENT", "percent-encoded"),
        ({"url": "http:///x"}, "INVALID_ARGUMENT", "a path or a URL"),
        ({"url": "/" + "a" * 5000}, "INVALID_ARGUMENT", "4,096 are allowed"),
        ({"tag": "a b"}, "INVALID_ARGUMENT", "without blanks"),
        ({"tag": "ü"}, "INVALID_ARGUMENT", "printable ASCII"),
        ({"resource": "a\x00"}, "INVALID_ARGUMENT", "resource"),
        ({"url": "/a", "min_version": b"1"}, "INVALID_ARGUMENT", "min_version: has 1 bytes; 16 or none"),
        ({"resource": "nobody/x"}, "NOT_FOUND", "no view covers nobody/x"),
        ({"resource": "view/none/w/page/A"}, "NOT_FOUND", "no view covers"),
        ({"resource": "x/1"}, "NOT_FOUND", "no view purges anything for x/1"),
    ],
)
def test_what_cannot_be_purged_is_said(fields, code, what):
    async def test(purge, caches):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await purge(**fields)
        assert error.value.code().name == code and what in error.value.details()
        assert not any(cache.seen for cache in caches.values())

    purging(test)


def test_an_engine_without_caches_says_so():
    async def test(purge, caches):
        with pytest.raises(grpc.aio.AioRpcError, match="no caches are configured"):
            await purge(url="/a")

    purging(test, caches=())
