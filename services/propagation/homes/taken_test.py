"""What the cache of a data centre keeps of pages that another one renders, in seeded storms.

At home pages become other ones and the same again, are stored once more as they are, come and go. The store here
follows, the link over which the home tells of it is cut at times, and readers here look through a cache whenever they
like: it may keep what nobody here was ever told of. A page that goes, comes back and goes again may be told of as gone
before the store here has what lay between.
"""

import asyncio
import os
from collections import defaultdict
from random import Random
from urllib.parse import unquote

import pytest

from libs.clock.virtual import VirtualClock
from services.propagation.executor.completion import completion_of
from services.propagation.executor.hashing import GONE
from services.propagation.executor.pages import items_of
from services.propagation.executor.ports import Stored
from services.propagation.executor.runtimes import ViewRuntime, make_publisher, make_renderer
from services.propagation.executor.slices import run_slice
from services.propagation.executor.sources import Sources
from services.propagation.homes.fakes import SOME, West, version
from services.propagation.targets.targets import Targets
from services.propagation.work_servicer import WorkServicer
from wellspring.propagation.v1 import work_pb2

FIRST = int(os.environ.get("FIRST", "0"))
COUNT = int(os.environ.get("SEEDS", "40"))
STEPS = 120
PAGES = [f"w/{number}" for number in range(4)]
BODIES = [b"a", b"a", b"b", None]
LEASE_S = 2.0
VIEWS = f"""
views:
  - name: html
    home: east
    resource_prefixes: ["w/"]
    render: {{http: {{url: "http://127.0.0.1:9/{{resource}}"}}}}
    store: {{namespace: html, record: "{{resource}}"}}
    purge: {{urls: ["/{{resource}}"]}}
    lease_time: {LEASE_S}s
"""


class Store:
    """That of this data centre, which is behind by what is `coming`; `anywhere` is what is stored at home."""

    def __init__(self):
        self.here, self.anywhere, self.coming = {}, {}, []

    def put(self, page, number, body):
        """At home."""
        stored = Stored(body, "text/plain", (), version(number)) if body is not None else None
        self.anywhere[page] = stored
        self.coming.append((page, stored))

    def receive(self, count):
        """The oldest of what is coming."""
        for page, stored in self.coming[:count]:
            self.here[page] = stored
        del self.coming[:count]

    async def versions(self, view, resources, *, strong=False):
        """See Replica."""
        found = [(self.anywhere if strong else self.here).get(name) for name in resources]
        return [one.version if one is not None else None for one in found]

    async def stored(self, namespace, item_key, records):
        """See Documents."""
        return [self.here.get(record.decode()) for record in records]


class Cache:
    """Keeps what a reader was given, that there is no page too; `told` are the purges of each page."""

    def __init__(self):
        self.kept, self.told = {}, defaultdict(list)

    def read(self, page, store):
        """As a reader does."""
        stored = store.here.get(page)
        newest = max(self.told[page], default=b"")
        if page not in self.kept and (stored is None or stored.version >= newest):
            self.kept[page] = stored

    async def purge(self, purges):
        """See Caches."""
        for one in purges:
            page = unquote(one.path.removeprefix("/"))
            self.told[page].append(one.min_version)
            kept = self.kept.get(page)
            if kept is None or not one.min_version or kept.version < one.min_version:
                self.kept.pop(page, None)
        return {}


