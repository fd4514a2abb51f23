"""Readers and writers of one record on servers with a cache, in any order of their steps: nobody reads what is over.

Every exchange with the cache and every call of the store is a step; which of those that could go on does is drawn from
a seed. A failure names its seed: ``WELLSPRING_SEED=n`` repeats it alone.
"""

import asyncio
import os
import random
from typing import Any

import pytest

from services.storage.cache.fake import FakeEntries, Fault, Memory
from services.storage.cache.store import CachedStore, Options
from services.storage.domain.commands import body_digest
from services.storage.domain.model import ALL, Command, Delete, Mode, Put, Receipt, Selection, WriteToken
from services.storage.domain.namespace import Cache, Settings
from services.storage.store.interface import Page, Read, Write
from services.storage.store.memory import memory_store

SEEDS = [int(os.environ["WELLSPRING_SEED"])] if "WELLSPRING_SEED" in os.environ else range(150)
START_US = 1_700_000_000_000_000
MAX_AGE_US = 5_000_000
BROKEN = (Fault.LOST, Fault.UNANSWERED, Fault.DELAYED)


class Turns:
    """Steps that wait for their turn."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.waiting: list[asyncio.Future[None]] = []

    async def turn(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        await future

    async def play(self, tasks: list[asyncio.Task[Any]], between: Any) -> None:
        """Lets one step after the other go on until all tasks have ended."""
        while not all(task.done() for task in tasks):
            for _ in range(12):
                await asyncio.sleep(0)
            if self.waiting:
                between()
                self.waiting.pop(self.rng.randrange(len(self.waiting))).set_result(None)
        for task in tasks:
            task.result()


class SteppedStore:
    """The store, each call of it in steps."""

    def __init__(self, inside: Any, world: "World") -> None:
        self._inside = inside
        self._world = world

    async def read(self, read: Read) -> Any:
        await self._world.turns.turn()
        page = await self._inside.read(read)
        await self._world.turns.turn()
        return page

    async def read_many(self, reads: Any, max_bytes: int) -> Any:
        await self._world.turns.turn()
        pages = await self._inside.read_many(reads, max_bytes)
        await self._world.turns.turn()
        return pages

    async def mutate(self, writes: Any) -> Any:
        await self._world.turns.turn()
        results = await self._inside.mutate(writes)
        self._world.applied(results[0].version)
        await self._world.turns.turn()
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)


class SteppedEntries:
    """The cache, each exchange in steps."""

    def __init__(self, inside: Any, turns: Turns) -> None:
        self._inside = inside
        self._turns = turns

    def __getattr__(self, name: str) -> Any:
        async def stepped(*arguments: Any) -> Any:
            await self._turns.turn()
            try:
                return await getattr(self._inside, name)(*arguments)
            finally:
                await self._turns.turn()

        return stepped


class World:
    """Some servers of one store and one cache, and what has been learned of the writes of one record.

    ``order`` has the versions of its item ``n``, which every write puts, in the order in which the store took them; so
    the place of what a read answers says how much of the past it has seen.
    """

    def __init__(self, seed: int, servers: int, fault_share: float) -> None:
        self.rng = random.Random(seed)  # seeds, so that a failure can be repeated
        self.turns = Turns(self.rng)
        self.memory = Memory()
        self.fault_share = fault_share
        self.now_s = 0.0
        self.order: list[bytes] = []
        self.applied_at_s: list[float] = []
        self.acknowledged = 0
        self.seen = 0
        self.inside = memory_store(self.clock_us)
        self.stores = [self._server() for _ in range(servers)]

    def clock_us(self) -> int:
        return START_US + int(self.now_s * 1_000_000)

    def _server(self) -> CachedStore:
        def fault(name: str) -> Fault:
            share = self.fault_share if name in ("mark", "unmark") else self.fault_share / 5
            return self.rng.choice(BROKEN) if self.rng.random() < share else Fault.NONE

        store: Any = SteppedStore(self.inside, self)
        entries: Any = SteppedEntries(FakeEntries(self.memory, fault), self.turns)
        return CachedStore(store, entries, Options(b"k" * 32, MAX_AGE_US), self.clock_us, lambda: self.now_s)

    def applied(self, version: bytes) -> None:
        """The store has taken a write."""
        self.order.append(version)
        self.applied_at_s.append(self.now_s)

    async def start(self) -> None:
        settings = Settings("n", Mode.CAS, cache=Cache(enabled=True))
        self.space = await self.inside.create_namespace(settings, START_US)
        for store in self.stores:
            await store.start()

    def between(self) -> None:
        """What may happen between two steps: time passes, an exchange given up long ago is done after all. No mark is
        ever over by itself here."""
        if self.rng.random() < 0.2 and self.now_s < 50:
            self.pass_s(self.rng.choice([0.001, 0.1, 1.1]))
        if self.memory.delayed and self.rng.random() < 0.3:
            self.memory.delayed.pop(self.rng.randrange(len(self.memory.delayed)))()

    def pass_s(self, by_s: float) -> None:
        self.now_s += by_s
        self.memory.now_ms = int(self.now_s * 1000)

    async def write(self, store: CachedStore) -> int:
        """One write; answers its place in the order."""
        puts = (Put(b"n", b"v"), *((Put(b"k", b"x" * 9),) if self.rng.random() < 0.5 else ()))
        deletes = () if len(puts) > 1 else (Delete(Selection(None, b"k", b"l")),)
        token = WriteToken(self.clock_us(), self.rng.randbytes(16))
        positions = tuple(range(len(puts) + len(deletes)))
        command = Command(b"r", token, puts, deletes, positions, body_digest(puts, deletes, None, None))
        (receipt,) = await store.mutate([Write(self.space, command)])
        assert isinstance(receipt, Receipt)
        return self.order.index(receipt.version) + 1

    async def read(self, store: CachedStore) -> int:
        """How many writes a read has seen."""
        selection = self.rng.choice([ALL, Selection((b"n",)), Selection(None, b"", None, True)])
        read = Read(self.space, b"r", selection, None, 1 << 20, 100)
        if self.rng.random() < 0.3:
            (page,) = await store.read_many([read], 1 << 20)
        else:
            page = await store.read(read)
        assert isinstance(page, Page)
        found = {item.key: item.version for item in page.items}
        return self.order.index(found[b"n"]) + 1 if found else 0

    async def writer(self, writes: int) -> None:
        for _ in range(writes):
            for _ in range(self.rng.randrange(1, 30)):  # so that there are pages to be made untrue
                await self.turns.turn()
            self.acknowledged = max(self.acknowledged, await self.write(self.rng.choice(self.stores)))

    async def reader(self, reads: int, *, strict: bool, bounded: bool = False) -> None:
        """Reads, and judges what it reads: by the writes acknowledged before each read began, when ``strict``; by what
        others had read before too, as long as nothing fails; by its age, when ``bounded``."""
        for _ in range(reads):
            await self.turns.turn()
            floor = max(self.acknowledged, 0 if self.fault_share else self.seen)
            began_s = self.now_s
            got = await self.read(self.rng.choice(self.stores))
            if strict:
                assert got >= floor, f"read {got} when {floor} had been told"
            if bounded and got < len(self.order):
                assert began_s <= self.applied_at_s[got] + MAX_AGE_US / 1e6, "older than max_age"
            self.seen = max(self.seen, got)

    async def settle(self) -> None:
        """All is well again: nothing fails, what was given up is done or lost, debts are paid."""
        self.fault_share = 0.0
        for work in self.memory.delayed:
            work()
        self.pass_s(2.0)
        tasks = [asyncio.create_task(store.pay()) for store in self.stores]
        await self.turns.play(tasks, lambda: None)


def play(seed: int, servers: int, fault_share: float, **judging: bool) -> World:
    """Three readers and two writers."""

    async def run() -> World:
        world = World(seed, servers, fault_share)
        await world.start()
        tasks = [asyncio.create_task(world.reader(12, **judging)) for _ in range(3)]
        tasks += [asyncio.create_task(world.writer(3)) for _ in range(2)]
        await world.turns.play(tasks, world.between)
        await world.settle()
        for store in world.stores * 2:
            last = asyncio.create_task(world.read(store))
            await world.turns.play([last], lambda: None)
            assert last.result() == len(world.order), "not what was written last"
        return world

    return asyncio.run(run())


@pytest.mark.parametrize("servers", [1, 2])
def test_while_nothing_fails_nobody_reads_what_is_over_by_anything_that_was_told(servers: int) -> None:
    hits = writing = 0
    for seed in SEEDS:
        try:
            world = play(seed, servers, 0.0, strict=True)
        except AssertionError as error:
            raise AssertionError(f"WELLSPRING_SEED={seed}: {error}") from error
        hits += sum(store.stats.hits for store in world.stores)
        writing += sum(store.stats.writing for store in world.stores)
    assert hits and writing, "the cache was not used"


def test_one_server_reads_every_write_that_was_answered_whatever_the_cache_does() -> None:
    unmarked = hits = 0
    for seed in SEEDS:
        try:
            world = play(seed, 1, [0.3, 0.6, 0.9][seed % 3], strict=True, bounded=True)
        except AssertionError as error:
            raise AssertionError(f"WELLSPRING_SEED={seed}: {error}") from error
        unmarked += world.stores[0].stats.unmarked
        hits += world.stores[0].stats.hits
    assert unmarked and hits, "the cache was not used, or nothing failed"


def test_servers_that_cannot_tell_each_other_read_nothing_older_than_max_age_and_agree_again_after() -> None:
    unmarked = hits = 0
    for seed in SEEDS:
        try:
            world = play(seed, 2, [0.3, 0.6, 0.9][seed % 3], strict=False, bounded=True)
        except AssertionError as error:
            raise AssertionError(f"WELLSPRING_SEED={seed}: {error}") from error
        unmarked += sum(store.stats.unmarked for store in world.stores)
        hits += sum(store.stats.hits for store in world.stores)
    assert unmarked and hits, "the cache was not used, or nothing failed"
