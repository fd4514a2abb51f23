"""kill -9 of each process in turn while templates are edited and pages are rendered, stored, purged and read.

At the end every page that the gateway serves shows the newest revision of itself and of its templates, no reader has
seen an older page after a newer one, and every write, change and session that was acknowledged is there.
"""

import asyncio
import os
import random
from itertools import islice

from tests.system.kills_site import SERVICES, Site, load, running

KILLS = int(os.environ.get("KILLS", "10"))
SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
PAGES = 200
READERS = 3


def test_nothing_acknowledged_is_lost_whichever_process_is_killed(tmp_path):
    again = f"./bazelw test //tests/system:kills_test --test_env=SEED={SEED} --test_env=KILLS={KILLS}"
    print(f"to have the same kills again: {again}")
    with running(tmp_path) as platform:
        asyncio.run(_storm(platform))


async def _storm(platform):
    rng = random.Random(SEED)
    async with Site.open(platform, random.Random(SEED + 1)) as site:
        await load(site, PAGES)
        async with asyncio.TaskGroup() as tasks:
            site.live(tasks, READERS)
            for name in islice(_turns(rng), KILLS):
                await _kill(platform, name, rng)
            await site.all_healthy()
            site.stop()
        ledger = site.ledger
        print(
            f"{KILLS} kills, {len(ledger.changes)} edits, {ledger.reads} reads, {len(ledger.sessions)} sessions and "
            f"{len(ledger.revoked)} ended"
        )
        problems = await site.problems()
        assert not problems, f"{len(problems)} problems with SEED={SEED} KILLS={KILLS}:\n" + "\n".join(problems[:20])


def _turns(rng):
    """Each process once, in an order of the seed's; then again."""
    while True:
        yield from rng.sample(SERVICES, len(SERVICES))


async def _kill(platform, name, rng):
    """A kill at a moment of the seed's; now and then the next one comes before the process is back."""
    await asyncio.sleep(rng.uniform(0.1, 0.8))
    await asyncio.to_thread(platform.kill, name)
    await asyncio.sleep(rng.uniform(0.0, 0.4))
    await asyncio.to_thread(platform.revive, name, wait=rng.random() < 0.7)
