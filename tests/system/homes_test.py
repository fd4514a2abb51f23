"""Propagation in two data centres: a link that is cut, deliveries that are killed and come again."""

import asyncio
import random

from tests.system.homes_renderer import PAGES
from tests.system.homes_world import running
from tools.dev.servers.link import Link


def test_n20_a_data_centre_that_was_cut_off_catches_up_with_no_effect_twice(tmp_path):
    async def story():
        async with running(tmp_path) as site:
            for link in site.links:
                link.cut()
            before = {page: list(site.west.cache.told[f"/{page}"]) for page in PAGES}
            for revision in (2, 3, 4):
                for page in PAGES:
                    await site.edit(page, revision)
                await site.purged(site.east.cache)
            revisions = dict.fromkeys(PAGES, 4)
            await site.shows(revisions, site.east.cache)
            assert {page: site.west.cache.told[f"/{page}"] for page in PAGES} == before, "cut off, it hears nothing"
            for link in site.links:
                link.mend()
            await site.shows(revisions, *site.caches)
            await site.digested(revisions)
            stored = await site.stored()
            for page in PAGES:
                after = site.west.cache.told[f"/{page}"][len(before[page]) :]
                assert after == [stored[page]], "once, for what is newest; what lay between needs nothing"

    asyncio.run(story())


def test_n19_deliveries_that_are_killed_and_repeated_end_with_the_same_versions_in_both(tmp_path):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)

    async def story():
        async with running(tmp_path, "3s") as site:
            revisions = dict.fromkeys(PAGES, 1)
            for _ in range(4):
                for _ in range(30):
                    page = rng.choice(PAGES)
                    revisions[page] += 1
                    await site.edit(page, revisions[page])
                trouble = rng.choice([site.west.engine, site.west.executor, site.east.engine, *site.links])
                if isinstance(trouble, Link):
                    trouble.cut()
                    await asyncio.sleep(rng.uniform(0, 0.5))
                    trouble.mend()
                else:
                    trouble.kill()
                    await asyncio.to_thread(trouble.start)
            await site.at_rest(revisions)

    asyncio.run(story())


def test_pages_that_are_stored_again_with_the_same_bytes_leave_the_caches_of_both(tmp_path):
    async def story():
        async with running(tmp_path) as site:
            before = await site.stored()
            await site.client.propagation.admin.rerender("page", publish_unchanged=True)
            await site.at_rest(dict.fromkeys(PAGES, 1))
            after = await site.stored()
            assert all(after[page] > before[page] for page in PAGES)

    asyncio.run(story())
