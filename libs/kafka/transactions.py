"""A producer that is the only one of its name: a new one ends the old, and nothing that the old one sends comes later.

Of Kafka's transactions only the fence is used. Appends go into one transaction that stays open, renewed from time to
time; each is told as done when all replicas in sync have its records. Whether the transaction is committed in the end
or not says nothing of them: who reads the partition reads uncommitted (`Consumer(uncommitted=True)`). A transaction for
each append would cost three more rounds of the brokers.

Records may be there twice: after a failure in between, all that was not acknowledged is sent again, in order.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
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

RENEW_S = 30.0
"""A transaction is ended and the next one begun after this: those who read committed would wait for it."""
_CALL_S = 10.0
"""A call of the library is made again after this: a partition may be without a leader. It is not once the brokers have
waited for the transaction as long as they do."""
_POLL_S = 0.1
_QUEUE_KIB = 131_072
_CLOSING_S = 5.0


class _NotEnded(Exception):
    """A transaction could not be ended for as long as the brokers keep one."""


@dataclass(slots=True)
class _Append:
    records: Sequence[bytes]
    future: "asyncio.Future[int]"
    sent: int = 0
    acknowledged: int = 0
    offset: int = -1
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.size_bytes = sum(map(len, self.records))


class TransactionalProducer:
    """Appends to one partition, as the only one that may under its `name`. `open`, then `append`; to be closed.

    The loop hands records over itself while the transaction is open; one thread takes the acknowledgements, and makes
    the calls that block.
    """

    def __init__(self, options: Options, topic: str, partition: int, name: str, timeout_s: float) -> None:
        """`timeout_s`: so long the brokers wait for a transaction to go on before they end it. Use `open`."""
        self._loop = asyncio.get_running_loop()
        self._topic, self._partition, self._name = topic, partition, name
        self._timeout_s = timeout_s
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
        self._lock = threading.Lock()
        """Held while records are handed over, and never while a call blocks."""
        self._waiting: deque[_Append] = deque()
        """What is not told as done, in its order; with the lock only."""
        self._taking = False
        """Whether records may be handed over as they come; with the lock only."""
        self._turn = 0
        """Counts transactions: an acknowledgement for an earlier one says nothing."""
        self._broken = False
        self._began_s = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-transactions", daemon=True)
        self.failure: WellspringError | None = None
        self.failed = asyncio.Event()
        self.waiting_bytes = 0

    @classmethod
    async def open(
        cls, options: Options, topic: str, partition: int, name: str, *, timeout_s: float = 60.0
    ) -> "TransactionalProducer":
        """Ends whoever has the name now: what that one has sent and is not in the topic now comes never. Raises
        BrokersAway, AccessRefused."""
        made = cls(options, topic, partition, name, timeout_s)
        try:
            await asyncio.to_thread(made._producer.init_transactions, options.request_timeout_s)
        except KafkaException as error:
            raise made._heard.why(error.args[0], topic) from None
        made._thread.start()
        return made

    def append(self, records: Sequence[bytes]) -> "asyncio.Future[int]":
        """Sends the records, behind all that was appended before; the offset of the last one (-1: there was none) once
        all replicas in sync have them, and all that was appended before.

        It fails with Fenced when another one has the name, DeliveryUnknown when it is not known; from then on
        everything fails.
        """
        future: asyncio.Future[int] = self._loop.create_future()
        if self.failure is not None:
            _refuse(future, self.failure)
            return future
        append = _Append(records, future)
        with self._lock:
            if not records and not self._waiting:
                future.set_result(-1)
                return future
            self.waiting_bytes += append.size_bytes
            self._waiting.append(append)
            if self._taking:
                self._hand_over(append)
        return future

    async def close(self) -> None:
        """Waits a little for what is under way. What is not done then fails as unknown."""
        self._ending.set()
        await asyncio.to_thread(self._thread.join, _CLOSING_S)
        self._fail(DeliveryUnknown("the service stopped before the brokers acknowledged"))
        if not self._thread.is_alive():
            await asyncio.to_thread(self._producer.purge)

    # -- with the lock, on the loop or the thread ---------------------------------------------------------------------

    def _hand_over(self, append: _Append) -> None:
        """Gives the library what is not given of it. What it does not take now is for the thread."""
        try:
            while append.sent < len(append.records):
                self._producer.produce(
                    self._topic,
                    append.records[append.sent],
                    partition=self._partition,
                    on_delivery=partial(self._delivered, append, self._turn),
                )
                append.sent += 1
        except BufferError:
            self._taking = False
        except KafkaException:
            # What it is shows when the transaction is ended.
            self._taking = False
            self._broken = True

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._begin()
            while not self._ending.is_set():
                self._producer.poll(_POLL_S)
                self._settle()
                if self._broken:
                    self._begin_anew()
                elif not self._taking:
                    self._go_on()
                elif time.monotonic() - self._began_s > RENEW_S:
                    self._renew()
            self._end()
        except _NotEnded:
            self._tell(partial(self._fail, self._not_ended()))
        except (KafkaException, SystemError) as error:
            # SystemError is what the library makes of a fatal error that it had to tell just before it called back.
            told = error.__cause__ if isinstance(error, SystemError) else error
            if not isinstance(told, KafkaException):
                self._tell(partial(self._fail, DeliveryUnknown("the Kafka library failed")))
                raise
            self._tell(partial(self._fail, self._why(told.args[0])))

    def _begin(self) -> None:
        """The next transaction, with all that is not acknowledged. Raises KafkaException."""
        self._producer.begin_transaction()
        self._began_s = time.monotonic()
        with self._lock:
            self._broken = False
            self._turn += 1
            for append in self._waiting:
                if append.acknowledged < len(append.records):
                    append.sent = append.acknowledged = 0
        self._go_on()

    def _go_on(self) -> None:
        """Hands over what was not, and lets the loop do it from now on, if the library takes it all."""
        with self._lock:
            self._taking = True
            for append in self._waiting:
                if self._taking:
                    self._hand_over(append)

    def _begin_anew(self) -> None:
        """Takes the transaction back: what of it was not acknowledged goes into the next. Raises KafkaException."""
        with self._lock:
            # What comes now must not overtake what is sent again.
            self._taking = False
        self._again(self._producer.abort_transaction)
        log.warning("a transaction of %s is begun anew", self._name)
        self._begin()

    def _renew(self) -> None:
        """Ends the transaction, and begins the next. Raises KafkaException."""
        with self._lock:
            self._taking = False
        try:
            self._again(self._producer.commit_transaction)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            self._again(self._producer.abort_transaction)
        self._settle()
        self._begin()

    def _end(self) -> None:
        """For a producer that closes: the next one of the name has nothing to end. Raises KafkaException."""
        with self._lock:
            self._taking = False
        self._producer.flush(_CLOSING_S)
        self._settle()
        self._producer.commit_transaction(_CLOSING_S)

    def _delivered(self, append: _Append, turn: int, error: KafkaError | None, message: Any) -> None:
        if turn != self._turn:
            return
        if error is not None:
            self._broken = True
            return
        append.acknowledged += 1
        append.offset = max(append.offset, message.offset())

    def _settle(self) -> None:
        """Tells who waits for what is acknowledged."""
        done: list[_Append] = []
        with self._lock:
            while self._waiting and self._waiting[0].acknowledged == len(self._waiting[0].records):
                done.append(self._waiting.popleft())
        if done:
            self._tell(partial(self._done, done))

    def _again(self, call: Callable[[float], None]) -> None:
        """Raises KafkaException, _NotEnded."""
        end_s = time.monotonic() + self._timeout_s
        while True:
            try:
                call(_CALL_S)
                return
            except KafkaException as error:
                # A call that only took too long goes on where it was.
                if not error.args[0].retriable():
                    raise
                if self._heard.refusal is not None or self._ending.is_set():
                    raise
                if time.monotonic() >= end_s:
                    raise _NotEnded from None

    def _not_ended(self) -> DeliveryUnknown:
        return DeliveryUnknown(
            f"the brokers did not end a transaction of {self._name} on the topic {self._topic} within"
            f" {self._timeout_s:g} s: what was not acknowledged may be in the topic"
        )

    def _why(self, error: KafkaError) -> WellspringError:
        if error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
            return Fenced(
                f"another process writes to the topic {self._topic} as {self._name} now, or this one stood still for"
                " longer than the brokers wait: it writes nothing more"
            )
        return self._heard.why(error, self._topic, write=True)

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            self._ending.set()  # the loop has ended, and with it whoever waited

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _done(self, together: list[_Append]) -> None:
        for append in together:
            self.waiting_bytes -= append.size_bytes
            if not append.future.done():
                append.future.set_result(append.offset)

    def _fail(self, failure: WellspringError) -> None:
        if self.failure is None:
            self.failure = failure
            self.failed.set()
        with self._lock:
            self._taking = False
            left = list(self._waiting)
            self._waiting.clear()
        for append in left:
            _refuse(append.future, self.failure)


def _refuse(future: "asyncio.Future[int]", failure: WellspringError) -> None:
    if not future.done():
        future.set_exception(failure)
        future.exception()  # nothing is logged for a caller that went away
