"""A wiki's day, for tests: whatever happens to its shards meanwhile, it must end as on one shard that stands still."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

from services.propagation.fleet.testing.wiki import BOARDS, FINISHED, PAGES, SOURCES, Wiki, wiki
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2

STEPS = 12

Beside = Callable[[Wiki, int], AbstractAsyncContextManager[None]]
"""What happens to the shards at a step of the day: before, beside and after its edit."""


class Ending(NamedTuple):
    """What a day leaves: states of roots by edit, bodies by place, what changes would touch, and how many edges are."""

    published: dict[str, int]
    shown: dict[tuple[str, str], bytes]
    estimates: list[Any]
    edges: int


@asynccontextmanager
async def working(site: Wiki) -> AsyncIterator[None]:
    """An executor renders what is leased to it."""
    task = asyncio.create_task(site.work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def day(seed: int, shards: int, engines: int, beside: Beside, *, synced: bool) -> Ending:
    """Plays it. Edits, and the links that change with them, are the seed's alone."""
    async with wiki(seed, shards, engines, synced=synced) as site, asyncio.timeout(240):
        if seed % 2:
            await site.declare()
        for page in PAGES + BOARDS:
            await site.edit(page)
        async with working(site):
            for step in range(STEPS):
                async with beside(site, step):
                    await _step(site)
            while any(root.state not in FINISHED for root in await site.roots()):  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.01)
        return await _ending(site)


async def _step(site: Wiki) -> None:
    story = site.rng
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


async def _ending(site: Wiki) -> Ending:
    site.check()
    status = await site.every[0].admin.GetStatus(admin_pb2.GetStatusRequest())
    assert (status.pending, status.dead_letters, status.active_roots) == (0, 0, 0)
    roots = await site.roots()
    for root in roots:
        assert root.progress.done == root.progress.total, root
    return Ending(
        published={root.change.id: root.state for root in roots if root.change.id.startswith("edit")},
        shown={place: body for place, (_, body) in site.site.stored.items()},
        estimates=[await site.estimate(resource) for resource in SOURCES + PAGES + BOARDS],
        edges=status.edges,
    )
