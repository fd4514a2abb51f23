"""Purges against a real server on a socket that misbehaves as told."""

import asyncio

import pytest
import uvloop

from libs.purge.client import Instance, Purge, PurgeClient, purge_of_url
from libs.purge.hostile_cache import running


def purged(test, plan=None, **options):
    async def main():
        async with running(plan) as cache:
            client = PurgeClient(Instance(cache.url, "edge", **options))
            try:
                await test(cache, client)
            finally:
                await client.close()

    uvloop.run(main())


def paths(cache):
    return [first.split()[1] for first, _ in cache.seen]


def test_a_thousand_purges_arrive_on_few_connections():
    async def test(cache, client):
        assert await client.purge([Purge(f"/wiki/{n}", n.to_bytes(16, "big")) for n in range(1000)]) == {}
        assert sorted(int(path[6:]) for path in paths(cache)) == list(range(1000))
        assert all(int(h["X-Min-Version"], 16) == int(f.split()[1][6:]) for f, h in cache.seen)
        assert cache.connections <= 3

    purged(test, connections=3)


@pytest.mark.parametrize(("depth", "connections"), [(1, 1), (7, 2), (32, 4), (1000, 1)])
def test_no_more_are_unanswered_than_allowed(depth, connections):
    async def test(cache, client):
        await asyncio.gather(*(client.purge([Purge(f"/{m}/{n}") for n in range(50)]) for m in range(5)))
        assert len(set(paths(cache))) == 250 == len(cache.seen)
        assert cache.connections <= connections

    purged(test, depth=depth, connections=connections)


def test_tags_and_host():
    async def test(cache, client):
        assert await client.purge([Purge(tags=("a", "b"), min_version=bytes(15) + b"\x01")]) == {}
        assert cache.seen == [
            ("PURGE / HTTP/1.1", {"Host": "wiki.example", "X-Min-Version": "0" * 31 + "1", "Xkey-Purge": "a b"})
        ]

    purged(test, host="wiki.example", tags_header="Xkey-Purge")


def test_a_whole_url_brings_its_host():
    async def test(cache, client):
        assert await client.purge([purge_of_url("https://en.wiki.example/A?b=1"), purge_of_url("/A?b=1")]) == {}
        assert [(first, headers["Host"]) for first, headers in cache.seen] == [
            ("PURGE /A?b=1 HTTP/1.1", "en.wiki.example"),
            ("PURGE /A?b=1 HTTP/1.1", "wiki.example"),
        ]

    purged(test, host="wiki.example")


@pytest.mark.parametrize("what", ["close", "last", "garbage", "408", "twice"])
@pytest.mark.parametrize("at", [1, 5, 10])
def test_a_connection_that_ends_is_replaced_and_nothing_lost(what, at):
    async def test(cache, client):
        assert await client.purge([Purge(f"/{n}") for n in range(10)]) == {}
        assert await client.purge([Purge("/again")]) == {}
        assert set(paths(cache)) == {f"/{n}" for n in range(10)} | {"/again"}

    purged(test, {at: what})


def test_a_cache_that_closes_after_every_answer_gets_them_all():
    async def test(cache, client):
        cache.always = "last"
        assert await client.purge([Purge(f"/{n}") for n in range(40)]) == {}
        assert set(paths(cache)) == {f"/{n}" for n in range(40)}

    purged(test)


def test_an_idle_connection_that_the_cache_closed_is_replaced():
    async def test(cache, client):
        await client.purge([Purge("/1")])
        await asyncio.sleep(0.05)
        assert await client.purge([Purge("/2")]) == {}
        assert paths(cache) == ["/1", "/2"]

    purged(test, {1: "last"})


@pytest.mark.parametrize("status", [302, 403, 405, 500, 503])
def test_a_refused_purge_fails_alone_and_says_which(status):
    async def test(cache, client):
        failed = await client.purge([Purge(f"/{n}") for n in range(5)])
        assert list(failed) == [2]
        assert str(failed[2]) == f"cache edge ({cache.url}): PURGE /2 answered {status}"
        assert "PURGE of tags x y answered" in str((await client.purge([Purge(tags=("x", "y"))]))[0])

    purged(test, {3: status, 6: status})


