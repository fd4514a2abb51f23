"""Two shards, each led by an engine of its own, and one page in either: what is told of one reaches the other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc

from services.propagation.domain.shard import Shard
from services.propagation.fleet.shards import SHARD_HEADER
from services.propagation.fleet.testing.wiki import PAGES, Wiki, wiki
from wellspring.propagation.v1 import propagation_pb2 as pb

T = "w/source/0"


def at(shard: int) -> list[tuple[str, str]]:
    """The metadata of a call of one shard."""
    return [(SHARD_HEADER, str(shard))]


@asynccontextmanager
async def pair(*, declared: bool = True) -> AsyncIterator[tuple[Wiki, str, str]]:
    """(wiki, x, y): the summary of y, in shard 1, reads the html of x, in shard 0, which reads T; nothing else is."""
    async with wiki(0, 2, 2) as site, asyncio.timeout(60):
        of = site.engines[0].shards.of
        x = next(page for page in PAGES if of(page) == 0)
        y = next(page for page in PAGES if of(page) == 1)
        site.site.reads.clear()
        site.site.reads["html", x] = [(T, "content")]
        site.site.reads["summary", y] = [(f"view/html/{x}", "content")]
        if declared:
            await site.declare()
        yield site, x, y


async def state(site: Wiki, change_id: str, shard: int) -> "pb.Root.State.ValueType | None":
    """Of the root in one shard; None where it is not known."""
    for engine in site.engines:
        if shard in engine.shards.own:
            try:
                asked = pb.GetChangeRequest(id=change_id)
                root: pb.Root = await engine.stubs.propagation.GetChange(asked, metadata=at(shard))
                return root.state
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND
                return None
    raise AssertionError(f"nobody leads {shard}")


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    """Ends when it holds."""
    while not await holds():  # noqa: ASYNC110  nobody tells a test
        await asyncio.sleep(0.005)


async def nothing_untold(site: Wiki) -> bool:
    """Whether the first shard has told all."""
    return not any(domain(site, 0).interest.waiting.values())


def domain(site: Wiki, shard: int) -> Shard:
    """The shard as it is led now."""
    return next(engine.shards.own[shard] for engine in site.engines if shard in engine.shards.own).engine.shard
