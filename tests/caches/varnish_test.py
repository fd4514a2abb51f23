"""The deployed VCL on a real Varnish: purges by URL and tag, and what is on its way when they come."""

import asyncio

import pytest

from libs.purge.client import Purge
from tests.caches.site import steered, version


def on_site(test, **options):
    async def main():
        async with asyncio.timeout(300), steered(**options) as site:
            await test(site)

    asyncio.run(main())


def test_a_page_is_kept_until_its_url_or_a_tag_is_purged():
    async def test(site):
        for number in (1, 2, 3):
            site.origin.put("A", number, ("t", "u"))
            site.origin.put("B", number, ("u",))
            assert await site.get("/p/A") == (f"A {number}", "MISS") and await site.get("/p/A") == (
                f"A {number}",
                "HIT",
            )
            await site.get("/p/B")
            purge = {1: Purge("/p/A", version(2)), 2: Purge(tags=("none", "t"), min_version=version(3))}
            if number in purge:
                site.origin.put("A", number + 1, ("t", "u"))
                assert await site.caches.purge([purge[number]]) == {}
                assert (await site.get("/p/B"))[1] == "HIT"
                assert await site.get("/p/A") == (f"A {number + 1}", "MISS")
                await site.caches.purge([Purge(tags=("u",))])

    on_site(test)


def test_a_thousand_purges_go_down_a_few_connections():
    async def test(site):
        for number in range(300):
            site.origin.put(str(number), 1, (f"t{number}",))
        await asyncio.gather(*(site.get(f"/p/{n}") for n in range(300)))
        purges = [Purge(f"/p/{n}", version(2)) for n in range(150)]
        purges += [Purge(tags=(f"t{n}",)) for n in range(150, 299)]
        for number in range(300):
            site.origin.put(str(number), 2, (f"t{number}",))
        assert await site.caches.purge(purges) == {}
        bodies = await asyncio.gather(*(site.get(f"/p/{n}") for n in range(300)))
        assert [body for body, _ in bodies] == [f"{n} {2 if n < 299 else 1}" for n in range(300)]

    on_site(test)


def test_n17_a_purge_before_the_write_is_readable_never_ends_stale():
    """The replica that is asked first lags behind; the strong read finds what was written."""

    async def test(site):
        site.origin.put("A", 1)
        site.origin.lagging[b"A"] = site.origin.pages[b"A"]
        assert (await site.get("/p/A"))[0] == "A 1"
        # The purge comes before anything is readable: nothing older than its minimum is served, nor kept.
        assert await site.caches.purge([Purge("/p/A", version(2))]) == {}
        status, _, headers = await site.ask("GET", "/p/A")
        assert status == 503 and headers["Retry-After"]
        site.origin.put("A", 2)  # readable now, by a strong read only
        assert await site.get("/p/A") == ("A 2", "MISS")
        assert await site.get("/p/A") == ("A 2", "HIT")

    on_site(test)


def test_n17_a_fetch_that_was_under_way_when_its_page_was_purged_is_never_kept():
    """It stands in Varnish's own fetch, which Varnish by itself would keep after the purge."""

    async def test(site):
        gate = site.origin.gates[b"A"] = asyncio.Event()
        site.origin.put("A", 1)
        early = asyncio.create_task(site.get("/p/A"))
        await site.origin.reading.get()
        site.origin.put("A", 2)
        # Varnish alone: the gateway has not heard of the purge and will answer its old page.
        purge = asyncio.create_task(site.caches.purge([Purge("/p/A")], begin="varnish"))
        await asyncio.sleep(0.2)
        assert not purge.done()
        gate.set()
        assert (await early)[0] == "A 1" and await purge == {}
        assert (await site.get("/p/A"))[1] == "MISS"
        await site.caches.purge([Purge("/p/A", version(2))])
        assert (await site.get("/p/A"))[0] == "A 2"

    on_site(test)


