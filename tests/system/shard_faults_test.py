"""Three engines that share three shards, four executors, three brokers: killed and stopped at random while a giant root
runs.

At the end nothing is lost, no effect is doubled (a page's stored versions only rise), and the cache was told of every
page at the version that is stored.
"""

import asyncio
import os
import random
import time

from tests.system import giant_judge, standing
from tests.system.giant_site import Site
from tests.system.shard_fleet import Fleet, kinds

PAGES = int(os.environ.get("PAGES", "200000"))
FAULTS = int(os.environ.get("FAULTS", "8"))
EDITS = int(os.environ.get("EDITS", "1"))
SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
WITHOUT_PROGRESS_S = 120.0
LIMIT_S = float(os.environ.get("LIMIT_S", "800"))
"""A storm that hangs is to say where it stands before whoever runs the test ends it."""


def test_a_giant_root_ends_whole_whichever_engine_executor_or_broker_is_killed_or_stopped(tmp_path):
    given = {"SEED": SEED, "PAGES": PAGES, "FAULTS": FAULTS, "EDITS": EDITS}
    again = " ".join(f"--test_env={name}={value}" for name, value in given.items())
    print(f"to have the same faults again: ./bazelw test //tests/system:shard_faults_test {again}")
    problems = asyncio.run(_storm(tmp_path))
    assert not problems, f"{len(problems)} problems with {given}:\n" + "\n".join(problems[:20])


async def _storm(folder):
    async with Fleet.open(folder) as fleet:
        try:
            async with asyncio.timeout(LIMIT_S):
                return await _problems(fleet)
        except Exception:
            print(await standing.told(fleet))
            raise


async def _problems(fleet):
    rng = random.Random(SEED)
    began = time.monotonic()
    await fleet.until_viewed()
    async with Site.open(fleet.storage.address, fleet.addresses, "", PAGES, SEED + 1) as site:
        print(f"{time.monotonic() - began:5.1f} s: {PAGES:,} pages declared")
        await site.edit_template()
        async with asyncio.TaskGroup() as tasks:
            site.live(tasks, readers=0)
            edits = rng.sample(range(FAULTS), min(EDITS, FAULTS))
            for number, kind in enumerate(kinds(FAULTS, rng)):
                if number in edits:
                    tasks.create_task(site.edit_template())
                await asyncio.sleep(rng.uniform(0.2, 2.0))
                said = await fleet.fault(kind, rng)
                print(f"{time.monotonic() - began:5.1f} s: {said}")
            left = (await site.until_answered(site.client.propagation.admin.status)).pending
            print(f"{time.monotonic() - began:5.1f} s: {left:,} items are left")
            site.stop_editing()
            late = await _quiet(site, fleet)
            site.stop()
        if late:
            print(await standing.told(fleet))
            return late
        print(f"{time.monotonic() - began:5.1f} s: all done")
        stored = await giant_judge.stored_pages(site)
        problems = [*await giant_judge.wrongly_stored(site, stored), *_unpurged(fleet, stored)]
        print(f"{time.monotonic() - began:5.1f} s: judged")
    moved = f"{fleet.moves()} times a shard left an engine that lived"
    print(f"{len(site.ledger.changes)} edits, {fleet.cache.purges:,} purges, {moved}")
    return problems + fleet.complaints()


async def _quiet(site, fleet):
    """Until all is done; whoever has ended meanwhile is started again."""

    async def look_after():
        while True:
            await fleet.revive()
            await asyncio.sleep(0.5)

    looking = asyncio.create_task(look_after())
    try:
        return await giant_judge.quiet(site, WITHOUT_PROGRESS_S)
    finally:
        looking.cancel()


def _unpurged(fleet, stored):
    """Pages that the cache was told of at another version than the stored one."""
    return [
        f"{page}: stored at {version.hex()}, the newest purge said {fleet.cache.purged.get(f'/page/{page}', b'').hex()}"
        for page, (version, _) in stored.items()
        if fleet.cache.purged.get(f"/page/{page}") != version
    ]
