"""Pages of another data centre taken for all shards: each becomes pending in its own, over moves of the first one."""

import asyncio
from contextlib import asynccontextmanager
from random import Random

from services.propagation.executor.hashing import GONE
from services.propagation.fleet.testing.serving import Fleet, serving
from services.propagation.homes.taking import Taking
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2

SHARDS = 3
HASH = b"h" * 16
PATIENT_S = 60
VIEWS = """
views:
  - name: html
    home: east
    resource_prefixes: ["w/"]
    render: {http: {url: "http://127.0.0.1:9/{resource}"}}
    store: {namespace: html, record: "{name}"}
"""
WIDER = VIEWS.replace('["w/"]', '["w/", "more/"]')


class East:
    """The home, and the store here: pages are told in order, from a token on, and are here, or gone, as soon as they
    are told."""

    def __init__(self):
        self.told = []
        self.gone = False
        self._news = asyncio.Event()

    def tell(self, *names):
        version = bytes([len(self.told)] * 16)
        hashed = GONE if self.gone else HASH
        change = [pb.Change(resource=f"view/html/{name}", version=version) for name in names]
        self.told.append([pb.WatchChangesResponse.Event(change=one, output_hash=hashed) for one in change])
        self._news.set()

    def takings(self, engine, catalogue, begin):
        return [Taking("east", engine, catalogue, self, self, Random(1), begin)]

    async def watch_changes(self, *, resume_token, include_outputs):
        at = int(resume_token or 0)
        yield pb.WatchChangesResponse(resume_token=str(at))
        while True:
            while at < len(self.told):
                at += 1
                yield pb.WatchChangesResponse(events=self.told[at - 1], resume_token=str(at))
            self._news.clear()
            await self._news.wait()

    @property
    def admin(self):
        return self

    async def outputs(self, view):
        for _ in ():
            yield view

    async def versions(self, view, resources, *, strong=False):
        return [None if self.gone else bytes([255] * 16)] * len(resources)


@asynccontextmanager
async def pair():
    """(home, engine that leads the first two shards, that of the third), which have the views."""
    fleet, east = Fleet(SHARDS), East()
    async with serving(fleet, (0, 1), homes=east) as one, serving(fleet, (2,), homes=east) as other:
        await one.stubs.admin.PutViews(admin_pb2.PutViewsRequest(yaml=VIEWS))
        yield east, one, other


async def taken(engine, pages):
    """Waits until so many pages are pending; one that was told twice may be so under two roots."""
    async with asyncio.timeout(PATIENT_S):
        while True:
            status = await engine.stubs.admin.GetStatus(admin_pb2.GetStatusRequest())
            assert status.resources <= pages, "each in its own shard alone"
            if status.resources == pages:
                assert status.pending >= pages
                return status
            await asyncio.sleep(0.05)


async def lent(engines, pages):
    """Takes so many pages, all of one hash; answers with which hashes they were lent, and as of which versions gone."""
    found = {}
    gone = {}
    capacity = [work_pb2.LeaseRequest.Capacity(view="html", items=100)]
    async with asyncio.timeout(PATIENT_S):
        while len(found) < pages:
            for engine in engines:
                answer = await engine.stubs.work.Lease(work_pb2.LeaseRequest(executor="test", capacity=capacity))
                for batch in answer.batches:
                    hashes = batch.accepted_hashes
                    lease = {"lease_id": batch.lease_id, "fencing": batch.fencing}
                    done = work_pb2.Completion(**lease, done=batch.ids, hashes=HASH * (len(hashes) // 16))
                    await engine.stubs.work.Complete(work_pb2.CompleteRequest(completions=[done]))
                    for at, name in enumerate(batch.names.decode().split("\0")):
                        found[name] = hashes[16 * at : 16 * at + 16]
                        gone[name] = batch.gone_versions[16 * at : 16 * at + 16]
            await asyncio.sleep(0.02)
    return set(found.values()), gone


def test_pages_that_are_gone_are_taken_in_each_shard_whatever_they_were_and_others_by_what_they_were():
    async def main():
        async with pair() as (east, one, other):
            names = [f"w/{at}" for at in range(20)]
            assert {one.shards.of(name) for name in names} == set(range(SHARDS))
            none = dict.fromkeys(names, b"")
            east.tell(*names)
            assert await lent((one, other), len(names)) == ({bytes(16)}, none)
            east.tell(*names)
            assert await lent((one, other), len(names)) == ({HASH}, none)
            east.gone = True
            east.tell(*names[:10])
            east.tell(*names[10:])
            ends = {name: bytes([2 if at < 10 else 3] * 16) for at, name in enumerate(names)}
            assert await lent((one, other), len(names)) == ({bytes(16)}, ends)

    asyncio.run(main())


def test_each_page_is_pending_in_its_shard_over_moves_of_the_first_one():
    async def main():
        async with pair() as (east, one, other):
            names = [f"w/{at}" for at in range(60)]
            assert {one.shards.of(name) for name in names} == set(range(SHARDS))
            east.tell(*names[:20])
            status = await taken(other, 20)
            assert [follower.namespace for follower in status.followers] == ["home/east"]
            for at in range(20, 30):
                east.tell(names[at])
            await one.lose(0)
            for at in range(30, 40):
                east.tell(names[at])
            await other.lead(0)
            await taken(one, 40)
            # While a shard is away the others may have their pages; none is lost for it.
            await other.lose(2)
            east.tell(*names[40:50])
            await one.lead(2)
            await taken(one, 50)
            # Who leads the first shard dies with what it took and had not written down: it is told again.
            east.tell(*names[50:])
            await other.die()
            await one.lead(0)
            await taken(one, 60)

    asyncio.run(main())


def test_a_shard_that_has_older_views_is_given_the_new_ones_before_its_pages():
    async def main():
        async with pair() as (east, one, other):
            names = [f"more/{at}" for at in range(30)]
            assert {one.shards.of(name) for name in names} == set(range(SHARDS))
            # The views of the first shard alone, as if the others had been away when they were put.
            catalogue = one.shards.own[0].catalogue
            east.tell(*names)
            await catalogue.put(one.shards.own[0].engine, WIDER)
            await taken(other, 30)

    asyncio.run(main())
