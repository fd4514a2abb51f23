"""The relay as a process of its own, a real broker, and caches that go away: nothing that was acknowledged by the topic
is missing at a cache in the end, whatever died when."""

import asyncio
import os
import signal
from random import Random

import pytest

from libs.kafka.consumer import Consumer
from libs.kafka.producer import Producer
from libs.kafka.testing.broker import create, cut_before, options_of, send, until
from services.propagation.relay.testing.host import Cache, RelayProcess
from tools.dev.servers.kafka import Kafka


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        create(kafka, "purges", partitions=2)
        create(kafka, "some")
        create(kafka, "compacted", cleanup_policy="compact")
        yield kafka


def message(n):
    return {"$schema": "/resource_change/1.0.0", "meta": {"uri": f"http://a.example/{n}"}, "tags": ["purge"]}


def test_every_purge_reaches_every_cache_over_kills_and_outages(kafka):
    seed = 5
    print("seed", seed)
    rng = Random(seed)

    async def main():
        log = []
        inner, outer = Cache("inner", log), Cache("outer", log)
        for cache in (inner, outer):
            await cache.open()
        relay = RelayProcess(kafka, "purges", [inner, outer])
        producer = Producer(options_of(kafka))
        sent = 0

        async def more(count):
            nonlocal sent
            for n in range(sent, sent + count):
                await send(producer, "purges", message(n), str(n))
            sent += count

        await asyncio.to_thread(relay.start)
        try:
            await more(50)
            await send(producer, "purges", b"no purge")
            relay.kill()
            await more(50)
            inner.broken = True
            await asyncio.to_thread(relay.start)
            await until(lambda: _failing(relay), "the outage is told")
            status = await relay.status()
            assert not status["ok"] and status["under_way"] and status["lag"]
            assert not outer.paths - inner.paths, "an outer cache is purged after the inner one"
            os.kill(relay.process.pid, signal.SIGSTOP)
            await more(50)
            os.kill(relay.process.pid, signal.SIGCONT)
            await asyncio.sleep(rng.uniform(0, 0.2))
            await relay.again()
            inner.broken = False
            await asyncio.to_thread(kafka.brokers[0].restart)
            await more(50)
            wanted = {f"/{n}" for n in range(sent)}
            await until(lambda: outer.paths >= wanted and inner.paths >= wanted, "every purge everywhere")
            await until(lambda: relay.caught_up(), "no lag")
            assert b"wellspring_relay_purged_total" in await asyncio.to_thread(relay.page, "/metrics")
            # What was acknowledged by all is behind the group's position: another life purges none of it.
            await until(lambda: _committed(relay), "the group's position")
            relay.process.terminate()
            await asyncio.to_thread(relay.process.communicate)
            log.clear()
            await asyncio.to_thread(relay.start)
            await send(producer, "purges", message("last"))
            await until(lambda: ("outer", "/last") in log, "the last one")
            assert log == [("inner", "/last"), ("outer", "/last")]
        finally:
            relay.kill()
            await producer.close()
            for cache in (inner, outer):
                cache.server.close()

    async def _failing(relay):
        return "inner" in (await relay.status())["failing"]

    async def _committed(relay):
        ends = {("purges", int(at[-1])): told["end"] for at, told in (await relay.status())["partitions"].items()}
        consumer = Consumer(options_of(kafka), "host")
        try:
            return await consumer.committed(ends) == ends
        finally:
            await consumer.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("topic", "kept", "first", "missed"),
    [("cut", 1, 5, 4), ("short", 99, 0, 0)],
)
def test_what_the_topic_does_not_hold_any_more_is_counted_and_what_it_holds_is_purged(
    kafka, topic, kept, first, missed
):
    """Dropped before it was read; and a position of another topic of that name, which was longer."""

    async def main():
        create(kafka, topic)
        producer, group = Producer(options_of(kafka)), Consumer(options_of(kafka), "far")
        for n in range(8):
            await send(producer, topic, message(n))
        await producer.close()
        await group.commit({(topic, 0): kept})
        await group.close()
        if first:
            cut_before(kafka, topic, first)
        cache = Cache("only", [])
        await cache.open()
        relay = RelayProcess(kafka, topic, [cache], "far")
        await asyncio.to_thread(relay.start)
        try:
            await until(lambda: cache.paths == {f"/{n}" for n in range(first, 8)}, "what the topic holds")
            await until(relay.caught_up, "no lag")
            assert (await relay.status())["missed"] == missed
        finally:
            relay.kill()
            cache.server.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("topics=some", "topics=nowhere", "the topic nowhere is not there"),
        ("topics=some", "topics=compacted", "the topic compacted is compacted"),
        ("topics=some", "topics=[some, some]", "given twice"),
        ("", "nowhere", "host:port is allowed"),
    ],
)
def test_what_cannot_be_is_named_at_the_start(kafka, old, new, says):
    cache = Cache("c", [])
    cache.port = 9
    relay = RelayProcess(kafka, "some", [cache])
    relay.command = [part.replace(old or kafka.address, new) for part in relay.command]
    with pytest.raises(AssertionError) as caught:
        relay.start()
    assert says in str(caught.value) and "Traceback" not in str(caught.value)
