"""A real Varnish before a gateway, whose purge was swallowed: found from outside, purged, and right again."""

import asyncio
from contextlib import asynccontextmanager
from random import Random

from libs.clock.clock import SystemClock
from libs.purge.client import Purge
from services.propagation.auditor.auditor import Auditor, Outside, SweepOptions
from services.propagation.auditor.fakes import HTML, FakeSite
from services.propagation.auditor.http_caches import HttpCaches
from services.propagation.auditor.sampling import SamplingOptions
from services.propagation.auditor.state import StateDirectory
from tests.caches.site import steered
from wellspring.propagation.v1 import work_pb2

DELAYS = (3.0, 4.0)
"""The first one is longer than a busy machine takes to look before."""


class Rig:
    """The site's engine and store are played; the caches are real. Purges of the executors reach whom a test says."""

    def __init__(self, real, caches, path):
        self.real = real
        self.site = FakeSite(SystemClock())
        self.site.caches = []
        view = work_pb2.View()
        view.CopyFrom(HTML)
        view.purge.urls[:] = ["/p/{name}"]
        self.site.engine.views_ = [view]
        self.auditor = Auditor(
            Outside(
                self.site.engine,
                self.site.pages,
                caches.instances,
                SystemClock(),
                Random(3),
                lambda: "nonce",
                StateDirectory(path).open(),
            ),
            SamplingOptions(1_000.0, DELAYS, 0.0),
            SweepOptions(0.0, 60.0, 1.0),
        )

    async def edit(self, name, *reached):
        """A new version of a page, purged from the caches that are `reached` only."""
        self.real.origin.put(name, self.site.last + 1)
        at = self.site.edit(name, f"{name} {self.site.last + 1}".encode())
        for layer in self.real.caches.layers:
            if layer.name in reached:
                for client in layer.instances:
                    assert await client.purge([Purge(f"/p/{name}", at)]) == {}
        return f"{name} {self.site.last}"

    async def until_read(self, name, body):
        for _ in range(6000):
            if (await self.real.get(f"/p/{name}"))[0] == body:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{name} is not {body}")


def on_rig(tmp_path, test):
    @asynccontextmanager
    async def rigged():
        async with steered() as real:
            caches = HttpCaches(real.caches)
            try:
                yield Rig(real, caches, tmp_path / "auditor")
            finally:
                await caches.close()

    async def main():
        async with asyncio.timeout(300), rigged() as rig:
            await test(rig)

    asyncio.run(main())


def test_a_purge_that_varnish_never_got_is_found_and_repaired(tmp_path):
    async def test(rig):
        old = await rig.edit("A", "gateway", "varnish")
        assert await rig.real.get("/p/A") == (old, "MISS") and await rig.real.get("/p/A") == (old, "HIT")
        sampling = asyncio.create_task(rig.auditor.sampling())
        await asyncio.sleep(0.1)
        new = await rig.edit("A", "gateway")
        assert await rig.real.get("/p/A") == (old, "HIT")
        await rig.until_read("A", new)
        freshness = rig.auditor.freshness
        for _ in range(6000):
            if ("varnish", "4s", "fresh") in freshness.looks:
                break
            await asyncio.sleep(0.05)
        assert freshness.repairs == {("varnish", "repaired"): 1}, freshness.told()
        assert ("gateway", "3s", "stale") not in freshness.looks
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)

    on_rig(tmp_path, test)


def test_old_pages_in_both_caches_are_repaired_from_the_inside_out(tmp_path):
    """By a sweep; the outer one is read first, so that it would keep what the inner one gives it."""

    async def test(rig):
        for name in "ABC":
            old = await rig.edit(name, "gateway", "varnish")
            assert (await rig.real.get(f"/p/{name}"))[0] == old
        newest = {name: await rig.edit(name) for name in "AB"}
        turn = await rig.auditor.sweeper.one_turn()
        counts = turn.tally.counts
        assert (counts["cache_stale"], counts["cache_repaired"], counts["cache_fresh"]) == (4, 4, 2), counts
        for name, body in newest.items():
            assert (await rig.real.get(f"/p/{name}"))[0] == body
        again = (await rig.auditor.sweeper.one_turn()).tally.counts
        assert again["cache_stale"] == 0 and again["cache_fresh"] == 6

    on_rig(tmp_path, test)


def test_a_varnish_that_is_gone_is_told_as_such(tmp_path):
    async def test(rig):
        await rig.edit("A", "gateway", "varnish")
        await asyncio.to_thread(rig.real.varnish.kill)
        counts = (await rig.auditor.sweeper.one_turn()).tally.counts
        assert (counts["cache_unreachable"], counts["cache_fresh"]) == (1, 1)

    on_rig(tmp_path, test)
