"""The logs of a fleet's generations of shards: a topic each.

The first is `<topic_prefix>propagation.shard-log`; those that follow have their number behind it. A topic is made
before anybody seals a shard, and has records only when all shards of the generation before are sealed: then it counts.
"""

import logging
from dataclasses import dataclass

from libs.errors.errors import FailedPrecondition
from libs.kafka.consumer import Consumer
from libs.kafka.errors import AccessRefused
from libs.kafka.options import Options
from libs.kafka.topics import Topics
from services.propagation.domain.generation import FIRST, Generation
from services.propagation.fleet.ids import MOST_SHARDS
from services.propagation.sharded.topic import LogTopic, existing, log_topic

log = logging.getLogger(__name__)

_MOST = MOST_SHARDS.bit_length()
"""Each generation has twice the shards of the one before, at least."""


class LogThere(FailedPrecondition):
    """The topic of the next generation is there already, with another number of shards."""

    default_reason = "LOG_THERE"


@dataclass(frozen=True, slots=True)
class ShardsLog:
    """The log of a generation of shards."""

    generation: Generation
    topic: LogTopic


class Logs:
    """`name` is that of the first topic. All raises BrokersAway, AccessRefused, TopicUnfit."""

    def __init__(self, options: Options, topics: Topics, name: str, replication: int) -> None:
        self._options = options
        self._topics = topics
        self._name = name
        self._replication = replication

    async def present(self, shards: int) -> ShardsLog:
        """That of the present generation; made, with so many shards, when there is none."""
        for number in range(_MOST, FIRST, -1):
            found = await self.find(number)
            if found is not None and await self._begun(found):
                return found
        found = await self.find(FIRST)
        if found is None:
            topic = await log_topic(self._topics, self._name, shards, self._replication)
            return ShardsLog(Generation(FIRST, shards), topic)
        return found

    async def find(self, number: int) -> ShardsLog | None:
        """That of a generation; None when there is none."""
        try:
            found = await existing(self._topics, self._named(number))
        except AccessRefused:
            if number == FIRST:
                raise
            return None  # where names that are not there are refused, too
        return ShardsLog(Generation(number, found[1]), found[0]) if found is not None else None

    async def made(self, generation: Generation) -> ShardsLog:
        """That of a generation, made when there is none. Raises LogThere."""
        found = await self.find(generation.number)
        if found is None:
            name = self._named(generation.number)
            topic = await log_topic(self._topics, name, generation.shards, self._replication)
            return ShardsLog(generation, topic)
        if found.generation != generation:
            raise LogThere(
                f"the topic {found.topic.name} is there with {found.generation.shards} partitions, from a growth that"
                f" was not begun: ask for {found.generation.shards} shards, or delete it"
            )
        return found

    def _named(self, number: int) -> str:
        return self._name if number == FIRST else f"{self._name}.{number}"

    async def _begun(self, found: ShardsLog) -> bool:
        partitions = [(found.topic.name, number) for number in range(found.generation.shards)]
        consumer = Consumer(self._options, start=False, uncommitted=True)
        try:
            bounds = await consumer.bounds_of(partitions)
        finally:
            await consumer.close()
        return any(following > 0 for _, following in bounds.values())
