"""Entries in a real Redis: the scripts keep the rules, and nobody reads what is over whatever becomes of the server."""

import asyncio
import contextlib
import itertools
import os
import random
import secrets
import time

import pytest
import redis as plain

from libs.redis.client import Redis as Client
from libs.redis.options import Options as RedisOptions
from services.storage.cache import scripts
from services.storage.cache.entries import CacheUnavailable, Look, Place, PutPage, State
from services.storage.cache.fake import FakeEntries, Memory
from services.storage.cache.redis_entries import RedisEntries
from services.storage.cache.store import CachedStore, Options
from services.storage.conformance.kit import Case, Clock
from services.storage.domain.model import ALL, Mode
from services.storage.domain.namespace import Cache
from services.storage.store.interface import Page, Read
from services.storage.store.memory import memory_store
from tools.dev.servers.redis import Redis

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
PLACE = Place(7, b"r")
PATIENT_S = 60.0
"""For tests in which nothing is to fail, however busy the machine is."""
HASTY_S = 0.2


def entries_on(server, timeout_s=PATIENT_S, mark_ms=60_000, prefix=b"p."):
    client = Client(RedisOptions(("127.0.0.1", server.port), timeout_s=timeout_s, max_connections=8), scripts.ALL)
    return RedisEntries(client, prefix, secrets.token_bytes, mark_ms)


@contextlib.asynccontextmanager
async def using(server, **options):
    entries = entries_on(server, **options)
    try:
        yield entries
    finally:
        await entries.close()


def look(place=PLACE, max_age_ms=600_000, renew=False):
    return Look(place, max_age_ms, renew)


async def kept(entries, page=b"page", **more):
    """Puts a page."""
    (found,) = await entries.look([look(**more)])
    await entries.put([PutPage(PLACE, found.lease, page)])


async def until_not(given, entries, **more):
    """Waits for the end of a state; only looking tells it."""
    while await state(entries, **more) is given:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def state(entries, **more):
    (found,) = await entries.look([look(**more)])
    return found.state


def test_the_scripts_do_what_the_rules_say():
    """Any sequence of exchanges, beside the rules in memory."""
    print(f"WELLSPRING_SEED={SEED}")
    rng = random.Random(SEED)
    places = [Place(number, record) for number in (1, 2) for record in (b"a", b"b", b"\0\xff")]

    async def story():
        with Redis() as server:
            async with using(server, mark_ms=600_000) as real:
                ruled = FakeEntries(Memory())
                leases = {}  # of the rules -> of Redis
                writers = []
                for number in range(400):
                    some = rng.sample(places, rng.randrange(1, 4))
                    what = rng.random()
                    if what < 0.5:
                        renewed = {one for one in (1, 2) if rng.random() < 0.05}
                        looks = [look(place, renew=place.number in renewed) for place in some]
                        wanted, got = await ruled.look(looks), await real.look(looks)
                        assert [one[:2] for one in got] == [one[:2] for one in wanted]
                        for one, other in zip(wanted, got, strict=True):
                            assert leases.setdefault(one.lease, other.lease) == other.lease
                    elif what < 0.7 and leases:
                        lease = rng.choice(list(leases))
                        for place in some:
                            await ruled.put([PutPage(place, lease, b"%d" % number)])
                            await real.put([PutPage(place, leases[lease], b"%d" % number)])
                    elif what < 0.85:
                        writers.append((some, b"w%d" % number))
                        renew = [1] if rng.random() < 0.1 else []
                        await ruled.mark(*writers[-1], renew)
                        await real.mark(*writers[-1], renew)
                    elif what < 0.99 and writers:
                        writer = writers.pop(rng.randrange(len(writers)))
                        await ruled.unmark(*writer)
                        await real.unmark(*writer)
                    else:
                        await ruled.renew([1, 2])
                        await real.renew([1, 2])

    asyncio.run(story())


def test_many_records_in_one_exchange_are_of_one_generation():
    async def story():
        with Redis() as server:
            async with using(server) as entries:
                looks = [look(Place(1, b"%d" % number), renew=True) for number in range(1000)]
                found = await entries.look(looks)
                await entries.put([PutPage(Place(1, b"%d" % n), one.lease, b"p") for n, one in enumerate(found)])
                again = await entries.look([one._replace(renew=False) for one in looks])
                assert all(one.state is State.HIT for one in again)

    asyncio.run(story())


def test_marks_and_pages_end_by_themselves():
    async def story():
        with Redis() as server:
            async with using(server, mark_ms=30) as entries:
                await kept(entries)
                await entries.mark([PLACE], b"w", [])
                await until_not(State.WRITING, entries)
                await kept(entries)
                assert await state(entries) is State.HIT
                await entries.unmark([PLACE], b"w")  # it comes late: what was kept in its absence goes
                assert await state(entries, max_age_ms=30) is State.MISS
                await kept(entries, max_age_ms=30)
                await until_not(State.HIT, entries, max_age_ms=30)

    asyncio.run(story())


def test_one_writers_mark_does_not_outlive_its_time_because_others_write():
    async def story():
        with Redis() as server:
            async with using(server, mark_ms=30) as dying, using(server) as living:
                await dying.mark([PLACE], b"dead", [])
                await living.mark([PLACE], b"alive", [])
                await asyncio.sleep(0.05)
                await living.unmark([PLACE], b"alive")
                await until_not(State.WRITING, living)

    asyncio.run(story())


