"""A shard's log as a partition of Kafka: see `store/logged/log.py` for what it promises to the store."""

import asyncio
from collections.abc import Sequence
from functools import partial

from libs.embedded.failures import QueueFull
from libs.kafka.errors import DeliveryUnknown
from libs.kafka.transactions import TransactionalProducer
from services.propagation.store.logged.place import Anchor
from services.propagation.store.logged.records import Position, owner_record

MOST_WAITING_BYTES = 64 << 20
"""Of commits that the brokers have not acknowledged: more are refused, and the engine goes on when there is room."""


class KafkaShardLog:
    """See `CommitLog`."""

    def __init__(self, producer: TransactionalProducer, anchor: Anchor) -> None:
        """`anchor` is this owner's word, which is in the log."""
        self._producer = producer
        self._closed = False
        self.anchor = anchor

    def check(self, size_bytes: int) -> None:
        """See `CommitLog.check`. Raises Fenced, DeliveryUnknown, QueueFull."""
        if self._producer.failure is not None:
            raise self._producer.failure
        if self._closed:
            raise DeliveryUnknown("the log is closed: the service is stopping")
        if self._producer.waiting_bytes and self._producer.waiting_bytes + size_bytes > MOST_WAITING_BYTES:
            raise QueueFull(
                f"{self._producer.waiting_bytes} bytes of commits wait for the Kafka brokers, as many as may",
                retry_after_s=0.1,
            )

    def append(self, position: Position, records: Sequence[bytes]) -> "asyncio.Future[None]":
        """See `CommitLog.append`."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._producer.append(records).add_done_callback(partial(self._appended, answer, position))
        return answer

    def barrier(self) -> "asyncio.Future[None]":
        """See `CommitLog.barrier`. The owner says its word again: the brokers refuse that when another one has said its
        own, and who stood still meanwhile has not heard of it. Readers know the word."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._producer.append([owner_record(self.anchor.position)]).add_done_callback(partial(_told, answer))
        return answer

    async def close(self) -> None:
        """See `CommitLog.close`."""
        self._closed = True
        await self._producer.close()

    async def lost(self) -> None:
        """Returns never; raises why nothing is appended any more: this process has to end, and to begin anew."""
        await self._producer.failed.wait()
        self.check(0)

    def _appended(self, answer: "asyncio.Future[None]", position: Position, sent: "asyncio.Future[int]") -> None:
        if sent.exception() is None and sent.result() >= 0:
            self.anchor = Anchor(position, sent.result())
        _told(answer, sent)


def _told(answer: "asyncio.Future[None]", sent: "asyncio.Future[int]") -> None:
    failure = sent.exception()
    if answer.done():
        return
    if failure is None:
        answer.set_result(None)
    else:
        answer.set_exception(failure)
        answer.exception()  # nothing is logged for a caller that went away
