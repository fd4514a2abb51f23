"""Purges what topics say, at this host's caches, inner before outer: nothing is passed over, and a crash loses nothing.

The group's position in each partition is written behind what every cache has acknowledged. Purges that fail are tried
again until they are acknowledged; what comes meanwhile stays in Kafka, beyond the slices that are under way.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from libs.errors.errors import WellspringError
from libs.kafka.consumer import Batch, Consumer, Partition, Record
from libs.kafka.topics import Topics
from libs.kafka.watermark import Watermark
from libs.purge.caches import Caches
from libs.purge.client import Purge
from libs.telemetry.logs import fields
from services.propagation.relay.purges import NoPurge, purge_of

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.1
_MOST_BACKOFF_S = 5.0
_COMMIT_S = 0.5
_LOOK_S = 5.0
"""Between looks at the ends of partitions, and for partitions that were added."""


@dataclass(slots=True)
class Counters:
    """Since the start. `purged` were acknowledged by all caches, `repeats` not at once; `invalid` are messages that
    name no purge; `missed` were dropped by the brokers before they were read: caches may be stale then."""

    messages: int = 0
    purged: int = 0
    repeats: int = 0
    invalid: int = 0
    missed: int = 0


@dataclass(slots=True)
class _Slice:
    """Records of one batch, worked on together; where each partition is when they are done."""

    purges: list[Purge]
    ends: dict[Partition, int]
    oldest_ms: int
    marks: dict[Partition, Watermark] = field(default_factory=dict)
    failing: str = ""


class Relay:
    """`run` until cancelled. `slices` batches are under way at once, of up to `Consumer`'s batch each."""

    def __init__(
        self,
        consumer: Consumer,
        topics: Topics,
        names: Sequence[str],
        caches: Caches,
        *,
        slices: int,
        from_oldest: bool,
    ) -> None:
        self._consumer = consumer
        self._topics = topics
        self._names = tuple(names)
        self._caches = caches
        self._from_oldest = from_oldest
        self._room = asyncio.Semaphore(slices)
        self._marks: dict[Partition, Watermark] = {}
        self._committed: dict[Partition, int] = {}
        self._under_way: dict[int, _Slice] = {}
        self._count = 0
        self.ends: dict[Partition, int] = {}
        """Where partitions ended when they were last looked at."""
        self.counters = Counters()
        self._kafka = ""

    @property
    def failing(self) -> str:
        """Why purges are not acknowledged, or topics not read, now; empty while all is well."""
        return next((one.failing for one in self._under_way.values() if one.failing), self._kafka)

    @property
    def reached(self) -> dict[Partition, int]:
        """By partition: the offset that comes next after all that is acknowledged."""
        return {partition: mark.at for partition, mark in self._marks.items()}

    @property
    def lag(self) -> int:
        """Messages that are not acknowledged, as far as is known."""
        return sum(max(0, self.ends.get(partition, 0) - at) for partition, at in self.reached.items())

    @property
    def waiting(self) -> int:
        """Purges under way, or waiting to be tried again."""
        return sum(len(one.purges) for one in self._under_way.values())

    @property
    def oldest_ms(self) -> int:
        """When the oldest message under way was written (Unix, milliseconds); 0: none is."""
        return min((one.oldest_ms for one in self._under_way.values()), default=0)

    async def begin(self) -> None:
        """Finds where to go on. Raises TopicMissing, AccessRefused, BrokersAway."""
        found = await self._topics.describe(self._names)
        places = [(name, at) for name, topic in found.items() for at in range(topic.partitions)]
        kept = await self._consumer.committed(places)
        positions: dict[Partition, int] = {}
        for place, (low, end) in (await self._consumer.bounds_of(places)).items():
            self.ends[place] = end
            new = low if self._from_oldest else self.ends[place]
            positions[place] = kept.get(place, new)
        fresh = {place: at for place, at in positions.items() if place not in kept}
        if fresh:
            # Durable before anything comes: a crash before the first purge must not begin at a later end.
            await self._consumer.commit(fresh)
        self._committed = dict(positions)
        self._marks = {place: Watermark(at) for place, at in positions.items()}
        await self._consumer.assign(positions)

    async def run(self) -> None:
        """Purges until it is cancelled; then what is acknowledged is committed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._commit_for_ever())
                tasks.create_task(self._look_for_ever())
                while True:
                    batch = await self._consumer.batch()
                    await self._take(batch, tasks)
        finally:
            await self._commit()

    # -- messages -----------------------------------------------------------------------------------------------------

    async def _take(self, batch: Batch, tasks: asyncio.TaskGroup) -> None:
        for error in batch.failures:
            self._note(error)
        for place in batch.lost:
            await self._lost(place)
        if batch.records:
            await self._room.acquire()
            self._count += 1
            piece = self._slice(batch.records)
            self._under_way[self._count] = piece
            tasks.create_task(self._work(self._count, piece))
        for place, end in batch.ends.items():
            self._marks[place].nothing_to(end)
            self.ends[place] = max(self.ends.get(place, 0), end)

    def _slice(self, records: Sequence[Record]) -> _Slice:
        """Each purge once, however often it is asked for in a batch."""
        purges: dict[Purge, None] = {}
        ends: dict[Partition, int] = {}
        for record in records:
            ends[record.topic, record.partition] = record.offset
            try:
                purges[purge_of(record.value)] = None
            except NoPurge as problem:
                self.counters.invalid += 1
                where = fields(topic=record.topic, partition=record.partition, offset=record.offset)
                log.error("a message names no purge: it %s", problem, extra=where)
        self.counters.messages += len(records)
        piece = _Slice(list(purges), ends, min(record.time_ms for record in records))
        for place, last in ends.items():
            # One mark for all of the slice's messages of a partition: they are done together.
            piece.marks[place] = self._marks[place]
            self._marks[place].begin(last)
        return piece

    async def _work(self, number: int, piece: _Slice) -> None:
        try:
            await self._purge(piece)
            for place, mark in piece.marks.items():
                mark.end(piece.ends[place])
        finally:
            del self._under_way[number]
            self._room.release()

    async def _purge(self, piece: _Slice) -> None:
        """Until every cache has acknowledged every purge."""
        left: Sequence[Purge] = piece.purges
        backoff_s = _FIRST_BACKOFF_S
        while failed := await self._caches.purge(left):
            self.counters.purged += len(left) - len(failed)
            self.counters.repeats += len(failed)
            if not piece.failing:
                log.warning("purges are not acknowledged", extra=fields(problem=str(failed[min(failed)])))
            piece.failing = str(failed[min(failed)])
            left = [left[index] for index in sorted(failed)]
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MOST_BACKOFF_S)
        self.counters.purged += len(left)

    def _note(self, error: WellspringError) -> None:
        if not self._kafka:
            log.warning("Kafka's topics cannot be read now", extra=fields(reason=error.reason, problem=error.message))
        self._kafka = error.message

    # -- positions ----------------------------------------------------------------------------------------------------

    async def _lost(self, place: Partition) -> None:
        """The position is not in the partition: its messages were dropped, or it is another one than it was."""
        low, high = await self._bounds(place)
        mark = self._marks[place]
        if low > mark.at:
            self.counters.missed += low - mark.at
            log.error(
                "purges were dropped by the brokers before they were read; pages may be stale",
                extra=fields(topic=place[0], partition=place[1], missed=low - mark.at),
            )
        else:
            log.error(
                "a partition ends before the position kept of it: it is read from its beginning",
                extra=fields(topic=place[0], partition=place[1], position=mark.at, end=high),
            )
        self._marks[place] = Watermark(low)
        await self._consumer.seek(place, low)

    async def _bounds(self, place: Partition) -> tuple[int, int]:
        while True:
            try:
                return await self._consumer.bounds(place)
            except WellspringError as error:
                self._note(error)
                await asyncio.sleep(_COMMIT_S)

    async def _commit_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_S)
            await self._commit()

    async def _commit(self) -> None:
        now = {place: at for place, at in self.reached.items() if self._committed.get(place) != at}
        if not now:
            return
        try:
            await self._consumer.commit(now)
        except WellspringError as error:
            self._note(error)
        else:
            self._committed |= now

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                found = await self._topics.describe(self._names)
                places = [(name, at) for name, topic in found.items() for at in range(topic.partitions)]
                for place, (low, end) in (await self._consumer.bounds_of(places)).items():
                    self.ends[place] = end
                    if place not in self._marks:
                        self._marks[place] = Watermark(low)
                        await self._consumer.add({place: low})
                self._kafka = ""
            except WellspringError as error:
                self._note(error)
