"""A shard's store that follows its log, made anew where it has what the log has not."""

import logging
from collections.abc import Awaitable, Callable
from typing import cast

from libs.kafka.consumer import Partition
from libs.kafka.options import Options
from services.propagation.sharded.directory import ShardDirectory
from services.propagation.sharded.reading import Reading
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.logged.records import Position
from services.propagation.store.logged.replica import Diverged
from services.propagation.store.logged.store import NumberedStore

log = logging.getLogger(__name__)


class Following:
    """`open`; then `follow` and `catch_up`; to be closed. `embedded` is the store as it is now."""

    def __init__(self, options: Options, partition: Partition, directory: ShardDirectory, store: EmbeddedStore) -> None:
        self._options = options
        self._partition = partition
        self._directory = directory
        self._reading: Reading | None = None
        self.embedded = store

    @classmethod
    async def open(cls, options: Options, partition: Partition, directory: ShardDirectory) -> "Following":
        """Raises what opening the directory raises."""
        return cls(options, partition, directory, await directory.open())

    async def follow(self, until: Callable[[], bool]) -> None:
        """Applies what comes until that is so. Raises as `Reading` does, but for Diverged."""
        await self._whole(lambda reading: reading.follow(until))

    async def read_to_end(self) -> None:
        """Applies all that is in the log now. Raises as `follow`."""
        await self._whole(lambda reading: reading.read_to_end())

    async def catch_up(self) -> Position:
        """As `read_to_end`, when nobody else writes any more: the store is then what the log says. Answers how far it
        is."""
        await self._whole(lambda reading: reading.catch_up())
        assert self._reading is not None
        return self._reading.replica.position

    async def release(self) -> EmbeddedStore:
        """Ends the reading and hands the store over."""
        await self._end_reading()
        return self.embedded

    async def close(self) -> None:
        """Ends the reading and closes the store."""
        await self._end_reading()
        await self.embedded.close()

    async def _whole(self, work: Callable[[Reading], Awaitable[None]]) -> None:
        """Does the work, again on the store's checkpoint if the store is of no use, and then on a new one."""
        for another in (True, True, False):
            try:
                await work(await self._begun())
                return
            except Diverged:
                if not another:
                    raise
            log.warning("the store has what the log has not, and nobody was told of: it is made anew from the log")
            await self._end_reading()
            self.embedded = await self._directory.renew(self.embedded)

    async def _begun(self) -> Reading:
        if self._reading is None:
            self._reading = await Reading.open(self._options, self._partition, cast("NumberedStore", self.embedded))
        return self._reading

    async def _end_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            await reading.close()
