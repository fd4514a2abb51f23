"""Brings a replica up to the end of its partition, or follows it for ever."""

import asyncio
import logging
from collections.abc import Callable

from libs.kafka.consumer import Batch, Consumer, Partition
from libs.kafka.errors import AccessRefused, TopicUnfit
from libs.kafka.options import Options
from services.propagation.store.logged.replica import Diverged, Replica
from services.propagation.store.logged.store import NumberedStore

log = logging.getLogger(__name__)


class CutOff(TopicUnfit):
    """The log has no beginning any more, and the store needs it."""


class Behind(Diverged):
    """The log begins behind the place where the store would go on."""


_COMPACT_ITEMS = 2_000
_LOOK_S = 0.1


class Reading:
    """Reads one partition into a replica of it. `open`; to be closed."""

    def __init__(self, consumer: Consumer, bounds: Consumer, partition: Partition, below: NumberedStore) -> None:
        self._consumer = consumer
        self._bounds = bounds
        self._partition = partition
        self._below = below
        self._next = 0
        self.replica = Replica(below)

    @classmethod
    async def open(cls, options: Options, partition: Partition, below: NumberedStore) -> "Reading":
        """Raises Diverged for a store that has no place in the log (Behind: any more), CutOff for a log without its
        beginning when that is needed, BrokersAway, AccessRefused."""
        # What replicas in sync have is in the log: its owner's transaction is open all the time.
        ahead, bounds = (Consumer(options, start=start, uncommitted=True) for start in (True, False))
        made = cls(ahead, bounds, partition, below)
        try:
            await made._begin()
        except BaseException:
            await made.close()
            raise
        return made

    async def _begin(self) -> None:
        oldest, following = await self._bounds.bounds(self._partition)
        begins_at = self.replica.begins_at
        if begins_at == 0 and oldest > 0:
            topic, number = self._partition
            raise CutOff(
                f"the topic {topic} was cut off: partition {number} begins at {oldest}. Without a snapshot a shard is"
                " made again from the whole of its log: bring back the data directory of its last engine"
            )
        if begins_at < oldest:
            raise Behind
        if begins_at > following:
            raise Diverged
        self._next = begins_at
        await self._consumer.assign({self._partition: begins_at})

    async def follow(self, until: Callable[[], bool]) -> None:
        """Applies what comes, as it comes, until that is so. Raises Diverged, LogDamaged, AccessRefused."""
        while not until():
            try:
                async with asyncio.timeout(_LOOK_S):
                    batch = await self._consumer.batch()
            except TimeoutError:
                continue
            await self._take(batch)

    async def read_to_end(self) -> None:
        """Applies all that is in the log now. Raises as `follow`."""
        _, end = await self._bounds.bounds(self._partition)
        await self.follow(lambda: self._next >= end)

    async def catch_up(self) -> None:
        """As `read_to_end`, when nobody else writes: raises Diverged when the store has more than the log, too."""
        await self.read_to_end()
        self.replica.caught_up()

    async def _take(self, batch: Batch) -> None:
        for failure in batch.failures:
            if isinstance(failure, AccessRefused):
                raise failure
            log.warning("the shard's log is not read now: %s", failure.message)
        if batch.lost:
            raise Behind
        for record in batch.records:
            self.replica.take(record.offset, record.value)
            self._next = record.offset + 1
            if self._below.needs_compaction:
                self._below.compact(_COMPACT_ITEMS)
            await asyncio.sleep(0)
        if batch.records:
            # As much as the store may have under way at once.
            await self._below.write(self._below.begin())
        self._next = max(self._next, batch.ends.get(self._partition, 0))

    async def close(self) -> None:
        """Ends the connections."""
        await self._consumer.close()
        await self._bounds.close()
