"""Every change reaches the topic, those of a record in order, whatever fails and whoever ends; by one server at a time,
and what is noted as sent is not sent again."""

import asyncio
import contextlib
import itertools
import json
import os
import random

from prometheus_client import CollectorRegistry

from services.storage.conformance.kit import HOUR_US, Case, Clock
from services.storage.domain.errors import ConsistencyUnavailable
from services.storage.domain.feed import change_id
from services.storage.domain.model import Mode
from services.storage.domain.namespace import Retention
from services.storage.publishing.messages import message_of
from services.storage.publishing.publication import STALE_US, Note, Publication, Stats
from services.storage.publishing.rig import MemoryTopic, Quick
from services.storage.store.memory import memory_store

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
PATIENCE_S = 60


class Inside:
    """The store; waits of the feed are as quick as the clock. ``refuses`` is raised by whoever begins with the feed."""

    def __init__(self, store):
        self.store = store
        self.refuses = None

    def __getattr__(self, name):
        return getattr(self.store, name)

    async def feed_start(self, *given, **named):
        if self.refuses is not None:
            raise self.refuses
        return await self.store.feed_start(*given, **named)

    async def feed_grown(self, space, cursor, timeout_s):
        return await self.store.feed_grown(space, cursor, timeout_s / 100)


class World:
    """A store with a namespace, and servers that publish its changes."""

    def __init__(self):
        self.clock = Quick()
        self.inside = Inside(memory_store(Clock()))
        self.case = Case(self.inside.store, self.inside.store._clock_us, lambda: None)
        self.space = None
        self.registry = CollectorRegistry()
        self.stats = Stats(self.registry)
        self.wrote = []

    async def made(self, **settings):
        self.space = await self.case.space(Mode.CAS, "ns", **settings)

    async def write(self, record=b"r"):
        receipt = await self.case.put(self.space, record, {b"": b"%d" % len(self.wrote)})
        self.wrote.append(change_id("ns", receipt.version, record))

    @contextlib.asynccontextmanager
    async def server(self, topic, *, shared=False):
        publication = Publication(
            "ns", "t", topic, self.inside, lambda: self.space, self.clock, self.stats, shared=shared
        )
        task = asyncio.create_task(publication.run())
        try:
            yield publication
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def note(self):
        body = await self.inside.document("publication", "ns/t")
        return body and Note.decode(body)

    async def noted(self, holds):
        async with asyncio.timeout(PATIENCE_S):
            while not holds(await self.note()):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)

    async def all_noted(self):
        """Waits until it is noted that nothing is left."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                note = await self.note()
                if note is not None and not (await self.inside.feed(self.space, note.cursor, 1)).events:
                    return
                await asyncio.sleep(0.005)

    def value(self, name):
        return self.registry.get_sample_value(f"wellspring_storage_feed_{name}_total", {"namespace": "ns"}) or 0


def in_order(world, topic):
    """Of each record the changes come in order, but for those that begin again at an earlier one."""
    order = {id: at for at, id in enumerate(world.wrote)}
    for _, some in itertools.groupby(sorted(topic.kept, key=lambda one: one.key), key=lambda one: one.key):
        numbers = [order[dict(one.headers)["ce_id"].decode()] for one in some]
        first = [number for at, number in enumerate(numbers) if number not in numbers[:at]]
        assert first == sorted(first)


def test_every_change_arrives_though_the_topic_fails_and_servers_end():
    print(f"seed {SEED}")
    chance = random.Random(SEED)

    async def story():
        world, topic = World(), MemoryTopic(chance)
        await world.made()
        for _ in range(6):
            async with world.server(topic):
                for _ in range(chance.randrange(1, 30)):
                    await world.write(b"r%d" % chance.randrange(3))
                    await asyncio.sleep(chance.choice((0, 0, 0.01)))
        async with world.server(topic):
            await topic.has(world.wrote, PATIENCE_S)
        in_order(world, topic)
        assert set(topic.ids()) == set(world.wrote)

    asyncio.run(story())


def test_what_is_noted_is_not_sent_again():
    async def story():
        world, topic = World(), MemoryTopic()
        await world.made()
        for _ in range(3):
            async with world.server(topic):
                await world.write()
                await topic.has(world.wrote, PATIENCE_S)
                await world.all_noted()
        assert topic.ids() == world.wrote
        assert (world.value("published"), world.value("publishing_failures")) == (3, 0)

    asyncio.run(story())


def test_one_server_publishes_and_another_takes_over_when_it_is_silent():
    async def story():
        world = World()
        await world.made()
        first, second = MemoryTopic(), MemoryTopic()
        async with world.server(first, shared=True) as one:
            await world.noted(lambda note: note is not None)
            async with world.server(second, shared=True) as other:
                await world.write()
                await first.has(world.wrote, PATIENCE_S)
                await world.all_noted()
                assert (await world.note()).owner == one._me and not second.kept
                async with asyncio.timeout(PATIENCE_S):
                    while (note := await world.note()).owner != other._me:
                        # The first one no longer runs, as it seems to the other; it goes on speaking all the same.
                        stale = Note(note.number, note.cursor, note.owner, note.told_us - STALE_US - 1)
                        await world.inside.put_document("publication", "ns/t", stale.encode())
                        await asyncio.sleep(0.005)
                await world.write()
                await second.has(world.wrote[1:], PATIENCE_S)
        async with world.server(MemoryTopic(), shared=True) as third:
            world.clock.ahead_us = STALE_US
            await world.noted(lambda note: note.owner == third._me)

    asyncio.run(story())


def test_who_cannot_reach_the_topic_leaves_it_to_others():
    async def story():
        world = World()
        await world.made()
        away, there = MemoryTopic(), MemoryTopic()
        away.away = True
        async with world.server(away, shared=True) as one:
            await world.noted(lambda note: note is not None and note.owner == one._me)
            async with world.server(there, shared=True):
                await world.write()
                await there.has(world.wrote, PATIENCE_S)
        assert not away.kept and world.value("publishing_failures") >= 1

    asyncio.run(story())


def test_where_the_feed_is_kept_elsewhere_nobody_takes_it():
    async def story():
        world, topic = World(), MemoryTopic()
        await world.made()
        world.inside.refuses = ConsistencyUnavailable("at home elsewhere")
        async with world.server(topic, shared=True):
            await world.write()
            await world.clock.sleep(30)
            assert await world.note() is None and not topic.kept
            world.inside.refuses = None
            await topic.has(world.wrote, PATIENCE_S)
        assert world.value("publishing_failures") == 0

    asyncio.run(story())


def test_a_namespace_made_anew_is_published_from_its_beginning():
    async def story():
        world, topic = World(), MemoryTopic()
        async with world.server(topic):
            await world.clock.sleep(5)
            await world.made()
            await world.write()
            await topic.has(world.wrote, PATIENCE_S)
            old, world.space = world.space, None
            await world.inside.purge_namespace(old)
            await world.made()
            await world.write()
            await topic.has(world.wrote, PATIENCE_S)
        assert len(set(world.wrote)) == 2 and world.value("publishing_gaps") == 0

    asyncio.run(story())


def test_what_is_no_longer_kept_is_told():
    async def story():
        world, topic = World(), MemoryTopic()
        await world.made(retention=Retention(feed_window_us=HOUR_US))
        async with world.server(topic):
            await world.write()
            await topic.has(world.wrote, PATIENCE_S)
            await world.all_noted()
        await world.write(b"lost")
        await world.write(b"last")
        await world.case.pass_time(2 * HOUR_US)
        await world.write(b"kept")
        async with world.server(topic):
            await topic.has(world.wrote[3:], PATIENCE_S)
        assert world.wrote[1] not in topic.ids()
        assert world.value("publishing_gaps") == 1

    asyncio.run(story())


def test_a_message_is_a_cloud_event():
    async def story():
        world = World()
        await world.made()
        await world.case.put(world.space, b"a b/\xff", {b"k": b"value"}, annotations={"why": "because"})
        (event,) = await world.case.events(world.space)
        message = message_of(event, world.space)
        assert message.key == b"a b/\xff"
        headers = dict(message.headers)
        assert headers == {
            "content-type": b"application/json",
            "ce_specversion": b"1.0",
            "ce_id": change_id("ns", event.version, event.record).encode(),
            "ce_source": b"urn:wellspring:storage:ns",
            "ce_type": b"wellspring.storage.changed.v1",
            "ce_subject": b"a%20b/%FF",
            "ce_time": b"2023-11-14T22:13:20.000002Z",
        }
        said = json.loads(message.value)
        assert said["record"] == "YSBiL/8=" and said["created"] is True and said["annotations"] == {"why": "because"}
        assert [(item["key"], item["sizeBytes"]) for item in said["items"]] == [("aw==", "5")]

    asyncio.run(story())
