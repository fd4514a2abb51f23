"""A transactional producer: what is sent together is in the topic together, and a new one under its name ends the old.

One thread of its own makes the library's calls, which block. Everything that was asked for while a transaction was
under way goes into the next one, so that many small appends cost one round of the brokers.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from libs.errors.errors import WellspringError
from libs.kafka.errors import DeliveryUnknown, Fenced
from libs.kafka.hearing import Hearing
from libs.kafka.logs import log
from libs.kafka.options import Options

_CALL_S = 10.0
"""A call of the library is made again after this, as long as it can be: a partition may be without a leader."""
_TRANSACTION_BYTES = 8 << 20
_QUEUE_KIB = 65_536
_CLOSING_S = 5.0


@dataclass(slots=True)
class _Append:
    records: Sequence[bytes]
    future: "asyncio.Future[int]"
    offset: int = -1
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.size_bytes = sum(map(len, self.records))


class TransactionalProducer:
    """Appends to one partition, as the only one that may under its `name`. `open`, then `append`; to be closed."""

    def __init__(self, options: Options, topic: str, partition: int, name: str, timeout_s: float) -> None:
        """`timeout_s`: so long the brokers wait for a transaction to go on before they end it. Use `open`."""
        self._loop = asyncio.get_running_loop()
        self._topic, self._partition, self._name = topic, partition, name
        self._heard = Hearing()
        self._producer = confluent_kafka.Producer(
            {
                **options.settings(),
                "transactional.id": name,
                "transaction.timeout.ms": int(timeout_s * 1000),
                "acks": "all",
                "linger.ms": 0,
                # The markers of one transaction are still being written when the next begins: asked again at once, a
                # transaction behind another takes 7 ms instead of 20.
                "retry.backoff.ms": 1,
                "retry.backoff.max.ms": 100,
                "compression.type": "lz4",
                "queue.buffering.max.kbytes": _QUEUE_KIB,
                "error_cb": self._heard,
            }
        )
        self._queue: queue.SimpleQueue[_Append | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="kafka-transactions", daemon=True)
        self.failure: WellspringError | None = None
        self.failed = asyncio.Event()
        self.waiting_bytes = 0

    @classmethod
    async def open(
        cls, options: Options, topic: str, partition: int, name: str, *, timeout_s: float = 60.0
    ) -> "TransactionalProducer":
        """Ends whoever has the name now: what that one had under way is not in the topic, and nothing of it comes
        later. Raises BrokersAway, AccessRefused."""
        made = cls(options, topic, partition, name, timeout_s)
        try:
            await asyncio.to_thread(made._producer.init_transactions, options.request_timeout_s)
        except KafkaException as error:
            raise made._heard.why(error.args[0], topic) from None
        made._thread.start()
        return made

    def append(self, records: Sequence[bytes]) -> "asyncio.Future[int]":
        """Sends the records together, behind all that was appended before; the offset of the last one (-1: there was
        none) once all replicas in sync have them.

        It fails with Fenced when another one has the name, DeliveryUnknown when it is not known; from then on
        everything fails.
        """
        future: asyncio.Future[int] = self._loop.create_future()
        if self.failure is not None:
            _refuse(future, self.failure)
            return future
        append = _Append(records, future)
        self.waiting_bytes += append.size_bytes
        self._queue.put(append)
        return future

    async def close(self) -> None:
        """Waits a little for what is under way. What is not done then fails as unknown."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSING_S)
        self._fail(DeliveryUnknown("the service stopped before the brokers acknowledged"), [])
        if not self._thread.is_alive():
            await asyncio.to_thread(self._producer.purge)

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        going = True
        while going and self.failure is None:
            together: deque[_Append] = deque()
            size_bytes = 0
            first: _Append | None = self._queue.get()
            while first is not None:
                together.append(first)
                size_bytes += first.size_bytes
                if size_bytes >= _TRANSACTION_BYTES or self._queue.empty():
                    break
                first = self._queue.get()
            going = first is not None
            if together and not self._settle(together):
                return

    def _settle(self, together: "deque[_Append]") -> bool:
        """Sends them as one transaction and tells who waits; whether there may be more."""
        try:
            if any(append.records for append in together):
                self._send(together)
        except KafkaException as error:
            failure = self._why(error.args[0])
            self._tell(partial(self._fail, failure, list(together)))
            return False
        return self._tell(partial(self._done, list(together)))

    def _send(self, together: "deque[_Append]") -> None:
        """One transaction, begun anew as often as the library says that it can be. Raises KafkaException."""
        while True:
            try:
                self._producer.begin_transaction()
                for append in together:
                    for record in append.records:
                        self._produce(append, record)
                self._commit()
                return
            except KafkaException as error:
                if not error.args[0].txn_requires_abort():
                    raise
                log.warning("a transaction of %s is begun anew: %s", self._name, error.args[0].name())
                self._again(self._producer.abort_transaction)

    def _produce(self, append: _Append, record: bytes) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topic, record, partition=self._partition, on_delivery=partial(_delivered, append)
                )
                return
            except BufferError:
                self._producer.poll(0.1)

    def _commit(self) -> None:
        self._again(self._producer.commit_transaction)

    def _again(self, call: Any) -> None:
        while True:
            try:
                call(_CALL_S)
                return
            except KafkaException as error:
                # A call that only took too long goes on where it was.
                if not error.args[0].retriable():
                    raise
                if self._heard.refusal is not None:
                    raise

    def _why(self, error: KafkaError) -> WellspringError:
        if error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
            return Fenced(
                f"another process writes to the topic {self._topic} as {self._name} now, or this one stood still for"
                " longer than the brokers wait: it writes nothing more"
            )
        return self._heard.why(error, self._topic, write=True)

    def _tell(self, call: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            return False  # the loop has ended, and with it whoever waited
        return True

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _done(self, together: list[_Append]) -> None:
        for append in together:
            self.waiting_bytes -= append.size_bytes
            if not append.future.done():
                append.future.set_result(append.offset)

    def _fail(self, failure: WellspringError, together: list[_Append]) -> None:
        if self.failure is None:
            self.failure = failure
            self.failed.set()
        left = list(together)
        while not self._queue.empty():
            append = self._queue.get()
            if append is not None:
                left.append(append)
        for append in left:
            _refuse(append.future, self.failure)


def _refuse(future: "asyncio.Future[int]", failure: WellspringError) -> None:
    if not future.done():
        future.set_exception(failure)
        future.exception()  # nothing is logged for a caller that went away


def _delivered(append: _Append, error: KafkaError | None, message: Any) -> None:
    if error is None:
        append.offset = max(append.offset, message.offset())
