"""Two data centres whose engines share shards: pages come from their home over the death of whoever takes them."""

import asyncio

import grpc
import pytest

from tests.system.homes_renderer import PAGES
from tests.system.homes_world import PATIENT_S, running
from tools.dev.servers.kafka import Kafka
from wellspring.propagation.v1 import propagation_admin_pb2, propagation_admin_pb2_grpc

SHARD = "wellspring-shard"
"""The metadata by which a call is for one shard alone."""


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        yield kafka


async def leads_the_first(engine):
    """Whether the engine leads the first shard, and takes the pages."""
    async with grpc.aio.insecure_channel(engine.address) as channel:
        status = propagation_admin_pb2_grpc.PropagationAdminStub(channel).GetStatus
        try:
            await status(propagation_admin_pb2.GetStatusRequest(), metadata=[(SHARD, "0")], timeout=PATIENT_S)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.ABORTED, error
            return False
        return True


async def killed(place):
    """Kills whoever leads the first shard; answers it."""
    async with asyncio.timeout(PATIENT_S):
        while True:
            for engine in place.engines:
                if await leads_the_first(engine):
                    engine.kill()
                    return engine
            await asyncio.sleep(0.1)


def test_pages_come_from_their_home_over_the_death_of_whoever_takes_or_renders_them(kafka, tmp_path):
    async def story():
        async with running(tmp_path, "5s", kafka.address, engines=2) as site:
            # Cut off, the west is behind; who is to catch up is killed while it does, and then the home's own.
            for link in site.links:
                link.cut()
            for revision in (2, 3):
                for page in PAGES:
                    await site.edit(page, revision)
            await site.shows(dict.fromkeys(PAGES, 3), site.east.cache)
            for link in site.links:
                link.mend()
            fallen = await killed(site.west)
            for page in PAGES[::2]:
                await site.edit(page, 4)
            revisions = {page: 4 if page in PAGES[::2] else 3 for page in PAGES}
            await site.shows(revisions, *site.caches)
            await site.digested(revisions)
            await asyncio.to_thread(fallen.start)
            fallen = await killed(site.east)
            for page in PAGES[1::2]:
                await site.edit(page, 4)
            revisions = dict.fromkeys(PAGES, 4)
            await site.shows(revisions, *site.caches)
            await site.digested(revisions)
            await asyncio.to_thread(fallen.start)
            await site.at_rest(revisions)

    asyncio.run(story())
