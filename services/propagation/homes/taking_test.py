"""What a home tells, in whatever order and however often, becomes pending here once the store here has it; what is not
taken yet is told again after a crash."""

import asyncio
import contextlib
from random import Random

import pytest

from libs.clock.clock import SystemClock
from services.propagation.auditor.addressing import addresses
from services.propagation.domain import listing
from services.propagation.domain.engine import Engine
from services.propagation.domain.shard import Settings
from services.propagation.executor.hashing import GONE
from services.propagation.homes.taking import POSITION, REASON, Taking
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk
from services.propagation.views.catalogue import Catalogue
from services.propagation.views.parsing import Defaults
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring_client.errors import ResumeTokenExpired, Unavailable
from wellspring_client.propagation_admin import Output

HERE, HOME = "west", "east"
VIEWS = """
views:
  - name: html
    home: east
    resource_prefixes: ["w/"]
    render: {http: {url: "http://127.0.0.1:9/{resource}"}}
    store: {namespace: html, record: "{name}"}
  - name: own
    resource_prefixes: ["w/"]
    render: {http: {url: "http://127.0.0.1:9/{resource}"}}
    store: {namespace: own}
"""
PATIENT_S = 60
SOME = b"h" * 16


def version(number):
    """Of a render."""
    return number.to_bytes(16, "big")


class Home:
    """The engine of the other data centre: what it told, by token, and what it lists. Each look at it is scripted."""

    def __init__(self):
        self.told = []
        self.listed = []
        self.listings = 0
        self.forgotten = False
        self.away = False
        self._news = asyncio.Event()

    @property
    def admin(self):
        """Its own."""
        return self

    def tell(self, *outputs, view="html"):
        """One answer: (resource, version, hash) each."""
        self.told.append(
            [
                pb.WatchChangesResponse.Event(
                    change=pb.Change(resource=f"view/{view}/{name}", version=version(number)), output_hash=hashed
                )
                for name, number, hashed in outputs
            ]
        )
        self._news.set()

    async def watch_changes(self, *, resume_token, include_outputs):
        """From the token on; without one, from now on."""
        assert include_outputs
        if self.away:
            raise Unavailable("away", reason="UNAVAILABLE")
        if self.forgotten and resume_token:
            raise ResumeTokenExpired("too old", reason="RESUME_TOKEN_EXPIRED")
        at = int(resume_token) if resume_token else len(self.told)
        yield pb.WatchChangesResponse(resume_token=str(at))
        while True:
            while at < len(self.told):
                at += 1
                yield pb.WatchChangesResponse(events=self.told[at - 1], resume_token=str(at))
            self._news.clear()
            await self._news.wait()

    async def outputs(self, view):
        """Its list."""
        assert view == "html"
        self.listings += 1
        for name, number, hashed in self.listed:
            yield Output(name, hashed, version(number), False, False, False)


class Replica:
    """The store: what this data centre has, and what all together have."""

    def __init__(self):
        self.here = {}
        self.anywhere = {}

    async def versions(self, view, resources, *, strong=False):
        """By resource."""
        assert view.name == "html"
        have = self.anywhere if strong else self.here
        return [version(have[name]) if name in have else None for name in resources]


