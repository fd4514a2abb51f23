"""The clients on a real broker: what is acknowledged is there after kill -9, and each refusal has its name."""

import asyncio
import dataclasses
import threading

import pytest

from libs.kafka import membership
from libs.kafka.consumer import Consumer
from libs.kafka.errors import AccessRefused, BrokersAway, DeliveryUnknown, MessageRefused, TopicMissing, TopicUnfit
from libs.kafka.membership import Membership
from libs.kafka.options import Options
from libs.kafka.producer import Producer
from libs.kafka.testing.broker import PATIENCE_S, create, send
from libs.kafka.topics import Topics, check_kept_whole
from tools.dev.servers.kafka import Kafka


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        yield kafka


@pytest.fixture
def options(kafka):
    return Options((kafka.address,), request_timeout_s=60.0, delivery_timeout_s=PATIENCE_S)


async def records(consumer, count):
    found = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            found += (await consumer.batch()).records
    return found


def test_what_was_acknowledged_is_read_in_order_also_after_kill_9_of_the_broker(kafka, options):
    create(kafka, "kill", partitions=3)

    async def main():
        producer, consumer = Producer(options), Consumer(options)
        await consumer.assign({("kill", at): 0 for at in range(3)})
        sent = await asyncio.gather(*(send(producer, "kill", b"%d" % n, f"k{n % 7}") for n in range(300)))
        assert len(set(sent)) == 300
        before = await records(consumer, 300)
        await asyncio.to_thread(kafka.brokers[0].restart, PATIENCE_S)
        later = await asyncio.gather(*(send(producer, "kill", b"%d" % n, f"k{n % 7}") for n in range(300, 400)))
        assert len(set(sent) | set(later)) == 400, "no place is taken twice"
        found = before + await records(consumer, 100)
        assert {int(one.value) for one in found} == set(range(400))
        for key in {one.key for one in found}:
            assert len({one.partition for one in found if one.key == key}) == 1
            offsets = [one.offset for one in found if one.key == key]
            assert offsets == sorted(offsets)
        await producer.close()
        await consumer.close()

    asyncio.run(main())


def test_a_stopped_broker_is_told_and_waited_for(kafka, options):
    create(kafka, "stopped")

    async def main():
        producer = Producer(dataclasses.replace(options, delivery_timeout_s=2.0))
        await send(producer, "stopped", b"before")
        kafka.brokers[0].pause()
        try:
            with pytest.raises(DeliveryUnknown):
                await producer.send("stopped", b"meanwhile")
        finally:
            kafka.brokers[0].resume()
        await send(producer, "stopped", b"after")
        consumer = Consumer(options)
        await consumer.assign({("stopped", 0): 0})
        values = []
        async with asyncio.timeout(PATIENCE_S):
            while b"after" not in values:
                values += [one.value for one in (await consumer.batch()).records]
        assert values[0] == b"before" and set(values) <= {b"before", b"meanwhile", b"after"}
        await producer.close()
        await consumer.close()

    asyncio.run(main())


def test_positions_of_a_group_outlive_the_consumer_and_positions_beyond_the_topic_are_told(kafka, options):
    create(kafka, "group", partitions=2)

    async def main():
        producer = Producer(options)
        for n in range(10):
            await send(producer, "group", b"%d" % n, "one")
        await producer.close()
        first = Consumer(options, "g")
        assert await first.committed([("group", 0), ("group", 1)]) == {}
        bounds = {at: await first.bounds(("group", at)) for at in (0, 1)}
        at = next(number for number, (_, high) in bounds.items() if high)
        assert bounds[at] == (0, 10)
        await first.commit({("group", at): 7})
        await first.close()
        second = Consumer(options, "g")
        assert await second.committed([("group", 0), ("group", 1)]) == {("group", at): 7}
        await second.assign({("group", at): 7})
        assert [one.value for one in await records(second, 3)] == [b"7", b"8", b"9"]
        await second.seek(("group", at), 99)
        async with asyncio.timeout(PATIENCE_S):
            while not (batch := await second.batch()).lost:
                assert not batch.records
        assert batch.lost == [("group", at)]
        await second.seek(("group", at), 8)
        assert [one.value for one in await records(second, 2)] == [b"8", b"9"]
        await second.close()

    asyncio.run(main())


def test_topics_that_are_missing_compacted_or_made_again_have_their_names(kafka, options):
    create(kafka, "plain", partitions=4)
    create(kafka, "compacted", cleanup_policy="compact")

    async def main():
        topics = Topics(options)
        found = await topics.describe(["plain", "compacted"])
        assert (found["plain"].partitions, found["plain"].compacted) == (4, False)
        assert found["plain"].id != found["compacted"].id and await topics.cluster()
        check_kept_whole([found["plain"]])
        with pytest.raises(TopicUnfit, match="the topic compacted is compacted"):
            check_kept_whole(found.values())
        with pytest.raises(TopicMissing, match="the topic nowhere is not there"):
            await topics.describe(["plain", "nowhere"])
        producer = Producer(options)
        with pytest.raises(TopicMissing):
            await producer.send("nowhere", b"x")
        with pytest.raises(MessageRefused):
            await producer.send("plain", bytes(20 << 20))
        await producer.close()

    asyncio.run(main())


def test_brokers_that_are_away_or_refuse_the_login_are_told_apart(kafka, options):
    async def main():
        away = dataclasses.replace(options, bootstrap=("127.0.0.1:1",), request_timeout_s=1.0)
        with pytest.raises(BrokersAway, match="do not answer"):
            await Topics(away).cluster()
        # A listener that knows no logins refuses whoever begins with one.
        other = dataclasses.replace(options, username="me", password="secret")
        with pytest.raises(AccessRefused, match="refuse the login") as refused:
            await Topics(other).cluster()
        assert "secret" not in repr(other) + str(refused.value)
        producer = Producer(dataclasses.replace(other, delivery_timeout_s=10.0))
        with pytest.raises(AccessRefused, match="refuse the login"):
            await producer.send("plain", b"x")
        await producer.close()

    asyncio.run(main())


class Stuck:
    """Stands for a member's client: it calls for the first time when `goes_on` is set, though the library lives on."""

    def __init__(self, consumer):
        self.consumer = consumer
        self.goes_on = threading.Event()

    def poll(self, timeout_s):
        self.goes_on.wait()
        return self.consumer.poll(timeout_s)

    def close(self):
        self.consumer.close()


def test_a_member_that_is_stuck_and_says_it_lives_holds_up_its_group_for_a_while_only(kafka, options, monkeypatch):
    monkeypatch.setattr(membership, "_LONGEST_POLL_MS", 7_000)
    create(kafka, "led", partitions=2)

    async def led_by(member, *partitions):
        async with asyncio.timeout(PATIENCE_S):
            for partition in partitions:
                await member.leads(partition)

    async def main():
        first = Membership(options, "leaders", "led", 6.0)
        await led_by(first, 0, 1)
        first._consumer = stuck = Stuck(first._consumer)
        second = Membership(options, "leaders", "led", 6.0)
        await led_by(second, 0, 1)
        stuck.goes_on.set()
        async with asyncio.timeout(PATIENCE_S):
            while sorted(map(len, (first.own, second.own))) != [1, 1] or first.own == second.own:  # noqa: ASYNC110  of either
                await asyncio.sleep(0.1)
        await first.close()
        await second.close()

    asyncio.run(main())
