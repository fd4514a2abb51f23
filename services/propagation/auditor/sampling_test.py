"""Looks at samples from outside, on a virtual clock: what is fresh is told, what is stale is found and repaired."""

import asyncio
from collections import Counter
from random import Random

import pytest

from libs.clock.virtual import VirtualClock
from services.propagation.auditor.auditor import Auditor, Outside, SweepOptions
from services.propagation.auditor.fakes import FakeSite, version
from services.propagation.auditor.freshness import RANDOM
from services.propagation.auditor.log_site import LogSite
from services.propagation.auditor.ports import ChangedOutput
from services.propagation.auditor.reservoir import Reservoir
from services.propagation.auditor.sampling import SamplingOptions
from services.propagation.auditor.state import FRESHNESS, StateDirectory

DELAYS = (10.0, 60.0, 300.0)


class Audit:
    def __init__(self, clock, path, per_s=10.0, random_per_s=0.0, repair=True, caches=None, site_of=FakeSite):
        self.clock = clock
        self.site = site_of(clock)
        self.state = StateDirectory(path)
        nonces = iter(range(10**6))
        self.auditor = Auditor(
            Outside(
                self.site.engine,
                self.site.pages,
                self.site.caches if caches is None else caches,
                clock,
                Random(7),
                lambda: f"{next(nonces)}",
                self.state.open(),
            ),
            SamplingOptions(per_s, DELAYS, random_per_s),
            SweepOptions(1_000.0, 3600.0, 0.0),
            repair=repair,
        )
        self.freshness = self.auditor.freshness

    def shares(self):
        return {(r["cache"], r["delay"]): (r["fresh"], r["stale"]) for r in self.freshness.told()["shares"]}


def audited(tmp_path, test, patience_s=0.0, **options):
    clock = VirtualClock()

    async def main():
        audit = Audit(clock, tmp_path / "auditor", **options)
        task = asyncio.create_task(audit.auditor.sampling())
        await clock.sleep(1)
        try:
            await test(audit)
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            audit.state.close()

    clock.run(main(), patience_s=patience_s)


def read(site, name):
    """As a reader does: the cache is filled."""
    for cache in reversed(site.caches):
        cache.serve(f"/wiki/{name}")


@pytest.mark.parametrize("site_of", [FakeSite, LogSite])
def test_n18_a_purge_lost_at_one_edge_is_found_and_repaired(tmp_path, site_of):
    """Within five minutes of the virtual clock; here at the first look. Over a log another owner tells of the edit."""

    async def test(audit):
        site = audit.site
        site.edit("A", b"one")
        read(site, "A")
        if site_of is LogSite:
            await audit.clock.sleep(6)  # the stream has a token by now, and is cut
            site.owners.take_over()
        site.lost_purges = {"outer"}
        newest = site.edit("A", b"two")
        assert site.outer.serve("/wiki/A") < newest == site.inner.serve("/wiki/A")
        changed_s = audit.clock.monotonic()
        while site.outer.serve("/wiki/A") < newest:
            assert audit.clock.monotonic() - changed_s <= 300
            await audit.clock.sleep(1)
        assert site.outer.purges == ["/wiki/A"] and not site.inner.purges
        await audit.clock.sleep(320)
        # The first edit's looks came after the second: they saw what was at least as new as they asked for.
        shares = audit.shares()
        assert shares["outer", "10s"] == (1, 1) and shares["outer", "60s"] == (2, 0) == shares["outer", "300s"]
        assert shares["inner", "10s"] == (2, 0)
        assert audit.freshness.repairs == {("outer", "repaired"): 1}
        (example,) = audit.freshness.told()["examples"]
        assert (example["resource"], example["cache"], example["repaired"]) == ("w/page/A", "outer", True)

    audited(tmp_path, test, site_of=site_of)


def test_inner_caches_are_repaired_before_outer_ones(tmp_path):
    """The outer one, purged first, would take the old page from the inner one again."""

    async def test(audit):
        site = audit.site
        site.edit("A", b"one")
        read(site, "A")
        site.lost_purges = {"outer", "inner"}
        newest = site.edit("A", b"two")
        await audit.clock.sleep(20)
        assert site.outer.serve("/wiki/A") == newest == site.inner.serve("/wiki/A")
        assert len(site.outer.purges) == len(site.inner.purges) == 1

    audited(tmp_path, test)


