"""A giant root whose engine and executors are killed and stopped at random, with a real Varnish in front.

At the end nothing is lost, no effect is doubled, no page that Varnish serves is older than its store, and no reader has
seen an older version after a newer one.
"""

import asyncio
import os
import random
import time
from pathlib import Path

from tests.system import giant_judge
from tests.system.giant_platform import VICTIMS, running
from tests.system.giant_site import LEASE_S, Ledger, Site

PAGES = int(os.environ.get("PAGES", "200000"))
FAULTS = int(os.environ.get("FAULTS", "12"))
EDITS = int(os.environ.get("EDITS", "2"))
SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
READERS = 4
WITHOUT_PROGRESS_S = 120.0


def test_a_giant_root_ends_whole_whichever_process_is_killed_or_stopped(tmp_path):
    given = {"SEED": SEED, "PAGES": PAGES, "FAULTS": FAULTS, "EDITS": EDITS}
    again = " ".join(f"--test_env={name}={value}" for name, value in given.items())
    print(f"to have the same faults again: ./bazelw test //tests/system:giant_root_test {again}")
    with running(tmp_path) as (platform, varnish):
        problems = asyncio.run(_storm(platform, varnish))
    assert not problems, f"{len(problems)} problems with {given}:\n" + "\n".join(problems[:20])


async def _storm(platform, varnish):
    rng = random.Random(SEED)
    at = platform.addresses
    async with Site.open(at["storage"], at["propagation"], varnish.url, PAGES, SEED + 1) as site:
        began = time.monotonic()
        await site.edit_template()
        async with asyncio.TaskGroup() as tasks:
            site.live(tasks, READERS)
            edits = rng.sample(range(FAULTS), min(EDITS, FAULTS))
            for number in range(FAULTS):
                if number in edits:
                    tasks.create_task(site.edit_template())
                await asyncio.sleep(rng.uniform(0.5, 3.0) * max(1.0, PAGES / 50_000))
                await _fault(platform, rng)
            left = (await site.until_answered(site.client.propagation.admin.status)).pending
            print(f"{FAULTS} faults and {len(edits) + 1} edits of the template in {time.monotonic() - began:.0f} s")
            site.stop_editing()
            late = await giant_judge.quiet(site, WITHOUT_PROGRESS_S)
            print(f"the {left:,} items that were left were done after {time.monotonic() - began:.0f} s")
            site.stop()
        problems = late or await giant_judge.problems(site)
        ledger = site.ledger
        print(
            f"{len(ledger.changes)} edits, {ledger.reads:,} pages read, {ledger.hits:,} answers out of Varnish's cache"
        )
        print(f"processor seconds since each was last started: {_used(platform)}")
        return problems


def _used(platform):
    """Processor seconds by process (proc(5), stat: utime and stime, in ticks)."""
    used = {}
    for name in platform.layout.processes:
        fields = Path(f"/proc/{platform.pid(name)}/stat").read_text().rpartition(")")[2].split()
        used[name] = round((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
    return used


async def _fault(platform, rng):
    """Kills or stops one or two processes, the engine or executors, and has them back."""
    victims = rng.sample(VICTIMS, rng.choice([1, 1, 2]))
    if rng.random() < 0.5:
        for name in victims:
            await asyncio.to_thread(platform.kill, name)
        await asyncio.sleep(rng.uniform(0.0, 1.0))
        for name in victims:
            await asyncio.to_thread(platform.revive, name, wait=False)
    else:
        for name in victims:
            await asyncio.to_thread(platform.pause, name)
        # Now and then longer than a lease: who wakes up then has lost his.
        await asyncio.sleep(rng.choice([rng.uniform(0.1, 1.0), LEASE_S + rng.uniform(0.1, 1.0)]))
        for name in victims:
            await asyncio.to_thread(platform.resume, name)


def test_readers_who_are_given_an_older_version_are_noticed():
    """The judge's own test: a version, a page or a template that goes back."""
    for older in ((b"\x01", 2, 2), (b"\x02", 1, 2), (b"\x02", 2, 1)):
        ledger = Ledger()
        ledger.note("p", None, (b"\x02", 2, 2))
        ledger.note("p", ledger.shown["p"], (b"\x02", 2, 2))
        assert not ledger.went_back
        ledger.note("p", ledger.shown["p"], older)
        assert len(ledger.went_back) == 1, older
        assert ledger.shown["p"] == (b"\x02", 2, 2)
