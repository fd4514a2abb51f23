"""A broker for tests, and what tests do to its topics."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from libs.kafka.consumer import Consumer, Record
from libs.kafka.errors import BrokersAway, DeliveryUnknown
from libs.kafka.options import Options
from libs.kafka.producer import Producer, Sent
from tools.dev.servers.kafka import Kafka

PATIENCE_S = 120.0


def options_of(kafka: Kafka) -> Options:
    """Options for the broker, patient for a busy machine."""
    return Options((kafka.address,), request_timeout_s=60.0, delivery_timeout_s=PATIENCE_S)


def create(kafka: Kafka, *names: str, partitions: int = 1, **config: str) -> None:
    """Makes topics; names of settings are written with _ for each dot."""
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin = AdminClient({"bootstrap.servers": kafka.address})
    made = admin.create_topics([NewTopic(name, partitions, 1, config=settings) for name in names])
    for future in made.values():
        future.result(PATIENCE_S)
    # Made is not yet known: the broker's picture of its topics follows.
    end = time.monotonic() + PATIENCE_S
    while not all(_is_known(admin, name) for name in names):
        assert time.monotonic() < end, "topics were made and did not come"


def _is_known(admin: AdminClient, name: str) -> bool:
    found = admin.list_topics(name, timeout=PATIENCE_S).topics[name]
    return found.error is None and all(one.leader >= 0 for one in found.partitions.values()) and bool(found.partitions)


def delete(kafka: Kafka, name: str) -> None:
    """Deletes a topic, and waits until it is gone."""
    admin = AdminClient({"bootstrap.servers": kafka.address})
    admin.delete_topics([name], operation_timeout=PATIENCE_S)[name].result(PATIENCE_S)


def grow(kafka: Kafka, name: str, partitions: int) -> None:
    """Gives a topic more partitions."""
    admin = AdminClient({"bootstrap.servers": kafka.address})
    admin.create_partitions([NewPartitions(name, partitions)])[name].result(PATIENCE_S)


def cut_before(kafka: Kafka, name: str, offset: int) -> None:
    """Drops all of a topic's first partition that stands before the offset, as retention does."""
    admin = AdminClient({"bootstrap.servers": kafka.address})
    for future in admin.delete_records([TopicPartition(name, 0, offset)]).values():
        future.result(PATIENCE_S)


async def send(producer: Producer, topic: str, event: Mapping[str, Any] | bytes, key: str = "") -> Sent:
    """Sends until it is acknowledged, as everybody has to: an event may so be there twice."""
    value = event if isinstance(event, bytes) else json.dumps(event).encode()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await producer.send(topic, value, key.encode() or None)
            except (BrokersAway, DeliveryUnknown):
                await asyncio.sleep(0.1)


async def all_of(kafka: Kafka, topic: str, partitions: int = 1, *, uncommitted: bool = False) -> list[Record]:
    """What the topic holds now; `uncommitted`: with what no transaction has committed."""
    consumer = Consumer(options_of(kafka), uncommitted=uncommitted)
    found: list[Record] = []
    try:
        ends = {(topic, at): (await consumer.bounds((topic, at)))[1] for at in range(partitions)}
        left = {place: end for place, end in ends.items() if end}
        await consumer.assign(dict.fromkeys(left, 0))
        async with asyncio.timeout(PATIENCE_S):
            while left:
                batch = await consumer.batch()
                found += batch.records
                left = {place: end for place, end in left.items() if batch.ends.get(place, 0) < end}
    finally:
        await consumer.close()
    return found


async def until(condition: Callable[[], object] | Callable[[], Awaitable[object]], what: str) -> None:
    """Until the condition holds. Raises AssertionError when it never does."""
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert asyncio.get_running_loop().time() < end, f"waited too long: {what}"
        await asyncio.sleep(0.05)
