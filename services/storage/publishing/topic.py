"""The topic that the changes of a namespace go to: in order, acknowledged by all replicas in sync."""

import asyncio
from collections.abc import Sequence

from libs.kafka.options import Options
from libs.kafka.producer import Producer
from libs.kafka.topics import Topics, check_kept_whole
from services.storage.publishing.messages import Message


class KafkaTopic:
    """See ``publication.Topic``. One batch at a time.

    A message waits for its brokers without end: one that gave up could be passed by the next one of its record.
    """

    def __init__(self, options: Options, name: str) -> None:
        if options.delivery_timeout_s:
            raise ValueError("delivery_timeout_s is 0 for changes: no message gives up")
        self._options = options
        self._name = name
        self._producer: Producer | None = None

    async def check(self) -> None:
        """Raises TopicMissing, TopicUnfit, AccessRefused, and BrokersAway when none can be asked."""
        check_kept_whole((await Topics(self._options).describe([self._name])).values())

    async def send(self, messages: Sequence[Message]) -> None:
        """See ``publication.Topic``."""
        try:
            if self._producer is None:
                await self.check()
                self._producer = Producer(self._options)
            sending = (self._producer.send(self._name, one.value, one.key, one.headers) for one in messages)
            results = await asyncio.gather(*sending, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()