def test_a_fetch_that_was_under_way_when_a_tag_was_purged_is_fetched_again():
    async def test(site):
        gate = site.origin.gates[b"A"] = asyncio.Event()
        site.origin.put("A", 1, ("t",))
        early = asyncio.create_task(site.get("/p/A"))
        await site.origin.reading.get()
        site.origin.put("A", 2, ("t",))
        assert await site.caches.purge([Purge(tags=("t",))]) == {}
        gate.set()
        assert (await early)[0] == "A 2"
        assert await site.get("/p/A") == ("A 2", "HIT")

    on_site(test)


def test_an_older_page_is_dropped_when_a_newer_one_is_known_to_be():
    async def test(site):
        site.origin.put("A", 10)
        await site.get("/p/A")
        assert await site.get("/p/A", X_Min_Version=version(10).hex()) == ("A 10", "HIT")
        site.origin.put("A", 26)
        assert (await site.get("/p/A", X_Min_Version=version(9).hex()))[1] == "HIT"
        # The gateway still has the old one: what it answers is passed on, and not kept.
        assert await site.get("/p/A", X_Min_Version=version(26).hex()) == ("A 10", "MISS")
        assert (await site.get("/p/A"))[1] == "MISS"
        site.gateway.cache.purge("/p/A")
        assert await site.get("/p/A", X_Min_Version=version(26).hex()) == ("A 26", "MISS")
        assert await site.get("/p/A", X_Min_Version=version(26).hex()) == ("A 26", "HIT")

    on_site(test)


def test_others_may_not_purge_nor_name_a_minimum():
    async def test(site):
        site.origin.put("A", 1)
        await site.get("/p/A")
        failed = await site.caches.purge([Purge("/p/A"), Purge(tags=("t",))], begin="varnish")
        assert [str(error).rpartition(" ")[2] for error in failed.values()] == ["403", "403"]
        assert await site.get("/p/A", X_Min_Version=version(9).hex()) == ("A 1", "HIT")

    on_site(test, purgers='"192.0.2.0"/24;')


def test_cookies_and_names_of_the_site_make_no_difference_spellings_are_not_kept():
    async def test(site):
        site.origin.put("A", 1)
        await site.get("/p/A")
        assert (await site.get("/p/A", Cookie="a=b", Authorization="x", Host="wiki.example"))[1] == "HIT"
        for path in ("/p/%41", "/p/A?x=1"):
            for _ in range(2):
                assert await site.get(path) == ("A 1", "MISS")

    on_site(test)


@pytest.mark.parametrize("method", ["POST", "DELETE", "BREW"])
def test_nothing_else_is_done(method):
    async def test(site):
        assert (await site.ask(method, "/p/A"))[0] == 405

    on_site(test)


def test_errors_are_not_kept_and_an_expired_page_is_asked_for_by_its_etag():
    async def test(site):
        for _ in range(2):
            assert (await site.ask("GET", "/p/none"))[0] == 404
        site.origin.put("none", 1)
        assert await site.get("/p/none") == ("none 1", "MISS")
        status, body, _ = await site.ask("GET", "/p/none", If_None_Match='"e1"')
        assert (status, body) == (304, "")

    on_site(test)


def test_a_varnish_that_is_killed_comes_back_empty_and_purges_fail_until_then():
    async def test(site):
        site.origin.put("A", 1)
        await site.get("/p/A")
        site.origin.put("A", 2)
        await asyncio.to_thread(site.varnish.kill)
        failed = await site.caches.purge([Purge("/p/A", version(2))])
        assert "cache varnish" in str(failed[0]) and "cannot be reached: Connection refused" in str(failed[0])
        await asyncio.to_thread(site.varnish.start)
        assert await site.get("/p/A") == ("A 2", "MISS")
        assert await site.caches.purge([Purge("/p/A", version(2))]) == {}

    on_site(test)


def test_a_varnish_that_hangs_is_named_after_the_time_limit():
    async def test(site):
        site.varnish.pause()
        try:
            failed = await site.caches.purge([Purge("/p/A")])
        finally:
            site.varnish.resume()
        assert "cache varnish" in str(failed[0]) and "no answer in 0.5 s" in str(failed[0])
        while await site.caches.purge([Purge("/p/A")]) != {}:
            pass  # a busy machine may not answer in time, either

    on_site(test, timeout_s=0.5)