def test_staleness_is_told_by_the_first_fresh_look(tmp_path):
    async def test(audit):
        site = audit.site
        site.edit("A", b"one")
        read(site, "A")
        site.outer.deaf = True
        site.edit("A", b"two")
        await audit.clock.sleep(30)
        site.outer.deaf = False
        await audit.clock.sleep(300)
        # One edit was stale at 10 s and purged at 60 s, so first seen fresh by nobody until 300 s.
        assert audit.freshness.staleness["outer"].counts == [1, 0, 1, 0]
        assert audit.freshness.staleness["inner"].counts == [2, 0, 0, 0]
        assert audit.freshness.repairs["outer", "failed"] == 1

    audited(tmp_path, test)


def test_a_page_that_is_gone_must_not_be_served_and_one_that_came_must(tmp_path):
    async def test(audit):
        site = audit.site
        site.edit("A", b"one")
        read(site, "A")
        site.outer.negative.add("/wiki/B")
        site.lost_purges = {"outer"}
        site.edit("A", None)
        site.edit("B", b"new")
        assert site.outer.serve("/wiki/A") and site.outer.serve("/wiki/B") is None
        await audit.clock.sleep(20)
        assert site.outer.serve("/wiki/A") is None
        assert site.outer.serve("/wiki/B") is not None
        assert audit.shares()["outer", "10s"][1] == 2

    audited(tmp_path, test)


def test_a_page_that_went_after_it_changed_is_not_missed(tmp_path):
    async def test(audit):
        audit.site.edit("A", b"one")
        await audit.clock.sleep(3)
        audit.site.edit("A", None)
        await audit.clock.sleep(330)
        assert all(stale == 0 for _, stale in audit.shares().values())
        assert not audit.freshness.repairs

    audited(tmp_path, test)


def test_what_cannot_be_judged_is_neither_fresh_nor_stale(tmp_path):
    async def test(audit):
        audit.site.outer.down = True
        audit.site.inner.silent = True
        audit.site.edit("A", b"one")
        await audit.clock.sleep(330)
        rows = audit.freshness.told()["shares"]
        assert {r["fresh_share"] for r in rows} == {None}
        assert sum(r["unreachable"] for r in rows) == 3 == sum(r["unknown"] for r in rows)
        assert audit.freshness.staleness == {} or audit.freshness.staleness["outer"].counts == [0, 0, 0, 1]

    audited(tmp_path, test)


def test_without_repair_it_is_only_told(tmp_path):
    async def test(audit):
        site = audit.site
        site.edit("A", b"one")
        read(site, "A")
        site.lost_purges = {"outer"}
        site.edit("A", b"two")
        await audit.clock.sleep(330)
        assert not site.outer.purges and not audit.freshness.repairs
        assert audit.shares()["outer", "300s"] == (1, 1)

    audited(tmp_path, test, repair=False)


def test_a_store_that_is_behind_its_purges_is_rendered_anew(tmp_path):
    async def test(audit):
        site = audit.site
        site.edit("A", b"one")
        old = site.pages.items[site.place("A")]
        newest = site.edit("A", b"two")
        site.pages.items[site.place("A")] = old  # a backup came back
        read(site, "A")
        await audit.clock.sleep(15)
        assert site.engine.pending == [("html", "w/page/A")]
        site.work()
        await audit.clock.sleep(60)
        assert site.outer.serve("/wiki/A") > newest
        assert len(site.engine.roots) == 1

    audited(tmp_path, test)


def test_pages_that_did_not_change_are_looked_at_too(tmp_path):
    async def test(audit):
        site = audit.site
        await audit.clock.sleep(400)
        for n in range(50):
            site.edit(f"P{n}", b"x")
            read(site, f"P{n}")
        site.outer.kept["/wiki/P7"] = version(0)
        audit.auditor.sampler._window.take()
        await audit.auditor.sweeper.one_turn()
        await audit.clock.sleep(600)
        assert site.outer.serve("/wiki/P7") == site.inner.serve("/wiki/P7")
        fresh, stale = audit.shares()["outer", RANDOM]
        assert stale == 1 and fresh > 300

    audited(tmp_path, test, per_s=0.0, random_per_s=1.0)


