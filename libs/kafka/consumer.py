"""Reads partitions that are named, from positions that are named: one thread a client, whole batches to the loop.

There is no group membership: who reads all partitions of a topic anyway needs no rebalancing, and no pause of its own
work can cost it its partitions. A group's name only says where `commit` keeps positions for the next life and for tools
that show the lag.
"""

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from libs.errors.errors import WellspringError
from libs.kafka.hearing import Hearing
from libs.kafka.options import Options

_T = TypeVar("_T")

Partition = tuple[str, int]
"""Topic and number."""
NO_GROUP = "wellspring-without-group"
_POLL_S = 0.1
_BATCHES = 2
"""Handed over and not taken yet."""
_NOTHING = -1001


class Record(NamedTuple):
    """A message. `time_ms` is what its producer or broker stamped on it (Unix, 0: nothing)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    time_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True)
class Batch:
    """What came together: records in the order of each partition; where partitions ended (the offset that comes next);
    partitions whose position is no longer, or not yet, in the topic; and what failed (reading goes on by itself)."""

    records: list[Record] = field(default_factory=list)
    ends: dict[Partition, int] = field(default_factory=dict)
    lost: list[Partition] = field(default_factory=list)
    failures: list[WellspringError] = field(default_factory=list)


class Consumer:
    """`assign`, then `batch` again and again. To be closed. `queue_kib` bounds what is fetched ahead."""

    def __init__(
        self,
        options: Options,
        group: str = "",
        *,
        batch_size: int = 500,
        queue_kib: int = 8_192,
        start: bool = True,
        uncommitted: bool = False,
    ) -> None:
        """`uncommitted`: also what transactions have under way, and took back; then `bounds` counts that, too."""
        self._loop = asyncio.get_running_loop()
        self._size = batch_size
        self._heard = Hearing()
        self._consumer = confluent_kafka.Consumer(
            {
                **options.settings(),
                "group.id": group or NO_GROUP,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                # A position that is not in the topic is told, never mended in silence.
                "auto.offset.reset": "error",
                "isolation.level": "read_uncommitted" if uncommitted else "read_committed",
                "queued.max.messages.kbytes": queue_kib,
                "fetch.wait.max.ms": 500,
                "fetch.error.backoff.ms": 200,
                "error_cb": self._heard,
            }
        )
        self._timeout_s = options.request_timeout_s
        self._batches: deque[Batch] = deque()
        self._came = asyncio.Event()
        self._asked: deque[Callable[[], None]] = deque()
        self._room = threading.Semaphore(_BATCHES)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-consumer", daemon=True)
        if start:
            self._thread.start()

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        """Reads these partitions from these offsets, and no others."""
        await self._ask(lambda: self._consumer.assign(_parts(positions)))

    async def add(self, positions: Mapping[Partition, int]) -> None:
        """Reads these partitions too."""
        await self._ask(lambda: self._consumer.incremental_assign(_parts(positions)))

    async def seek(self, partition: Partition, offset: int) -> None:
        """Goes on from another position of a partition that is read. What was handed over before is not taken back."""

        def tell() -> None:
            self._consumer.incremental_unassign(_parts({partition: offset}))
            self._consumer.incremental_assign(_parts({partition: offset}))

        await self._ask(tell)

    async def batch(self) -> Batch:
        """What came next; waits for it."""
        while not self._batches:
            self._came.clear()
            await self._came.wait()
        found = self._batches.popleft()
        self._room.release()
        return found

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """The oldest offset that is kept, and the one that comes next. Raises BrokersAway and the like."""
        return (await self.bounds_of([partition]))[partition]

    async def bounds_of(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        """As `bounds`, of many: asked for one after the other, between two polls."""

        def ask() -> dict[Partition, tuple[int, int]]:
            found: dict[Partition, tuple[int, int]] = {}
            for topic, at in partitions:
                low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, at), timeout=self._timeout_s)
                found[topic, at] = (low, high)
            return found

        return await self._ask(ask, next(iter(partitions), ("", 0))[0])

    async def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The group's positions: those that it has."""

        def ask() -> dict[Partition, int]:
            parts = [TopicPartition(topic, at) for topic, at in partitions]
            found = self._consumer.committed(parts, timeout=self._timeout_s)
            for one in found:
                if one.error is not None:
                    raise KafkaException(one.error)
            return {(one.topic, one.partition): one.offset for one in found if one.offset != _NOTHING}

        return await self._ask(ask)

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        """Keeps the group's positions: the offsets that come next. Returns when the brokers have them."""

        def tell() -> None:
            for one in self._consumer.commit(offsets=_parts(positions), asynchronous=False):
                if one.error is not None:
                    raise KafkaException(one.error)

        await self._ask(tell)

    async def read(self, partition: Partition, offset: int, patience_s: float) -> Batch:
        """Up to a batch from there on: for a consumer made with `start` False, whose calls come one after the other. An
        empty batch: nothing came in that time."""

        def ask() -> Batch:
            self._consumer.assign(_parts({partition: offset}))
            return self._batch(patience_s)

        return await self._ask(ask)

    async def close(self) -> None:
        """Ends the thread and the connections."""
        self._ending.set()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    async def _ask(self, what: Callable[[], _T], topic: str = "") -> _T:
        """Has the client's own thread do it, between two polls: two threads in one client stop each other for good."""
        try:
            if not self._thread.is_alive():
                return await asyncio.to_thread(what)
            future: concurrent.futures.Future[_T] = concurrent.futures.Future()
            self._asked.append(lambda: _do(what, future))
            return await asyncio.wrap_future(future)
        except KafkaException as error:
            if not self._thread.is_alive():
                # What the connections told waits until it is asked for; a message that comes along is read again.
                await asyncio.to_thread(self._consumer.poll, 0)
            raise self._heard.why(error.args[0], topic) from None

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.is_set():
            self._serve()
            if not self._room.acquire(timeout=_POLL_S):
                continue
            batch = self._batch(_POLL_S)
            if not (batch.records or batch.ends or batch.lost or batch.failures):
                self._room.release()
                continue
            try:
                self._loop.call_soon_threadsafe(self._take, batch)
            except RuntimeError:
                return  # the loop has ended, and with it whoever waited
        self._serve()

    def _serve(self) -> None:
        while self._asked:
            self._asked.popleft()()

    def _take(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._came.set()

    def _batch(self, patience_s: float) -> Batch:
        batch = Batch()
        first = self._consumer.poll(patience_s)
        standing = self._heard.standing()
        if standing is not None:
            batch.failures.append(standing)
        if first is None:
            return batch
        # What is there already, without waiting for more.
        for message in [first, *self._consumer.consume(self._size - 1, 0)]:
            self._sort(batch, message)
        return batch

    def _sort(self, batch: Batch, message: Any) -> None:
        error = message.error()
        if error is None:
            value = message.value()
            batch.records.append(
                Record(
                    message.topic(),
                    message.partition(),
                    message.offset(),
                    message.key(),
                    value if value is not None else b"",
                    max(message.timestamp()[1], 0),
                    tuple((name, given or b"") for name, given in message.headers() or ()),
                )
            )
            return
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            batch.ends[message.topic(), message.partition()] = message.offset()
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            batch.lost.append((message.topic(), message.partition()))
        else:
            batch.failures.append(self._heard.why(error, message.topic() or ""))


def _parts(positions: Mapping[Partition, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, at, offset) for (topic, at), offset in positions.items()]


def _do(what: Callable[[], _T], future: "concurrent.futures.Future[_T]") -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(what())
    except Exception as error:  # whatever it is, it is for who asked
        future.set_exception(error)
