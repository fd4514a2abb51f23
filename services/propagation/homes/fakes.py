"""A data centre that takes the pages of another one, for tests: its home and its store are scripted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import Any, cast

from libs.clock.clock import Clock, SystemClock
from services.propagation.domain import listing
from services.propagation.domain.engine import Engine
from services.propagation.domain.shard import Settings
from services.propagation.homes.taking import POSITION, REASON, Taking
from services.propagation.store.interface import Store
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk
from services.propagation.views.catalogue import Catalogue
from services.propagation.views.parsing import Defaults
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
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

Told = tuple[str, int, bytes]
"""(resource, number of its version, hash)."""


def version(number: int) -> bytes:
    """Of a render."""
    return number.to_bytes(16, "big")


class Home:
    """The engine of the other data centre: what it told, by token, and what it lists. Each look at it is scripted."""

    def __init__(self) -> None:
        self.told: list[list[pb.WatchChangesResponse.Event]] = []
        self.listed: list[Told] = []
        self.listings = 0
        self.forgotten = False
        self.away = False
        self._news = asyncio.Event()

    @property
    def admin(self) -> "Home":
        """Its own."""
        return self

    def tell(self, *outputs: Told, view: str = "html") -> None:
        """One answer."""
        self.told.append(
            [
                pb.WatchChangesResponse.Event(
                    change=pb.Change(resource=f"view/{view}/{name}", version=version(number)), output_hash=hashed
                )
                for name, number, hashed in outputs
            ]
        )
        self._news.set()

    def cut(self) -> None:
        """The link to it: who follows it hears no more, until `away` is False again."""
        self.away = True
        self._news.set()

    async def watch_changes(
        self, *, resume_token: str, include_outputs: bool
    ) -> AsyncIterator[pb.WatchChangesResponse]:
        """From the token on; without one, from now on."""
        assert include_outputs
        if self.forgotten and resume_token:
            raise ResumeTokenExpired("too old", reason="RESUME_TOKEN_EXPIRED")
        at = int(resume_token) if resume_token else len(self.told)
        self._answering()
        yield pb.WatchChangesResponse(resume_token=str(at))
        while True:
            while at < len(self.told):
                at += 1
                self._answering()
                yield pb.WatchChangesResponse(events=self.told[at - 1], resume_token=str(at))
            self._news.clear()
            await self._news.wait()
            self._answering()

    def _answering(self) -> None:
        if self.away:
            raise Unavailable("away", reason="UNAVAILABLE")

    async def outputs(self, view: str) -> AsyncIterator[Output]:
        """Its list."""
        assert view == "html"
        self.listings += 1
        for name, number, hashed in self.listed:
            yield Output(name, hashed, version(number), False, False, False)


class Replica:
    """The store: what this data centre has, and what all together have, as numbers of versions."""

    def __init__(self) -> None:
        self.here: dict[str, int] = {}
        self.anywhere: dict[str, int] = {}

    async def versions(
        self, view: work_pb2.View, resources: Sequence[str], *, strong: bool = False
    ) -> list[bytes | None]:
        """By resource."""
        assert view.name == "html"
        have = self.anywhere if strong else self.here
        return [version(have[name]) if name in have else None for name in resources]


class West:
    """This data centre, on a disk that outlives it."""

    def __init__(self) -> None:
        self.home, self.replica, self.disk = Home(), Replica(), MemoryDisk()
        self.clock: Clock = SystemClock()

    @contextlib.asynccontextmanager
    async def running(self, views: str = VIEWS) -> AsyncIterator["West"]:
        """An engine that takes."""
        store = cast("Store", MemoryStore(self.disk))
        rng = Random(1)  # noqa: S311  a test
        catalogue = Catalogue(store, Defaults(places=(HERE, HOME)))
        engine = Engine(store, self.clock, rng, Settings(), catalogue.views(), catalogue.revision, catalogue.older())
        if catalogue.text != views:
            await catalogue.put(engine, views)
        client: Any = self.home
        self.taking = Taking(HOME, engine, catalogue, client, self.replica, rng)
        self.engine, self.catalogue = engine, catalogue
        task = asyncio.create_task(self.taking.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def roots(self) -> list[int]:
        """What became pending: the pages of each root."""
        found = listing.accepted_after(self.engine.shard, 0, 100)
        told = [dict(record.change.attributes) for record in found]
        assert all(one["reason"] == REASON and one["rerender"] == "html" for one in told)
        return [int(one["pages"]) for one in told]

    def kept(self) -> str | None:
        """The position that is written down, or None."""
        found = self.engine.shard.store.get_record(POSITION, HOME.encode())
        return found.decode() if found is not None else None

    async def until(self, condition: Callable[[], object]) -> None:
        """It holds."""
        async with asyncio.timeout(PATIENT_S):
            while not condition():  # noqa: ASYNC110  another task's
                await asyncio.sleep(0.001)
