"""What an edit reaches over several shards is counted as in one: each page once, wherever the way to it leads."""

import asyncio

import grpc
import pytest

from services.propagation.fleet import across, estimated
from services.propagation.fleet.shards import SHARD_HEADER
from services.propagation.fleet.testing.wiki import BOARDS, PAGES, SOURCES, wiki
from wellspring.propagation.v1 import shards_pb2

CHAIN = "w/source/chain"


def reached(reads, resource):
    """(what depends on it, by view; how many pages beyond these), from what all pages read."""
    own = [place for place in reads if place[1] == resource]
    direct = {place for place, names in reads.items() if (resource, "content") in names} | set(own)
    every, ring = set(direct), direct
    while ring:
        outputs = {(f"view/{view}/{name}", "content") for view, name in ring}
        ring = {place for place, names in reads.items() if outputs & set(names)} - every
        every |= ring
    views = {view: sum(of == view for of, _ in direct) for view, _ in direct}
    return views, len(every - direct)


def chained(site):
    """Each page's html is made of that of the one before, and the first of that of the last, too."""
    for before, page in zip(PAGES, PAGES[1:], strict=False):
        site.site.reads["html", page] = [(f"view/html/{before}", "content")]
    site.site.reads["html", PAGES[0]] = [(CHAIN, "content"), (f"view/html/{PAGES[-1]}", "content")]


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("piece", [1, 3, across.MOST_FOLLOWED])
def test_each_page_is_counted_once_whatever_is_followed_at_a_time(shards, piece, monkeypatch):
    monkeypatch.setattr(across, "MOST_FOLLOWED", piece)

    async def main():
        async with wiki(piece, shards, min(shards, 2)) as site:
            chained(site)
            await site.declare()
            for resource in [CHAIN, *SOURCES, *PAGES, *BOARDS]:
                assert await site.estimate(resource) == reached(site.site.reads, resource), resource
            views, beyond = await site.estimate(CHAIN)
            assert views == {"html": 1} and beyond >= len(PAGES) - 1

    asyncio.run(main())


def test_no_more_outputs_are_followed_than_are_allowed(monkeypatch):
    monkeypatch.setattr(estimated, "MOST_FOLLOWED", 2)

    async def main():
        async with wiki(0, 4, 2) as site:
            chained(site)
            await site.declare()
            whole = reached(site.site.reads, CHAIN)[1]
            assert 0 < (await site.estimate(CHAIN))[1] < whole

    asyncio.run(main())


def test_what_no_shard_answered_is_refused():
    async def main():
        async with wiki(0, 2, 1) as site:
            for pages in ([shards_pb2.ReachedPages(reached=b"no")], [shards_pb2.ReachedPages()]):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    asked = shards_pb2.ReachOutputsRequest(begun=True, pages=pages)
                    await site.every[0].across.ReachOutputs(asked, metadata=[(SHARD_HEADER, "1")])
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert "are not what this shard answered" in (refused.value.details() or "")

    asyncio.run(main())
