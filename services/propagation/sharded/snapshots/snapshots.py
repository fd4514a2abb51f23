"""The snapshots of one shard: made when one is due, fetched where a store is missing, and what lets the log be trimmed.

The two newest are kept. The log is trimmed to where the older of them stands: so engines that are a little behind need
no snapshot, and a newest one that turns out to be of no use has one before it whose rest of the log is there. What lies
below the older one is removed, whole or not. So nothing needs a lock or a clock that is right: each of two engines that
write at once does what it would do alone.
"""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import cast

from libs.clock.clock import Clock
from libs.errors.errors import WellspringError
from libs.kafka.errors import TopicUnfit
from libs.telemetry.logs import fields
from services.propagation.sharded.snapshots import copying
from services.propagation.sharded.snapshots.manifest import Manifest, SnapshotDamaged, name_of, parse
from services.propagation.sharded.snapshots.shelf import Shelf
from services.propagation.sharded.threads import to_its_end
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.embedded_layout import VERSION
from services.propagation.store.interface import Store
from services.propagation.store.logged.place import Anchor, read_place

log = logging.getLogger(__name__)

_KEPT = 2
_LEADER_WAITS = 1.5
"""So many intervals: an engine that follows has written before, and costs nobody anything."""
_LOOKS = 10
"""In an interval."""
_LONGEST_LOOK_S = 60.0

Trim = Callable[[int], Awaitable[None]]
"""Removes all records of the shard's log that stand before an offset. Raises BrokersAway, AccessRefused."""
Prove = Callable[[], Awaitable[bool]]
"""Whether the log has, durably, all that the store had when it was asked. Raises what the log raises."""