def test_a_server_restarted_from_an_old_file_is_not_believed():
    async def story():
        with Redis() as server:
            async with using(server) as entries:
                await kept(entries, b"old")
                with plain.Redis.from_url(server.url) as other:
                    other.save()
                await entries.mark([PLACE], b"w", [])
                await entries.unmark([PLACE], b"w")
                await kept(entries, b"new")
                server.restart()
                with pytest.raises(CacheUnavailable):
                    await entries.look([look()])  # the connection to the old one
                with plain.Redis.from_url(server.url) as other:
                    assert [other.hget(key, "p") for key in other.keys("p.e*")] == [b"old"]
                assert await state(entries) is State.MISS

    asyncio.run(story())


def test_a_lease_of_before_is_of_no_use_after_everything_was_lost():
    async def story():
        with Redis() as server:
            async with using(server) as entries:
                (found,) = await entries.look([look()])
                with plain.Redis.from_url(server.url) as other:
                    other.flushall()
                await entries.put([PutPage(PLACE, found.lease, b"old")])
                assert await state(entries) is State.MISS

    asyncio.run(story())


def test_stores_that_share_a_server_do_not_meet():
    async def story():
        with Redis() as server:
            async with using(server) as one, using(server, prefix=b"q.") as other:
                await kept(one)
                assert await state(other) is State.MISS

    asyncio.run(story())


class Site:
    """One or two storage servers on one store, a reader and a writer of a few records: what a record holds is a number,
    and a read that began after a write was answered never shows a lower one."""

    def __init__(self, server, servers):
        self.server = server
        self.clock = Clock()
        self.inside = memory_store(self.clock)
        self.stores = [self._store() for _ in range(servers)]
        self.case = Case(self.stores[0], self.clock, None)
        self.numbers = itertools.count(1)
        self.told = {}
        self.rng = random.Random(SEED)

    def _store(self):
        options = Options(b"k" * 32, 3_600_000_000)
        return CachedStore(self.inside, entries_on(self.server, HASTY_S), options, self.clock, time.monotonic)

    async def start(self):
        for store in self.stores:
            await store.start()
        self.space = await self.case.space(Mode.CAS, cache=Cache(enabled=True))

    async def close(self):
        for store in self.stores:
            await store.close()

    async def write(self, store=None):
        record, number = self.rng.choice(b"abcdefgh"), next(self.numbers)
        self.case.store = store or self.rng.choice(self.stores)
        value = b"%d" % number + b" " * self.rng.randrange(4000)
        await self.case.put(self.space, bytes([record]), {b"": value})
        self.told[record] = max(self.told.get(record, 0), number)

    async def read(self, store=None):
        record = self.rng.choice(b"abcdefgh")
        told = self.told.get(record, 0)
        read = Read(self.space, bytes([record]), ALL, None, 1 << 20, 100)
        page = await (store or self.rng.choice(self.stores)).read(read)
        assert isinstance(page, Page)
        got = int(page.items[0].value) if page.items else 0
        assert got >= told, f"WELLSPRING_SEED={SEED}: {got} when {told} had been answered"

    async def live(self, steps):
        """Reads and writes, some at once."""
        for _ in range(steps):
            await asyncio.gather(
                *(self.read() for _ in range(4)), *(self.write() for _ in range(self.rng.random() < 0.3))
            )

    def hits(self):
        return sum(store.stats.hits for store in self.stores)

    async def cached_again(self):
        """Waits until the cache is used."""
        before = self.hits()
        while self.hits() == before:
            await self.live(5)
            await asyncio.sleep(0.01)


def play(story, servers=1, **options):
    print(f"WELLSPRING_SEED={SEED}")

    async def run():
        with Redis(**options) as server:
            site = Site(server, servers)
            await site.start()
            try:
                await site.cached_again()
                await story(site)
                await site.cached_again()
            finally:
                await site.close()

    asyncio.run(run())


def test_one_server_reads_what_it_was_answered_while_redis_is_killed_and_comes_back():
    async def story(site):
        for _ in range(3):
            site.server.kill()
            await site.live(20)
            site.server.start()
            await site.live(20)
            await site.cached_again()

    play(story)


def test_and_while_redis_hangs_and_goes_on_with_what_it_had():
    async def story(site):
        for _ in range(3):
            site.server.pause()
            await site.live(10)
            site.server.resume()
            await site.live(20)
            await site.cached_again()

    play(story)


def test_and_while_everything_is_thrown_away_again_and_again():
    async def story(site):
        with plain.Redis.from_url(site.server.url) as other:
            for _ in range(30):
                await site.live(5)
                other.flushall()

    play(story, servers=2)


def test_and_while_redis_has_too_little_memory():
    async def story(site):
        with plain.Redis.from_url(site.server.url) as other:
            used = other.info("memory")["used_memory"]
            for policy, room in (("allkeys-lru", 16 << 10), ("noeviction", 0), ("allkeys-random", 8 << 10)):
                other.config_set("maxmemory-policy", policy)
                other.config_set("maxmemory", used + room)
                await site.live(60)
            other.config_set("maxmemory", 0)

    play(story)


def test_and_while_bytes_are_changed():
    async def story(site):
        damaged = site.stores[0].stats.damaged
        with plain.Redis.from_url(site.server.url) as other:
            while site.stores[0].stats.damaged < damaged + 20:
                await site.live(3)
                for key in other.keys("p.e*"):
                    page = bytearray(other.hget(key, "p") or b"")
                    if page:
                        page[site.rng.randrange(len(page))] ^= 1 << site.rng.randrange(8)
                        lease = other.hget(key, "l")
                        if lease:
                            other.hset(key, "p", bytes(page))

    play(story)


def test_two_servers_read_what_either_was_answered_while_nothing_fails():
    async def story(site):
        await site.live(200)
        while not all(store.stats.hits for store in site.stores):
            await site.live(5)

    play(story, servers=2)