class Storm:
    """A seeded story of this data centre, on a virtual clock."""

    def __init__(self, seed):
        self.rng = Random(seed)
        self.number = 0
        self.last = {}
        self.west, self.store, self.cache = West(), Store(), Cache()
        self.west.replica = self.store
        self.targets = Targets()

    async def live(self, steps, actions):
        """A life of its engine: so many steps."""
        async with self.west.running(VIEWS):
            self.work = WorkServicer(self.west.engine, self.west.catalogue)
            for _ in range(steps):
                action = self.rng.choice(actions)
                await action()
                await asyncio.sleep(self.rng.choice([0.0, 0.01, 0.3, 2.0]))
                self.west.engine.tick()
        self.west.disk.crash()

    async def edit(self):
        """At home some pages are rendered and stored, perhaps as they were; the link tells of it, sooner or later."""
        for page in self.rng.sample(PAGES, self.rng.choice([1, 1, 3])):
            self.put(page, self.rng.choice(BODIES))

    def put(self, page, body):
        """At home."""
        self.number += 1
        self.last[page] = version(self.number)
        self.store.put(page, self.number, body)
        output = page, self.number, SOME if body is not None else GONE
        self.west.home.tell(output)
        self.west.home.listed = [one for one in self.west.home.listed if one[0] != page] + [output]

    async def receive(self):
        """The store here catches up."""
        self.store.receive(self.rng.choice([1, 2, 100]))

    async def read(self):
        """Somebody looks."""
        self.cache.read(self.rng.choice(PAGES), self.store)

    async def cut(self):
        """The link; the store has another one."""
        self.west.home.cut()

    async def mend(self):
        """The link."""
        self.west.home.away = False

    async def execute(self):
        """Some leased pages are taken, purged and told of."""
        await self._execute(lost=False)

    async def lose(self):
        """An executor that is killed: it purged, and its report is lost."""
        await self._execute(lost=True)

    async def _execute(self, lost):
        asked = [work_pb2.LeaseRequest.Capacity(view="html", items=self.rng.choice([1, 10]))]
        leased = self.work.lease_now(work_pb2.LeaseRequest(executor="x", capacity=asked))
        (view,) = self.west.catalogue.for_executors(self.west.catalogue.messages)
        for batch in leased.batches:
            runtime = ViewRuntime(view, make_renderer(view, self.targets), make_publisher(view, self.targets), 1)
            sources = Sources(self.store, "", "", {}, 0)
            report = await run_slice(runtime, items_of(batch), batch, sources, self.store, self.cache)
            if not lost:
                request = work_pb2.CompleteRequest(completions=[completion_of(batch, [report])])
                await self.work.Complete(request, None)

    async def rest(self):
        """All is received, told and taken."""
        await self.mend()
        self.store.receive(len(self.store.coming))
        async with self.west.running(VIEWS) as west:
            self.work = WorkServicer(west.engine, west.catalogue)
            last = f'"{len(west.home.told)}"'
            while west.taking.awaited or last not in (west.kept() or "") or west.engine.shard.roots:
                await self.execute()
                await asyncio.sleep(0.1)
                west.engine.tick()

    def check(self):
        """The cache keeps what is stored, and was told of the newest version of each page, whatever its bytes; of one
        that is gone of that of its end."""
        for page in PAGES:
            stored = self.store.here.get(page)
            newest = max(self.cache.told[page], default=b"")
            about = f"{page}: stored {stored}, told {[one.hex()[-4:] for one in self.cache.told[page]]}"
            assert self.cache.kept.get(page, stored) == stored, f"{about}, kept {self.cache.kept[page]}"
            assert newest == self.last.get(page, b""), about
            assert stored is None or stored.version == newest, about

    def run(self, story):
        """The story on a clock of its own; then the rest, and what must be true."""

        async def whole():
            await story(self)
            await self.rest()
            await self.targets.close()

        clock = VirtualClock()
        self.west.clock = clock
        clock.run(whole())
        self.check()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_seed(seed):
    async def story(storm):
        often = [storm.edit, storm.receive, storm.read, storm.execute]
        for _ in range(4):
            await storm.live(STEPS // 4, [*often, *often, storm.cut, storm.mend, storm.lose])

    storm = Storm(seed)
    storm.run(story)
    assert storm.number > 4 and any(storm.cache.told.values())


@pytest.mark.parametrize("between", [b"b", None], ids=["another one", "none"])
@pytest.mark.parametrize("first", [b"a", None], ids=["a page", "no page"])
def test_what_was_read_of_a_page_that_went_there_and_back_unheard_does_not_stay(first, between):
    async def story(storm):
        page = PAGES[0]
        storm.put(page, first)
        await storm.rest()
        storm.west.home.cut()
        storm.put(page, between)
        storm.store.receive(1)
        storm.cache.read(page, storm.store)
        storm.put(page, first)

    Storm(0).run(story)


def test_a_page_that_came_back_and_went_again_before_the_store_had_the_first_does_not_stay():
    async def story(storm):
        page = PAGES[0]
        storm.put(page, None)
        await storm.rest()
        storm.put(page, b"a")
        storm.put(page, None)
        async with storm.west.running(VIEWS) as west:
            storm.work = WorkServicer(west.engine, west.catalogue)
            async with asyncio.timeout(60):
                while storm.cache.told[page][-1] != version(3):
                    await storm.execute()
                    await asyncio.sleep(0.1)
        storm.west.disk.crash()
        storm.store.receive(1)
        storm.cache.read(page, storm.store)

    Storm(0).run(story)


def test_nothing_is_purged_twice_while_nobody_is_killed():
    async def story(storm):
        await storm.live(STEPS, [storm.edit, storm.receive, storm.read, storm.execute, storm.cut, storm.mend])

    for seed in range(10):
        storm = Storm(seed)
        storm.run(story)
        for page, told in storm.cache.told.items():
            versions = [one for one in told if one]
            assert versions == sorted(set(versions)), page