@pytest.mark.parametrize(
    ("plan", "what"),
    [
        ({3: "hang"}, "no answer in 0.3 s"),
        ({3: "drip"}, "no answer in 0.3 s"),
        ({3: "close", 4: "close"}, "it closed the connection before the answer"),
        ({3: "garbage", 4: "garbage"}, "its answer is not HTTP"),
    ],
)
def test_a_cache_that_does_not_answer_is_a_failure_of_what_it_did_not_answer(plan, what):
    async def test(cache, client):
        failed = await client.purge([Purge(f"/{n}") for n in range(3)])
        assert {index: what in str(error) for index, error in failed.items()} == dict.fromkeys(failed, True)
        assert 2 in failed and cache.url in str(failed[2])
        cache.plan = {}
        async with asyncio.timeout(60):
            while await client.purge([Purge("/after")]) != {}:
                pass  # a busy machine may not answer in time, either

    purged(test, plan, timeout_s=0.3, depth=1)


def test_a_cache_that_hangs_is_not_asked_the_rest():
    async def test(cache, client):
        failed = await client.purge([Purge(f"/{n}") for n in range(100)])
        assert sorted(failed) == list(range(100)) and len(cache.seen) <= 2

    purged(test, {1: "hang", 2: "hang"}, timeout_s=0.2, depth=1, connections=2)


def test_who_gives_up_leaves_no_answers_to_the_next():
    async def test(cache, client):
        asking = asyncio.create_task(client.purge([Purge("/1"), Purge("/2")]))
        async with asyncio.timeout(60):
            while len(cache.seen) < 2:  # noqa: ASYNC110 - the cache tells nobody
                await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await client.purge([Purge("/3")]) == {}
        assert cache.connections == 2

    purged(test, {2: "hang"})


def test_a_cache_without_the_page_has_acknowledged():
    async def test(cache, client):
        assert await client.purge([Purge("/1")]) == {}

    purged(test, {1: 404})


def test_nobody_listens():
    async def main():
        failed = await PurgeClient(Instance("http://127.0.0.1:9", "edge")).purge([Purge("/1"), Purge("/2")])
        assert {str(e) for e in failed.values()} == {
            "cache edge (http://127.0.0.1:9): cannot be reached: Connection refused"
        }
        assert sorted(failed) == [0, 1]

    asyncio.run(main())


@pytest.mark.parametrize(
    "purge",
    [Purge("/a b"), Purge("/a\r\nEvil: 1"), Purge(""), Purge("/ü"), Purge(tags=("a b",)), Purge(tags=("a\n",))]
    + [Purge("/", host="x\r\n"), Purge("/\x7f")],
)
def test_what_would_split_a_request_is_refused_and_the_rest_goes(purge):
    async def test(cache, client):
        failed = await client.purge([Purge("/1"), purge, Purge("/2")])
        assert list(failed) == [1] and "not fit for a purge" in str(failed[1])
        assert paths(cache) == ["/1", "/2"]

    purged(test)


def test_a_name_that_nobody_has():
    async def main():
        failed = await PurgeClient(Instance("http://no-such-cache.invalid:80", timeout_s=20)).purge([Purge("/1")])
        assert str(failed[0]).startswith("cache cache (http://no-such-cache.invalid:80): cannot be reached: ")

    asyncio.run(main())


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x/y", "x:80"])
def test_a_cache_url_must_be_one(url):
    with pytest.raises(ValueError, match="http://host:port"):
        PurgeClient(Instance(url))


@pytest.mark.parametrize("url", ["http://x:port", "http://x:99999", "http://a..b:80"])
def test_nonsense_in_a_url_is_refused_at_the_start(url):
    with pytest.raises(ValueError, match=r"."):
        PurgeClient(Instance(url))
