"""Views over several shards that depend on each other's outputs: nothing is missed, and no root ends too early.

Run one seed by: WIKI_SEED=<seed> pytest across_test.py
"""

import asyncio
import os
from contextlib import asynccontextmanager
from random import Random

import pytest

from services.propagation.fleet.testing.wiki import BOARDS, FINISHED, PAGES, SOURCES, wiki
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb

SEEDS = [int(os.environ["WIKI_SEED"])] if "WIKI_SEED" in os.environ else range(2)


@asynccontextmanager
async def working(site):
    task = asyncio.create_task(site.work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def move(site, rng):
    """A shard is taken from the engine that leads it, which hears of it later: what it has not made durable is lost."""
    number = rng.randrange(len(site.fleet.logs))
    former = next(engine for engine in site.engines if number in engine.shards.own)
    heir = rng.choice([engine for engine in site.engines if engine is not former])
    await heir.lead(number)
    await asyncio.sleep(rng.choice((0, 0.01)))
    await former.lose(number)


async def play(seed, shards, engines, moves):
    """One story on so many shards and engines; `moves` is how many accidents there are between two steps of it."""
    accidents = Random(seed)
    async with wiki(seed, shards, engines, synced=not moves) as site, asyncio.timeout(240):
        story = site.rng
        if seed % 2:
            await site.declare()
        for page in PAGES + BOARDS:
            await site.edit(page)
        async with working(site):
            for _ in range(12):
                what = story.random()
                if what < 0.6:
                    await site.edit(story.choice(SOURCES))
                elif what < 0.8:
                    page = story.choice(PAGES)
                    site.link("summary", page)
                    await site.edit(page)
                else:
                    board = story.choice(BOARDS)
                    site.link("board", board)
                    await site.edit(board)
                for _ in range(moves):
                    await asyncio.sleep(accidents.choice((0, 0.003, 0.02)))
                    await move(site, accidents)
            while True:
                roots = await site.roots()
                if all(root.state in FINISHED for root in roots):
                    break
                await asyncio.sleep(0.01)
        site.check()
        status = await site.every[0].admin.GetStatus(admin_pb2.GetStatusRequest())
        assert (status.pending, status.dead_letters, status.active_roots) == (0, 0, 0)
        for root in roots:
            assert root.progress.done == root.progress.total, root
        estimates = [await site.estimate(resource) for resource in SOURCES + PAGES + BOARDS]
        published = {root.change.id: root.state for root in roots if root.change.id.startswith("edit")}
        return published, {place: body for place, (_, body) in site.site.stored.items()}, estimates


@pytest.mark.parametrize("seed", SEEDS)
def test_several_shards_over_moves_end_as_one_does(seed):
    print("seed", seed)
    alone = asyncio.run(play(seed, 1, 1, 0))
    assert set(alone[0].values()) == {pb.Root.STATE_DONE}
    for shards, engines, moves in ((4, 1, 0), (4, 2, 2)):
        assert asyncio.run(play(seed, shards, engines, moves)) == alone, (shards, engines, moves)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_root_ends_and_a_page_is_visible_when_all_that_follows_elsewhere_is_done(seed):
    async def main():
        async with wiki(seed, 4, 2, synced=False) as site, asyncio.timeout(120):
            await site.declare()
            for page in PAGES + BOARDS:
                await site.edit(page)
            await site.drained()
            async with working(site):
                for at in range(8):
                    accepted = await site.edit(site.rng.choice(SOURCES))
                    if at % 2:
                        while (await site.root(accepted.root)).state not in FINISHED:  # noqa: ASYNC110
                            await asyncio.sleep(0)
                        site.check()
                        continue
                    board = site.rng.choice(BOARDS)
                    asked = pb.AwaitVisibleRequest(
                        visibility_token=accepted.visibility_token, resource=board, view="board"
                    )
                    seen = await site.chance.choice(site.every).propagation.AwaitVisible(asked, timeout=60)
                    assert seen.visible
                    assert site.site.stored["board", board][1] == shown(site.site, ("board", board))
            await site.drained()

    print("seed", seed)
    asyncio.run(main())


def shown(site, place):
    """The page's bytes if all that it is made of were rendered now."""
    for name, _ in site.reads[place]:
        if name.startswith("view/"):
            _, view, page = name.split("/", 2)
            assert site.stored[view, page][1] == shown(site, (view, page)), name
    return site.render(place)
