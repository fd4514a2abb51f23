"""Topics of a Kafka cluster as a source of events: each partition is a stream, in its own order.

The engine keeps in its own store how far each rule has come; so nothing is committed to Kafka, and no rebalancing can
take a partition away under work. What rules that keep up read is fetched once (`Tail`); a rule that is behind reads
what it lacks by a second connection, in pieces.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from libs.errors.errors import WellspringError
from libs.kafka.consumer import Batch, Consumer, Partition, Record
from libs.kafka.errors import BrokersAway, TopicUnfit
from libs.kafka.options import Options
from libs.kafka.topics import Topic, Topics
from libs.telemetry.logs import fields
from services.propagation.kafka.reading import delivery_of
from services.propagation.kafka.tail import Tail
from services.propagation.rules.sources import Delivery
from services.propagation.rules.topics import partition_of, stream_of, topic_of

log = logging.getLogger(__name__)

_RUNS = 32
"""Pieces of what rules that are behind read that are kept for their next reading."""
_REFRESH_S = 10.0
"""Between looks for partitions that were added."""


class KafkaSource:
    """See Source. `open` makes one; `run` fetches until it is cancelled. To be closed."""

    def __init__(
        self,
        options: Options,
        topics: Topics,
        found: Mapping[str, Topic],
        buffer_bytes: int,
        schemas: Mapping[str, str],
    ) -> None:
        self._topics = topics
        self._schemas = dict(schemas)
        self._partitions = {name: topic.partitions for name, topic in found.items()}
        self._room = max(1, buffer_bytes // max(1, sum(self._partitions.values())))
        self._newest = Consumer(options)
        self._older = Consumer(options, start=False, queue_kib=2_048)
        self._patience_s = options.request_timeout_s
        self._turn = asyncio.Lock()
        self._tails: dict[str, Tail] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._broken: dict[str, TopicUnfit] = {}
        self._runs: OrderedDict[tuple[str, int], Sequence[Delivery]] = OrderedDict()
        self.failing: WellspringError | None = None
        """Why nothing comes now; None while all is well."""
        self.gone = 0
        """Events that the brokers dropped before they were read, since the start: at most so many."""

    @classmethod
    async def open(
        cls,
        options: Options,
        topics: Topics,
        found: Mapping[str, Topic],
        buffer_bytes: int,
        schemas: Mapping[str, str],
    ) -> "KafkaSource":
        """Begins at the present ends of the topics. `schemas`: by topic, the title of the schema that its events have.
        Raises BrokersAway, AccessRefused."""
        source = cls(options, topics, found, buffer_bytes, schemas)
        try:
            for name, count in source._partitions.items():
                await source._begin(name, range(count))
            await source._newest.assign({_place(stream): tail.end for stream, tail in source._tails.items()})
        except WellspringError:
            await source.close()
            raise
        return source

    @property
    def topics(self) -> frozenset[str]:
        """See Source."""
        return frozenset(self._partitions)

    def streams(self, topic: str) -> Sequence[str]:
        """See Source."""
        return [stream_of(topic, number) for number in range(self._partitions[topic])]

    def newest(self, stream: str) -> int:
        """See Source."""
        return self._tails[stream].end

    async def read(self, stream: str, after: int, limit: int) -> Sequence[Delivery]:
        """See Source. Raises BrokersAway and the like; TopicUnfit when the partition was cut off."""
        tail = self._tails[stream]
        if stream in self._broken:
            raise self._broken[stream]
        if after >= tail.first:
            return tail.after(after, limit)
        run = self._runs.pop((stream, after), None) or await self._fetch(stream, after)
        if len(run) > limit:
            self._runs[stream, run[limit - 1].position] = run[limit:]
            while len(self._runs) > _RUNS:
                self._runs.popitem(last=False)
        return run[:limit]

    async def wait(self, stream: str, known: int, seconds: float) -> None:
        """See Source."""
        if self.newest(stream) > known:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._news[stream].wait()
        except TimeoutError:
            return

    async def run(self) -> None:
        """Fetches what is new, and looks for new partitions, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_for_ever())
            while True:
                await self._take(await self._newest.batch())

    async def close(self) -> None:
        """Ends the connections."""
        await self._newest.close()
        await self._older.close()

    # -- what is new --------------------------------------------------------------------------------------------------

    async def _begin(self, topic: str, numbers: range, *, at_end: bool = True) -> None:
        bounds = await self._newest.bounds_of([(topic, number) for number in numbers])
        for (_, number), (low, high) in bounds.items():
            stream = stream_of(topic, number)
            self._tails[stream] = Tail(high if at_end else low, self._room)
            self._news[stream] = asyncio.Event()

    async def _take(self, batch: Batch) -> None:
        for error in batch.failures:
            self._note(error)
        moved: set[str] = set()
        for record in batch.records:
            stream = stream_of(record.topic, record.partition)
            self._tails[stream].add(self._delivery(record), len(record.value))
            moved.add(stream)
        for (topic, number), offset in batch.ends.items():
            stream = stream_of(topic, number)
            self._tails[stream].ends_at(offset)
            moved.add(stream)
        for stream in moved:
            # Whoever waits now is woken; whoever comes later waits for the next time.
            self._news[stream].set()
            self._news[stream] = asyncio.Event()
        if moved:
            self.failing = None
        for partition in batch.lost:
            await self._lost(partition)

    async def _lost(self, partition: Partition) -> None:
        """The place of what is new is not in the partition: dropped before it was fetched, or the partition was cut."""
        stream = stream_of(*partition)
        tail = self._tails[stream]
        low, high = await self._bounds(partition)
        if high < tail.end:
            self._broken[stream] = _cut(stream, tail.end, high)
            log.error(
                "a partition ends before what was read of it", extra=fields(stream=stream, read=tail.end, end=high)
            )
            return
        # Readers that are behind find the gap, and tell of it.
        tail.restart(max(low, tail.end))
        await self._newest.seek(partition, tail.end)

    async def _bounds(self, partition: Partition) -> tuple[int, int]:
        while True:
            try:
                return await self._newest.bounds(partition)
            except WellspringError as error:
                self._note(error)
                await asyncio.sleep(1.0)

    def _note(self, error: WellspringError) -> None:
        if self.failing is None or self.failing.reason != error.reason:
            log.warning("Kafka's topics cannot be read now", extra=fields(reason=error.reason, message=error.message))
        self.failing = error

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                for name, topic in (await self._topics.describe(self._partitions)).items():
                    more = range(self._partitions[name], topic.partitions)
                    if more:
                        await self._begin(name, more, at_end=False)
                        await self._newest.add({(name, at): self._tails[stream_of(name, at)].end for at in more})
                        self._partitions[name] = topic.partitions
                        log.info("a topic has more partitions", extra=fields(topic=name, partitions=topic.partitions))
                self.failing = None
            except WellspringError as error:
                self._note(error)

    # -- what is older ------------------------------------------------------------------------------------------------

    async def _fetch(self, stream: str, after: int) -> Sequence[Delivery]:
        """A piece of what follows the position, read from the brokers again."""
        partition = _place(stream)
        async with self._turn:
            batch = await self._older.read(partition, after, self._patience_s)
        if batch.failures:
            raise batch.failures[0]
        if partition in batch.lost:
            return await self._gap(stream, after)
        if not batch.records and partition not in batch.ends:
            raise BrokersAway("the Kafka brokers do not answer now")
        return [self._delivery(record) for record in batch.records if _is_of(record, partition, after)]

    def _delivery(self, record: Record) -> Delivery:
        return delivery_of(record, self._schemas.get(record.topic, ""))

    async def _gap(self, stream: str, after: int) -> Sequence[Delivery]:
        """What there is no more is told as one delivery without an event; reading goes on behind it."""
        async with self._turn:
            low, high = await self._older.bounds(_place(stream))
        if low <= after:
            raise _cut(stream, after, high)
        self.gone += low - after
        problem = (
            f"the events of {stream} from offset {after} to {low - 1} are gone: the topic did not keep them so long"
        )
        log.error("events were dropped by the brokers before they were read", extra=fields(stream=stream, upto=low))
        return [Delivery(low, None, 0, problem=problem)]


def _cut(stream: str, read: int, end: int) -> TopicUnfit:
    what = f"{topic_of(stream)}, partition {partition_of(stream)}, was read up to offset {read} and ends at {end} now"
    return TopicUnfit(
        f"the topic {what}: it was cut off, or is another one; restart, and see what the start says of it",
        metadata={"topic": topic_of(stream)},
    )


def _is_of(record: Record, partition: Partition, after: int) -> bool:
    return (record.topic, record.partition) == partition and record.offset >= after


def _place(stream: str) -> Partition:
    return topic_of(stream), partition_of(stream)