def test_the_rate_holds_whatever_changes_and_memory_is_bounded(tmp_path):
    async def test(audit):
        site = audit.site
        for second in range(20):
            for n in range(500):
                site.edit(f"S{second}-{n}", b"x")
            await audit.clock.sleep(1)
        await audit.clock.sleep(20)
        fresh, stale = audit.shares()["inner", "10s"]
        assert stale == 0 and 0.8 * 20 * 4 <= fresh <= 1.1 * 20 * 4 + 4
        assert len(audit.auditor.sampler._due) <= 4 * 22

    audited(tmp_path, test, per_s=4.0)


def test_of_very_many_changes_few_are_listened_to(tmp_path):
    """Five thousand a second for ten seconds; the sample goes on all the time."""

    async def test(audit):
        site = audit.site
        for second in range(10):
            for part in range(10):
                for n in range(500):
                    site.edit(f"S{second}-{part}-{n}", b"x")
                await audit.clock.sleep(0.1)
        await audit.clock.sleep(20)
        assert site.engine.told <= 11 * 1_500
        fresh, stale = audit.shares()["inner", "10s"]
        assert stale == 0 and fresh >= 4 * 5

    audited(tmp_path, test, per_s=4.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_sample_is_uniform(seed):
    print("seed", seed)
    rng = Random(seed)
    counts = Counter()
    for _ in range(4_000):
        reservoir = Reservoir(5, rng)
        for item in range(50):
            reservoir.offer(item)
        counts.update(reservoir.take())
    # 400 expected of each, standard deviation 19.
    assert len(counts) == 50 and all(300 < count < 500 for count in counts.values()), counts


def test_an_engine_that_goes_away_is_followed_again(tmp_path):
    async def test(audit):
        site = audit.site
        site.engine.away = True
        site.edit("A", b"one")
        await audit.clock.sleep(30)
        site.engine.away = False
        await audit.clock.sleep(5)
        site.edit("B", b"one")
        await audit.clock.sleep(20)
        assert audit.shares()["outer", "10s"] == (1, 0)

    audited(tmp_path, test)


def test_a_store_that_is_away_loses_a_look_and_no_more(tmp_path):
    async def test(audit):
        site = audit.site
        site.edit("A", b"one")
        site.pages.away = True
        site.outer.negative.add("/wiki/A")
        await audit.clock.sleep(15)
        assert audit.freshness.skipped == 1
        site.pages.away = False
        site.edit("B", b"one")
        await audit.clock.sleep(15)
        assert audit.shares()["outer", "10s"] == (1, 0)

    audited(tmp_path, test)


def test_a_change_heard_of_late_is_not_looked_at_as_if_it_were_new(tmp_path):
    async def test(audit):
        site = audit.site
        at = site.edit("A", b"one")
        output = site.engine.known["html", "w/page/A"]
        await audit.clock.sleep(0)
        audit.auditor.sampler._window.take()
        hundred_s_ago = audit.clock.time_ns() - 100 * 10**9
        site.engine.tell(ChangedOutput("html", "w/page/A", at, output.hash, hundred_s_ago))
        await audit.clock.sleep(330)
        assert ("inner", "10s") not in audit.shares() and ("inner", "60s") not in audit.shares()
        assert audit.shares()["inner", "300s"] == (1, 0)

    audited(tmp_path, test)


def test_the_report_is_on_disk(tmp_path):
    async def test(audit):
        audit.site.edit("A", b"one")
        await audit.clock.sleep(40)
        told = audit.state.read(FRESHNESS)
        assert told["shares"][0] | {"cache": "", "fresh": 0} == {
            "cache": "",
            "delay": "10s",
            "fresh": 0,
            "stale": 0,
            "unknown": 0,
            "unreachable": 0,
            "fresh_share": 1.0,
        }
        assert told["at_unix_s"] > told["since_unix_s"]

    audited(tmp_path, test, patience_s=0.005)
