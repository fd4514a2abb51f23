"""The audit's topic in Kafka: entries in, in order and acknowledged by all replicas in sync; and all of them out again.

The key of a message is its chain, `<data centre>/<random name>`: one for each audit file, always in one partition. A
compacted topic would keep the last entry of each chain alone, and is refused.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from libs.errors.errors import Unavailable, WellspringError
from libs.kafka.consumer import Consumer
from libs.kafka.errors import BrokersAway
from libs.kafka.options import Options
from libs.kafka.producer import Producer
from libs.kafka.topics import Topics, check_kept_whole

_SILENT_S: Final = 30.0
"""A topic that is read and tells nothing for so long is not read to its end."""


class Entry(NamedTuple):
    """A message of the topic: its chain, its line without an end, and where it is."""

    chain: str
    line: bytes
    where: str


class KafkaTopic:
    """See `forwarding.Topic`. One batch at a time.

    A message waits for its brokers without end: one that gave up could be passed by the next, and leave a gap.
    """

    def __init__(self, options: Options, name: str) -> None:
        if options.delivery_timeout_s:
            raise ValueError("delivery_timeout_s is 0 for an audit: no message gives up")
        self._options = options
        self._name = name
        self._producer: Producer | None = None

    async def check(self) -> None:
        """Raises TopicMissing, TopicUnfit, AccessRefused, and BrokersAway when none can be asked."""
        check_kept_whole((await Topics(self._options).describe([self._name])).values())

    async def send(self, key: str, lines: list[bytes]) -> None:
        """See `forwarding.Topic`. What the brokers refuse is Unavailable here too: the entries are kept, and wait."""
        try:
            if self._producer is None:
                await self.check()
                self._producer = Producer(self._options)
            sending = (self._producer.send(self._name, line, key.encode()) for line in lines)
            results = await asyncio.gather(*sending, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        except WellspringError as error:
            await self.close()
            if isinstance(error, Unavailable):
                raise
            raise Unavailable(error.message) from None

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()


async def entries(options: Options, name: str) -> AsyncIterator[Entry]:
    """All that the topic holds now, each chain in its order. Raises TopicMissing, AccessRefused, BrokersAway."""
    topic = (await Topics(options).describe([name]))[name]
    consumer = Consumer(options, start=False)
    try:
        for partition in range(topic.partitions):
            position, high = await consumer.bounds((name, partition))
            while position < high:
                batch = await consumer.read((name, partition), position, _SILENT_S)
                for failure in batch.failures:
                    raise failure
                # Markers of transactions, and what retention removed meanwhile, have offsets and no records.
                ends = [batch.ends.get((name, partition), 0), *(record.offset + 1 for record in batch.records)]
                if max(ends) <= position:
                    raise BrokersAway(f"the topic {name} is not read to its end: {position} of {high}")
                position = max(ends)
                for record in batch.records:
                    if record.offset < high:
                        chain = (record.key or b"").decode("utf-8", "replace")
                        yield Entry(chain, record.value, f"{name}/{partition}:{record.offset}")
    finally:
        await consumer.close()
