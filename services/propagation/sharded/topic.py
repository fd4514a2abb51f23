"""The topic of the shards' logs: made when it is missing, and refused when it would lose what is in it."""

import asyncio
from dataclasses import dataclass

from libs.kafka.errors import TopicMissing, TopicUnfit
from libs.kafka.topics import Topic, Topics

SETTINGS = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "compression.type": "producer"}
"""Nothing is dropped by itself: what no snapshot has is in the log alone."""

_KNOWN_S = 30.0
"""After this long brokers know what one of them has made, or something is wrong with them."""
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class LogTopic:
    """A topic that is there and fit. `identity` is another one for another cluster, and for a topic made again."""

    name: str
    identity: bytes


async def existing(topics: Topics, name: str) -> tuple[LogTopic, int] | None:
    """(the topic, how many shards it has); None when there is none. Raises TopicUnfit, AccessRefused, BrokersAway."""
    try:
        topic = (await topics.describe([name]))[name]
    except TopicMissing:
        return None
    _check_kept(topic)
    return LogTopic(name, f"{await topics.cluster()}/{topic.id}".encode()), topic.partitions


async def log_topic(topics: Topics, name: str, shards: int, replication: int) -> LogTopic:
    """The topic, made when there is none. Raises TopicUnfit, AccessRefused, BrokersAway."""
    try:
        found = await topics.describe([name])
    except TopicMissing:
        await topics.create(name, shards, replication, SETTINGS)
        found = await _described(topics, name)
    topic = found[name]
    _check(topic, shards)
    return LogTopic(name, f"{await topics.cluster()}/{topic.id}".encode())


async def _described(topics: Topics, name: str) -> dict[str, Topic]:
    """A topic that was made just now: made is not yet known to each broker."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + _KNOWN_S
    while True:
        try:
            return await topics.describe([name])
        except TopicMissing:
            if loop.time() >= ends_s:
                raise TopicUnfit(
                    f"the topic {name} was made and does not come; start again when the brokers know it"
                ) from None
        await asyncio.sleep(_LOOK_S)


def _check(topic: Topic, shards: int) -> None:
    if topic.partitions != shards:
        raise TopicUnfit(
            f"the topic {topic.name} has {topic.partitions} partitions, and the configuration says {shards} shards"
            " (backend.sharded.shards)"
        )
    _check_kept(topic)


def _check_kept(topic: Topic) -> None:
    if topic.compacted or not topic.kept_for_ever:
        raise TopicUnfit(
            f"the topic {topic.name} drops records (cleanup.policy, retention.ms, retention.bytes): a shard is made"
            " again from the whole of it; cleanup.policy=delete, retention.ms=-1 and retention.bytes=-1 are needed"
        )
