"""Sends messages: idempotent, acknowledged by all replicas in sync, bounded, each delivery awaited.

Acknowledgements come on the client's one thread and go to the loop in bursts, one wake-up for many.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from libs.kafka.errors import BrokersAway
from libs.kafka.hearing import Hearing
from libs.kafka.logs import log
from libs.kafka.options import Options

_POLL_S = 0.2
_QUEUE_KIB = 65_536
_MISSING_MS = 2_000
"""How long a topic that nobody knows may still turn out to be a new one."""


class Sent(NamedTuple):
    """Where a message is now."""

    partition: int
    offset: int


class Producer:
    """To be closed. At most `max_in_flight` messages are under way; more wait their turn."""

    def __init__(self, options: Options, *, max_in_flight: int = 10_000, linger_s: float = 0.005) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard = Hearing()
        self._settings = {
            **options.settings(),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": int(linger_s * 1000),
            # Where Kafka's own clients put a key, too.
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "delivery.timeout.ms": int(options.delivery_timeout_s * 1000),
            "topic.metadata.propagation.max.ms": _MISSING_MS,
            "queue.buffering.max.messages": max_in_flight + 1,
            "queue.buffering.max.kbytes": _QUEUE_KIB,
            "error_cb": self._heard,
        }
        self._producer = confluent_kafka.Producer(self._settings)
        self._room = asyncio.Semaphore(max_in_flight)
        self._answers: deque[tuple[asyncio.Future[Sent], Sent | None, KafkaError | None, str]] = deque()
        self._woken = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-producer", daemon=True)
        self._thread.start()

    async def send(
        self, topic: str, value: bytes, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Sent:
        """Returns when the message is durable. Raises DeliveryUnknown, BrokersAway, AccessRefused, TopicMissing,
        MessageRefused."""
        async with self._room:
            if self._heard.fatal:
                self._renew()
            future: asyncio.Future[Sent] = self._loop.create_future()
            given = list(headers)
            try:
                self._producer.produce(
                    topic,
                    value=value,
                    key=key,
                    headers=given,  # type: ignore[arg-type]  # a list of pairs is what it takes
                    on_delivery=partial(self._delivered, future, topic),
                )
            except BufferError:
                raise BrokersAway("too much waits for the Kafka brokers", retry_after_s=_POLL_S) from None
            except KafkaException as error:
                raise self._heard.why(error.args[0], topic, write=True) from None
            return await future

    async def close(self) -> None:
        """Ends the thread and the connections; whoever still waits for a delivery is told that it is unknown."""
        self._ending.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(_end, self._producer)
        self._settle()

    def _renew(self) -> None:
        """Idempotence is over for a producer that failed fatally: what it had under way is told as unknown."""
        log.warning("a producer failed for good; another one takes its place")
        self._heard.fatal = False
        old, self._producer = self._producer, confluent_kafka.Producer(self._settings)
        old.purge()
        old.flush(_POLL_S)

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.is_set():
            self._producer.poll(_POLL_S)

    def _delivered(self, future: "asyncio.Future[Sent]", topic: str, error: KafkaError | None, message: Any) -> None:
        if error is None:
            self._answers.append((future, Sent(message.partition(), message.offset()), None, topic))
        else:
            self._heard.fatal = self._heard.fatal or error.fatal()
            self._answers.append((future, None, error, topic))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._settle)
            except RuntimeError:
                self._answers.clear()  # the loop has ended, and with it whoever waited

    def _settle(self) -> None:
        # First this: an answer that comes from now on wakes the loop again, at worst for nothing.
        self._woken = False
        while self._answers:
            future, sent, error, topic = self._answers.popleft()
            if future.done():
                continue
            if error is not None:
                future.set_exception(self._heard.why(error, topic, write=True))
            elif sent is not None:
                future.set_result(sent)


def _end(producer: confluent_kafka.Producer) -> None:
    producer.flush(1.0)
    producer.purge()
    producer.flush(1.0)
