"""For tests: servers of one store and one cache, in memory, that fail when the test says so."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from libs.errors.errors import WellspringError
from services.storage.cache.fake import FakeEntries, Fault, Memory
from services.storage.cache.store import CachedStore, Options
from services.storage.conformance.kit import START_US, Case
from services.storage.domain.model import ALL, Mode, Selection
from services.storage.domain.namespace import Cache, Namespace
from services.storage.store.interface import Page, Read, Write
from services.storage.store.memory import memory_store

MAX_AGE_US: Final = 10_000_000
MOST: Final = 4096


class Inside:
    """The store within: counts its reads; its writes wait for ``gate`` and end with ``answer`` when those are set."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.reads = 0
        self.answer: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def read(self, read: Read) -> Page:
        self.reads += 1
        page: Page = await self.store.read(read)
        return page

    async def read_many(self, reads: Sequence[Read], max_bytes: int) -> list[Page | WellspringError]:
        self.reads += len(reads)
        pages: list[Page | WellspringError] = await self.store.read_many(reads, max_bytes)
        return pages

    async def mutate(self, writes: Sequence[Write]) -> list[Any]:
        if self.gate is not None:
            await self.gate.wait()
        results = await self.store.mutate(writes)
        if isinstance(self.answer, WellspringError):
            return [self.answer for _ in results]
        if self.answer is not None:
            raise self.answer
        return list(results)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class World:
    """Servers of one store and one cache. ``faults``: of a server, by its number, or of one kind of its exchanges. It
    is its own clock, which the tokens of ``case`` move by microseconds."""

    def __init__(self, servers: int = 1, settle_s: float = 0.0) -> None:
        self.memory = Memory()
        self.faults: dict[Any, Fault] = {}
        self.now_s = 0.0
        self.now_us = START_US
        self.settle_s = settle_s
        self.inside = Inside(memory_store(self))
        self.stores = [self.server(number) for number in range(servers)]
        self.store = self.stores[0]
        clock: Any = self
        self.case = Case(self.store.as_store, clock, lambda: None)

    def __call__(self) -> int:
        return self.now_us

    def server(self, number: int) -> CachedStore:
        """Another server."""

        def fault(name: str) -> Fault:
            return self.faults.get((number, name), self.faults.get(number, Fault.NONE))

        options = Options(b"k" * 32, MAX_AGE_US, MOST, self.settle_s)
        inside: Any = self.inside
        return CachedStore(inside, FakeEntries(self.memory, fault), options, self, lambda: self.now_s)

    def pass_s(self, by_s: float) -> None:
        """Time goes on, for the servers and for the cache."""
        self.now_s += by_s
        self.now_us += int(by_s * 1e6)
        self.memory.now_ms = int(self.now_s * 1000)

    async def space(self, mode: Mode = Mode.CAS, enabled: bool = True, **more: Any) -> Namespace:
        """A namespace."""
        return await self.case.space(mode, cache=Cache(enabled=enabled), **more)

    async def page(
        self,
        space: Namespace,
        record: bytes = b"r",
        selection: Selection = ALL,
        store: CachedStore | None = None,
        **more: Any,
    ) -> Page:
        """A page of a record."""
        return await (store or self.store).read(Read(space, record, selection, None, 1 << 20, 1000, **more))

    async def value(self, space: Namespace, record: bytes = b"r", store: CachedStore | None = None) -> bytes | None:
        """The value of a record's first item."""
        page = await self.page(space, record, store=store)
        return page.items[0].value if page.items else None


def play(story: Callable[[World], Awaitable[None]], **options: Any) -> None:
    """Runs a coroutine function of a ``World``."""

    async def run() -> None:
        world = World(**options)
        for store in world.stores:
            await store.start()
        await story(world)
        for store in world.stores:
            await store.close()

    asyncio.run(run())