class Snapshots:
    """`topic` is the identity of the log's topic; `one` is shared by the shards of a process, which take turns."""

    def __init__(
        self,
        shelf: Shelf,
        topic: str,
        interval_s: float,
        trim: Trim,
        clock: Clock,
        rng: Random,
        one: asyncio.Semaphore | None = None,
    ) -> None:
        self._shelf = shelf
        self._topic = topic
        self._trim = trim
        self._clock = clock
        self._rng = rng
        self._one = one or asyncio.Semaphore()
        self._unfinished: str | None = None
        """The name of one that this engine began, and of which it is not known that it ended."""
        self._began_s = clock.time_ns() / 1e9
        self._number = 0
        """Of the newest commit that is known to be in the store and in the log."""
        self.interval_s = interval_s
        self.newest: Manifest | None = None
        self.log_begins_at = 0
        self.failures = 0
        self.error = ""
        """Why the last turn of `keep` failed, if it did."""
        self.useless: dict[str, str] = {}
        """By name, why snapshots that were tried could not be used."""

    @property
    def place(self) -> str:
        """Where they lie, for messages."""
        return self._shelf.place

    @property
    def age_s(self) -> float:
        """For how long what is newer than the last snapshot has none; 0 when nothing is newer."""
        if not self._ahead:
            return 0.0
        since_s = self._began_s if self.newest is None else self.newest.written_s
        return max(0.0, self._clock.time_ns() / 1e9 - since_s)

    async def keep(self, store: EmbeddedStore, checkpoint: Path, prove: Prove, *, leads: bool) -> None:
        """For ever: writes a snapshot of the store when one is due, removes old ones, trims the log. `checkpoint` is a
        directory that is made for it and removed again."""
        look_s = min(_LONGEST_LOOK_S, self.interval_s / _LOOKS)
        while True:
            try:
                async with self._one:
                    await self.turn(store, checkpoint, prove, leads=leads)
                self.error = ""
            except WellspringError as error:
                # The ones before stay, and the log that goes with them.
                self.failures += 1
                self.error = error.message
                log.warning("no snapshot of the shard was made: %s", error.message)
            await self._clock.sleep(look_s * self._rng.uniform(0.5, 1.0))

    async def turn(self, store: EmbeddedStore, checkpoint: Path, prove: Prove, *, leads: bool) -> None:
        """What is to be done now. Raises what the shelf, the store, the log and `Trim` raise, and SnapshotDamaged."""
        anchor = read_place(cast("Store", store)).anchor
        self._number = anchor.position.number if anchor.offset >= 0 else 0  # the log has nothing yet
        shelved = await self._shelved()
        if self._unfinished in shelved and not shelved[self._unfinished].whole:
            await copying.remove(self._shelf, self._unfinished, shelved.pop(self._unfinished).part_count)
        self._unfinished = None
        if self._due(shelved, leads=leads) and await prove():
            await self._write(store, anchor, checkpoint, prove)
            shelved = await self._shelved()
        await self._tidy(shelved)

    async def fetch(self, into: Path, tried: set[str]) -> bool:
        """Makes `into` the newest snapshot that can be used and is not in `tried`, which gets the names; whether there
        was one. Raises ShelfAway, ShelfRefused, TopicUnfit for snapshots of another log, DiskFull."""
        shelved = await self._read_shelf()
        self.useless = {name: why for name, why in self.useless.items() if name in shelved}
        for name, found in reversed(shelved.items()):
            if name in tried or isinstance(found, Manifest) and not found.whole:
                continue
            tried.add(name)
            try:
                if isinstance(found, SnapshotDamaged):
                    raise found
                if found.store_version != VERSION:
                    raise SnapshotDamaged(f"the snapshot {name} is of another release")
                await copying.fetch(self._shelf, name, found, into)
            except SnapshotDamaged as error:
                log.error("a snapshot cannot be used: %s", error.message)
                self.useless[name] = error.message
                continue
            said = fields(snapshot=name, size_bytes=found.size_bytes, commits=found.anchor.position.number)
            log.info("a shard's store begins with a snapshot", extra=said)
            return True
        return False

    def _due(self, shelved: dict[str, Manifest], *, leads: bool) -> bool:
        if not self._ahead:
            return False
        now_s = self._clock.time_ns() / 1e9
        waits_s = self.interval_s * (_LEADER_WAITS if leads else 1.0)
        if self.newest is not None and 0.0 <= now_s - self.newest.written_s < waits_s:
            return False
        begun = [one.written_s for one in shelved.values() if not one.whole]
        # Another engine is at it, or was killed then.
        return not any(0.0 <= now_s - one < self.interval_s for one in begun)

    async def _write(self, store: EmbeddedStore, anchor: Anchor, checkpoint: Path, prove: Prove) -> None:
        """A snapshot has at least what the store had before, and that is what it says."""
        try:
            await to_its_end(_removed(checkpoint))
            await to_its_end(store.database.checkpoint(checkpoint))
            if not await prove():
                return
            written_s = self._clock.time_ns() / 1e9
            begun = await asyncio.to_thread(copying.manifest_of, checkpoint, anchor, self._topic, written_s)
            name = name_of(anchor, f"{self._rng.getrandbits(32):08x}")
            self._unfinished = name
            await copying.write(self._shelf, name, checkpoint, begun)
            log.info("a snapshot was made", extra=fields(snapshot=name, size_bytes=begun.size_bytes))
        finally:
            await to_its_end(_removed(checkpoint))

    async def _tidy(self, shelved: dict[str, Manifest]) -> None:
        whole = [name for name, one in shelved.items() if one.whole]
        if len(whole) < _KEPT:
            return
        oldest = whole[-_KEPT]
        for name, one in shelved.items():
            if name < oldest:
                await copying.remove(self._shelf, name, one.part_count)
        offset = shelved[oldest].anchor.offset
        if offset > self.log_begins_at:
            await self._trim(offset)
            self.log_begins_at = offset

    @property
    def _ahead(self) -> bool:
        return self._number > (0 if self.newest is None else self.newest.anchor.position.number)

    async def _shelved(self) -> dict[str, Manifest]:
        """Those that can be read, in the order of their positions."""
        found = {name: one for name, one in (await self._read_shelf()).items() if isinstance(one, Manifest)}
        self.newest = next((one for one in reversed(found.values()) if one.whole), None)
        return found

    async def _read_shelf(self) -> dict[str, Manifest | SnapshotDamaged]:
        shelved: dict[str, Manifest | SnapshotDamaged] = {}
        for name, packed in (await self._shelf.entries()).items():
            try:
                shelved[name] = one = parse(packed, name)
            except SnapshotDamaged as error:
                shelved[name] = error
                continue
            if one.topic != self._topic:
                raise TopicUnfit(
                    f"the snapshots in {self._shelf.place} are of another log than the topic is now: it was deleted and"
                    " made again, or is of another cluster. If the new one is meant, name another namespace"
                )
        return shelved


async def _removed(path: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
