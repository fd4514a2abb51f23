"""Views over several shards that depend on each other's outputs: nothing is missed, and no root ends too early.

Run one seed by: WIKI_SEED=<seed> pytest across_test.py
"""

import asyncio
import os
from contextlib import asynccontextmanager
from random import Random

import pytest

from services.propagation.fleet.testing.stories import day, working
from services.propagation.fleet.testing.wiki import BOARDS, FINISHED, PAGES, SOURCES, wiki
from wellspring.propagation.v1 import propagation_pb2 as pb

SEEDS = [int(os.environ["WIKI_SEED"])] if "WIKI_SEED" in os.environ else range(2)


async def move(site, rng):
    """A shard is taken from the engine that leads it, which hears of it later: what it has not made durable is lost."""
    number = rng.randrange(len(site.fleet.logs))
    former = next(engine for engine in site.engines if number in engine.shards.own)
    heir = rng.choice([engine for engine in site.engines if engine is not former])
    await heir.lead(number)
    await asyncio.sleep(rng.choice((0, 0.01)))
    await former.lose(number)


def moving(seed, times):
    """So many moves after each step."""
    accidents = Random(seed)

    @asynccontextmanager
    async def beside(site, step):
        yield
        for _ in range(times):
            await asyncio.sleep(accidents.choice((0, 0.003, 0.02)))
            await move(site, accidents)

    return beside


def play(seed, shards, engines, moves):
    """A day on so many shards and engines."""
    return asyncio.run(day(seed, shards, engines, moving(seed, moves), synced=not moves))


@pytest.mark.parametrize("seed", SEEDS)
def test_several_shards_over_moves_end_as_one_does(seed):
    print("seed", seed)
    alone = play(seed, 1, 1, 0)
    assert set(alone.published.values()) == {pb.Root.STATE_DONE}
    for shards, engines, moves in ((4, 1, 0), (4, 2, 2)):
        assert play(seed, shards, engines, moves) == alone, (shards, engines, moves)


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
