"""Layers of caches: the order between them, failures that stay with their own purge, second purges on a clock of the
test's own."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.purge.caches import MAX_TAGS_BYTES, Caches, tag_purges
from libs.purge.client import Purge
from libs.purge.hostile_cache import running
from wellspring.config.v1 import propagation_pb2

VARNISH = propagation_pb2.CacheTarget.KIND_VARNISH


def target(name, *urls, rebound=0.0, **options):
    found = propagation_pb2.CacheTarget(name=name, urls=urls, **{"max_concurrency": 32, "pipeline": 32, **options})
    found.timeout.FromMilliseconds(300)
    found.rebound.FromNanoseconds(int(rebound * 1e9))
    return found


class Site:
    """Named caches that write into one journal, and the time that was slept."""

    def __init__(self):
        self.journal, self.caches, self.now = [], {}, 0.0

    async def sleep(self, seconds):
        self.now += seconds
        self.journal.append(f"slept until {self.now:g}")


def site(test, **layers):
    """Runs `test(site, caches)`; `layers` are options of each cache, inner before outer; `instances` how many."""

    async def main():
        async with AsyncExitStack() as stack:
            world, targets = Site(), []
            for name, options in layers.items():
                count = options.pop("instances", 1)
                world.caches[name] = [
                    await stack.enter_async_context(
                        running(journal=lambda line, name=name: world.journal.append(f"{name} {line.split()[1]}"))
                    )
                    for _ in range(count)
                ]
                targets.append(target(name, *(cache.url for cache in world.caches[name]), **options))
            caches = Caches(Caches.of(targets).layers, world.sleep)
            stack.push_async_callback(caches.close)
            await test(world, caches)

    asyncio.run(main())


def test_inner_caches_are_purged_wholly_before_outer_ones():
    async def test(world, caches):
        assert await caches.purge([Purge(f"/{n}") for n in range(100)]) == {}
        assert [line.split()[0] for line in world.journal] == ["gateway"] * 200 + ["varnish"] * 100 + ["edge"] * 300

    site(test, gateway={"instances": 2}, varnish={"kind": VARNISH}, edge={"instances": 3})


def test_what_an_inner_cache_refused_does_not_reach_the_outer_ones():
    async def test(world, caches):
        world.caches["gateway"][1].plan = {2: 500}
        world.caches["varnish"][0].plan = {2: 503}
        failed = await caches.purge([Purge(f"/{n}") for n in range(4)])
        assert {index: str(error).split(" (")[0] for index, error in failed.items()} == {
            1: "cache gateway",
            2: "cache varnish",
        }
        assert [line for line in world.journal if "edge" in line] == ["edge /0", "edge /3"]

    site(test, gateway={"instances": 2}, varnish={}, edge={})


def test_a_cache_that_is_down_stops_what_is_outside_it():
    async def test(world, caches):
        world.caches["gateway"][0].always = "hang"
        assert sorted(await caches.purge([Purge("/1"), Purge("/2")])) == [0, 1]
        assert not any("edge" in line for line in world.journal)

    site(test, gateway={}, edge={})


def test_an_operator_hears_of_each_cache():
    async def test(world, caches):
        world.caches["gateway"][0].always = 500
        (gateway, failed), (edge, none) = await caches.purge_each([Purge("/1")])
        assert (gateway, edge, none) == ("gateway", "edge", {})
        assert str(failed[0]).endswith(": PURGE /1 answered 500")

    site(test, gateway={}, edge={})


def test_a_rebound_purges_again_from_its_cache_outwards_and_only_then_is_it_done():
    async def test(world, caches):
        assert await caches.purge([Purge("/1")]) == {}
        assert world.journal == ["a /1", "b /1", "c /1", "d /1"] + ["slept until 2", "c /1", "d /1"] + [
            "slept until 10",
            "b /1",
            "c /1",
            "d /1",
        ]

    site(test, a={}, b={"rebound": 10}, c={"rebound": 2}, d={"rebound": 10})


def test_a_rebound_that_is_not_acknowledged_is_a_failure():
    async def test(world, caches):
        world.caches["edge"][0].plan = {3: 500}
        failed = await caches.purge([Purge("/1"), Purge("/2")])
        assert list(failed) == [0] and "edge" in str(failed[0])

    site(test, gateway={}, edge={"rebound": 1})


def test_a_rebound_is_not_waited_for_when_all_failed():
    async def test(world, caches):
        world.caches["edge"][0].always = 500
        assert await caches.purge([Purge("/1")])
        assert world.now == 0

    site(test, edge={"rebound": 1})


def test_a_purge_may_begin_at_a_named_cache():
    async def test(world, caches):
        assert await caches.purge([Purge("/1")], begin="varnish") == {}
        assert world.journal == ["varnish /1", "edge /1"]
        with pytest.raises(ValueError, match="no cache 'x'; there are: gateway, varnish, edge"):
            await caches.purge([Purge("/1")], begin="x")

    site(test, gateway={"rebound": 5}, varnish={}, edge={})


def test_no_purges_and_no_caches():
    async def test(world, caches):
        assert await caches.purge([]) == {} and await caches.purge([Purge("/1")]) == {}

    site(test)


def test_each_kind_has_its_header_and_limits():
    first, second = Caches.of(
        [
            target("gateway", "http://a:1", max_concurrency=64, pipeline=32, host="wiki"),
            target("varnish", "http://b:1", kind=VARNISH, max_concurrency=4, pipeline=32),
        ]
    ).layers
    a, b = first.instances[0].instance, second.instances[0].instance
    assert (a.tags_header, a.connections, a.depth, a.host) == ("Xkey", 2, 32, "wiki")
    assert (b.tags_header, b.connections, b.depth, b.timeout_s) == ("Xkey-Purge", 1, 4, 0.3)


@pytest.mark.parametrize(
    ("targets", "what"),
    [
        ([target("a", "http://x:1"), target("a", "http://x:2")], r"caches\[1\]\.name: 'a' is in caches\[0\]\.name"),
        ([target("a", "http://x:1"), target("b", "http://x:1/")], r"caches\[1\]\.urls: 'http://x:1' is in caches\[0\]"),
        ([target("a", "https://x")], r"caches\[0\]\.urls: a cache's url is http://host:port, not 'https://x'"),
    ],
)
def test_a_wrong_configuration_is_named(targets, what):
    with pytest.raises(ValueError, match=what):
        Caches.of(targets)


@given(st.lists(st.text("abc", min_size=1, max_size=3000)))
def test_tags_go_together_each_once(tags):
    purges = tag_purges(tags, b"v" * 16)
    assert [tag for purge in purges for tag in purge.tags] == list(dict.fromkeys(tags))
    assert all(len(" ".join(p.tags)) <= MAX_TAGS_BYTES for p in purges)
    assert all(p.min_version == b"v" * 16 for p in purges)