class West:
    """This data centre, on a disk that outlives it."""

    def __init__(self):
        self.home, self.replica, self.disk = Home(), Replica(), MemoryDisk()

    @contextlib.asynccontextmanager
    async def running(self, views=VIEWS):
        """An engine that takes."""
        store = MemoryStore(self.disk)
        catalogue = Catalogue(store, Defaults(places=(HERE, HOME)))
        engine = Engine(
            store, SystemClock(), Random(1), Settings(), catalogue.views(), catalogue.revision, catalogue.older()
        )
        if catalogue.text != views:
            await catalogue.put(engine, views)
        self.taking = Taking(HOME, engine, catalogue, self.home, self.replica, Random(1))
        self.engine, self.catalogue = engine, catalogue
        task = asyncio.create_task(self.taking.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def roots(self):
        """What became pending: the pages of each root."""
        found = listing.accepted_after(self.engine.shard, 0, 100)
        told = [dict(record.change.attributes) for record in found]
        assert all(one["reason"] == REASON and one["rerender"] == "html" for one in told)
        return [int(one["pages"]) for one in told]

    def kept(self):
        """The position that is written down, or None."""
        found = self.engine.shard.store.get_record(POSITION, HOME.encode())
        return found.decode() if found is not None else None

    async def until(self, condition):
        """It holds."""
        async with asyncio.timeout(PATIENT_S):
            while not condition():  # noqa: ASYNC110  another task's
                await asyncio.sleep(0.001)


def run(story):
    """The story of a data centre."""
    west = West()
    asyncio.run(story(west))


def test_a_page_is_taken_once_the_store_here_has_it():
    async def story(west):
        west.replica.here = {"w/a": 4}
        async with west.running():
            await west.until(lambda: west.kept() is not None and "html" in west.kept())
            before = west.kept()
            west.home.tell(("w/a", 5, SOME))
            await west.until(lambda: west.taking.awaited == 1)
            west.home.tell(("w/b", 6, SOME))
            west.replica.here["w/b"] = 6
            await west.until(lambda: west.roots() == [1])
            assert west.taking.awaited == 1, "the store has an older one"
            assert west.kept() == before, "it is told again after a crash"
            west.replica.here["w/a"] = 5
            await west.until(lambda: west.roots() == [1, 1] and west.kept() != before)
            assert west.taking.awaited == 0

    run(story)


def test_a_page_that_is_gone_is_taken_when_it_is_gone_here():
    async def story(west):
        west.replica.here = {"w/a": 4}
        async with west.running():
            await west.until(lambda: west.kept() is not None)
            west.home.tell(("w/a", 5, GONE))
            await west.until(lambda: west.taking.awaited == 1)
            west.home.tell(("w/b", 6, GONE))
            await west.until(lambda: west.roots() == [1])
            del west.replica.here["w/a"]
            await west.until(lambda: west.roots() == [1, 1])

    run(story)


def test_a_page_that_came_and_went_while_the_store_lagged_is_taken_as_gone():
    async def story(west):
        async with west.running():
            await west.until(lambda: west.kept() is not None)
            west.home.tell(("w/a", 5, SOME))
            await west.until(lambda: west.taking.awaited == 1)
            west.home.tell(("w/a", 7, GONE))
            await west.until(lambda: west.roots() == [1] and not west.taking.awaited)

    run(story)


def test_n19_what_is_told_twice_and_out_of_order_is_pending_once():
    async def story(west):
        async with west.running():
            await west.until(lambda: west.kept() is not None)
            west.home.tell(("w/a", 7, SOME))
            west.home.tell(("w/a", 5, SOME), ("other", 5, SOME))
            west.home.tell(("w/a", 7, SOME))
            west.home.tell(("w/x", 9, SOME), view="own")
            await west.until(lambda: west.taking.awaited == 2)
            west.replica.here = {"w/a": 7, "other": 5}
            await west.until(lambda: not west.taking.awaited)
            assert west.roots() == [1], "a page that the view does not cover has nothing to take"
            west.home.tell(("other", 5, SOME), ("w/a", 7, SOME))
            await west.until(lambda: '"5"' in west.kept())
            assert west.roots() == [1]

    run(story)


def test_what_was_not_taken_is_told_again_after_a_crash():
    async def story(west):
        async with west.running():
            await west.until(lambda: west.kept() is not None and "html" in west.kept())
            west.home.tell(("w/a", 5, SOME))
            await west.until(lambda: west.taking.awaited == 1)
        west.disk.crash()
        west.replica.here = {"w/a": 5}
        async with west.running():
            await west.until(lambda: west.roots() == [1] and '"1"' in west.kept())
            assert west.home.listings == 1

    run(story)


@pytest.mark.parametrize("known", [False, True], ids=["new", "cut off for longer than is told"])
def test_where_nobody_can_tell_what_is_missing_all_pages_are_gone_through(known):
    async def story(west):
        if known:
            async with west.running():
                await west.until(lambda: west.kept() is not None and "html" in west.kept())
            west.home.forgotten = True
        # Rendered last at 9 without a change: the store has it with 3, and here that is on its way still.
        west.home.listed = [("w/a", 9, SOME), ("w/b", 8, GONE), ("w/new", 0, bytes(16))]
        west.replica.anywhere, west.replica.here = {"w/a": 3}, {"w/a": 2, "w/b": 1}
        async with west.running():
            await west.until(lambda: west.taking.awaited == 2)
            assert west.roots() == []
            west.replica.here = {"w/a": 3}
            await west.until(lambda: sum(west.roots()) == 2 and not west.taking.awaited)

    run(story)


def test_a_home_that_is_away_is_waited_for():
    async def story(west):
        west.home.away = True
        async with west.running():
            await west.until(lambda: "Unavailable" in west.taking.state.error)
            west.home.away = False
            west.replica.here = {"w/a": 5}
            await west.until(lambda: west.kept() is not None)
            west.home.tell(("w/a", 5, SOME))
            await west.until(lambda: west.roots() == [1] and not west.taking.state.error)

    run(story)


def test_changes_of_what_is_rendered_elsewhere_make_nothing_pending_here():
    async def story(west):
        async with west.running():
            shard = west.engine.shard
            assert [shard.views.name(number) for number in shard.views.covering("w/a")] == ["own"]
            views = west.catalogue.for_executors(west.catalogue.messages)
            assert [view.render.WhichOneof("kind") for view in views] == ["take", "http"]
            assert list(addresses(views)) == ["own"], "the auditor leaves alone what it cannot judge"

    run(story)
