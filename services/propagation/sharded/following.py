"""A shard's store that follows its log, made anew where it has what the log has not, or not what the log had.

While it follows, snapshots are made of it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import cast

from libs.kafka.consumer import Partition
from libs.kafka.options import Options
from services.propagation.sharded.directory import ShardDirectory
from services.propagation.sharded.reading import Behind, CutOff, Reading
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.logged.place import read_place
from services.propagation.store.logged.records import Position
from services.propagation.store.logged.replica import Diverged
from services.propagation.store.logged.store import NumberedStore

log = logging.getLogger(__name__)

_AGAIN_S = 2.0


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
        await self._whole(lambda reading: self._follow(reading, until))

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

    async def _follow(self, reading: Reading, until: Callable[[], bool]) -> None:
        async def proven() -> bool:
            return reading.replica.proven

        keeping = asyncio.create_task(self._directory.keep_snapshots(self.embedded, proven, leads=False))
        try:
            await reading.follow(lambda: keeping.done() or until())
            if keeping.done():
                keeping.result()
        finally:
            # Before the store is another's to use, or closed.
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _whole(self, work: Callable[[Reading], Awaitable[None]]) -> None:
        """Does the work; again on the store's checkpoint if the store is of no use, then on each snapshot, and then on
        a new store."""
        tried: set[str] = set()
        renewed = False
        while True:
            try:
                await work(await self._begun())
                return
            except (Diverged, CutOff) as why:
                failure = why
            await self._end_reading()
            if self._is_new and (renewed or self._directory.snapshots is None):
                await self._give_up(failure)
                tried.clear()
            behind = isinstance(failure, Behind | CutOff)
            log.warning(
                "%s: it is made anew",
                "the log begins behind the store"
                if behind
                else "the store has what the log has not, untold to anybody",
            )
            self.embedded = await self._directory.renew(self.embedded, tried)
            renewed = True

    @property
    def _is_new(self) -> bool:
        return read_place(cast("NumberedStore", self.embedded)).anchor.offset < 0

    async def _give_up(self, failure: Diverged | CutOff) -> None:
        """Raises why nothing makes a store; or waits, when it is not known what could."""
        away, snapshots = self._directory.away, self._directory.snapshots
        if away is not None:
            log.warning("waiting for the snapshots: %s", away.message)
            await asyncio.sleep(_AGAIN_S)
        elif snapshots is not None and isinstance(failure, CutOff):
            which = "; ".join(snapshots.useless.values()) or "there is none that begins where the log does"
            raise CutOff(f"{failure.message}. No snapshot in {snapshots.place} helps: {which}")
        else:
            raise failure

    async def _begun(self) -> Reading:
        if self._reading is None:
            self._reading = await Reading.open(self._options, self._partition, cast("NumberedStore", self.embedded))
        return self._reading

    async def _end_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            await reading.close()
