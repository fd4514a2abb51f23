"""A wiki over several shards whose views depend on each other's outputs of other pages, for tests: summaries show pages
that their own one links to, boards show summaries."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import grpc

from services.propagation.fleet.testing.executor import VIEWS, Executor, declaration
from services.propagation.fleet.testing.serving import Fleet, Serving, serving
from services.propagation.simulation.site import Site
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb

WIKI_VIEWS = (
    VIEWS
    + """
  - name: board
    resource_prefixes: [w/board/]
    render: {entry_point: {function: "examples.wiki.renderer:render"}}
    store: {namespace: boards, record: "{name}"}
"""
)
SOURCES = [f"w/source/{at}" for at in range(5)]
PAGES = [f"w/page/{at}" for at in range(16)]
BOARDS = [f"w/board/{at}" for at in range(4)]
FINISHED = (pb.Root.STATE_DONE, pb.Root.STATE_CANCELLED, pb.Root.STATE_DONE_WITH_FAILURES)


class Wiki:
    """`engines` may lead any shard; `site` says what each page must show.

    What the wiki is, is drawn with `rng`; who is asked, and how much is done at once, with `chance`.
    """

    def __init__(self, fleet: Fleet, engines: Sequence[Serving], seed: int) -> None:
        self.fleet = fleet
        self.engines = engines
        self.rng, self.chance = Random(seed), Random(seed)  # noqa: S311  a test
        self.site = Site()
        self.executor = Executor(self.site)
        for page in PAGES:
            self.link("html", page)
            self.link("summary", page)
        for board in BOARDS:
            self.link("board", board)
        self._serial = 0

    @property
    def every(self) -> list[Any]:
        """The engines' stubs."""
        return [engine.stubs for engine in self.engines if engine in self.fleet.engines]

    def link(self, view: str, page: str) -> None:
        """Draws what the page reads from now on."""
        names = {
            "html": lambda: self.rng.sample(SOURCES, self.rng.randint(1, 2)),
            "summary": lambda: [f"view/html/{name}" for name in self.rng.sample(PAGES, self.rng.randint(1, 3))],
            "board": lambda: [f"view/summary/{name}" for name in self.rng.sample(PAGES, self.rng.randint(1, 3))],
        }[view]()
        self.site.reads[view, page] = [(name, "content") for name in sorted(names)]

    async def declare(self) -> None:
        """Declares what all pages read."""
        for view in ("html", "summary", "board"):
            sets: dict[str, Sequence[str]]
            sets = {page: [name for name, _ in reads] for (of, page), reads in self.site.reads.items() if of == view}
            request = pb.DeclareDependenciesRequest(packed=[declaration(view, sets)])
            added = await self.every[0].propagation.DeclareDependencies(request)
            assert added.edges_added == sum(map(len, sets.values()))

    async def edit(self, resource: str) -> pb.PublishChangesResponse.Result:
        """Publishes a change; its id is `edit<n>`."""
        version = self.site.edit(resource)
        self._serial += 1
        change = pb.Change(id=f"edit{self._serial}", resource=resource, version=version.to_bytes(16, "big"))
        request = pb.PublishChangesRequest(changes=[change])
        response = await self._published(request)
        result: pb.PublishChangesResponse.Result = response.results[0]
        assert not result.status.code, response
        return result

    async def _published(self, request: pb.PublishChangesRequest) -> pb.PublishChangesResponse:
        """As a client does it: again, when it is told to."""
        while True:
            try:
                response: pb.PublishChangesResponse
                response = await self.chance.choice(self.every).propagation.PublishChanges(request, timeout=60)
                return response
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            await asyncio.sleep(0.01)

    async def estimate(self, resource: str) -> tuple[dict[str, int], int]:
        """What an engine foretells of an edit: pages that depend on the resource by view, and those beyond them."""
        asked = pb.EstimateImpactRequest(resource=resource)
        answer = await self.chance.choice(self.every).propagation.EstimateImpact(asked, timeout=60)
        return {one.view: one.dependents for one in answer.views}, answer.transitive

    async def root(self, change_id: str) -> pb.Root:
        """As an engine tells it."""
        root: pb.Root
        root = await self.chance.choice(self.every).propagation.GetChange(pb.GetChangeRequest(id=change_id), timeout=60)
        return root

    async def work(self) -> None:
        """Renders until it is cancelled."""
        while True:
            if not await self.executor.round(self.every, self.chance.randint(1, 5)):
                await asyncio.sleep(0.001)

    async def drained(self) -> list[pb.Root]:
        """Renders until no root is unfinished; answers all."""
        while True:
            worked = await self.executor.round(self.every)
            roots = await self.roots()
            if not worked and all(root.state in FINISHED for root in roots):
                return roots
            await asyncio.sleep(0 if worked else 0.01)

    async def roots(self) -> list[pb.Root]:
        """All that are listed."""
        found: list[pb.Root] = []
        token = ""
        while True:
            request = pb.ListChangesRequest(page_size=50, page_token=token)
            answer = await self.every[0].propagation.ListChanges(request, timeout=60)
            found += answer.roots
            token = answer.next_page_token
            if not token:
                return found

    def check(self) -> None:
        """Each page shows what it must."""
        wrong = [place for place in self.site.stored if self.site.stored[place][1] != self.site.render(place)]
        assert not wrong, wrong


@asynccontextmanager
async def wiki(seed: int, shards: int, engines: int, *, synced: bool = True) -> AsyncIterator[Wiki]:
    """Unless `synced`, logs are durable some time later, and what was not yet is lost with a shard's owner."""
    fleet = Fleet(shards)
    for log in fleet.logs:
        log.automatic = synced
    async with AsyncExitStack() as stack:
        if not synced:
            syncing = asyncio.get_running_loop().create_task(_sync(fleet, Random(seed)))  # noqa: S311  a test
            stack.callback(syncing.cancel)
        served = [
            await stack.enter_async_context(serving(fleet, range(nth, shards, engines))) for nth in range(engines)
        ]
        site = Wiki(fleet, served, seed)
        views = admin_pb2.PutViewsRequest(yaml=WIKI_VIEWS)
        assert not (await served[0].stubs.admin.PutViews(views)).mistakes
        yield site


async def _sync(fleet: Fleet, rng: Random) -> None:
    while True:
        for log in rng.sample(fleet.logs, len(fleet.logs)):
            if log.owner is not None:
                log.owner.sync()
            await asyncio.sleep(rng.choice((0, 0, 0.002)))
