"""A log in memory: for tests and simulation. It may be cut, trimmed, paused and taken over."""

import asyncio
from collections.abc import Sequence

from libs.errors.errors import Unavailable
from services.propagation.store.logged.place import Anchor
from services.propagation.store.logged.records import Position, owner_record


class NoLongerOwner(Unavailable):
    """Another engine owns the shard now."""

    default_reason = "SHARD_LOST"


class MemoryLog:
    """The log itself: `records[offset]` from `begins_at` on. `automatic`: durable at once; else when `sync` says."""

    def __init__(self, *, automatic: bool = True) -> None:
        self.automatic = automatic
        self.records: list[bytes] = []
        self.begins_at = 0
        self.owner: OwnedLog | None = None

    def trim(self, before: int) -> None:
        """Removes what stands before an offset."""
        for offset in range(self.begins_at, before):
            self.records[offset] = b""
        self.begins_at = max(self.begins_at, before)

    def take_over(self, position: Position) -> "OwnedLog":
        """Opens it for the owner of `position`, which is behind all that it read; what the former owner has under way
        is dropped, and it appends nothing more."""
        if self.owner is not None:
            self.owner.fence()
        self.records.append(owner_record(position))
        self.owner = OwnedLog(self, Anchor(position, len(self.records) - 1))
        return self.owner


class OwnedLog:
    """See `log.CommitLog`."""

    def __init__(self, log: MemoryLog, anchor: Anchor) -> None:
        self._log = log
        self._waiting: list[tuple[Position, Sequence[bytes], asyncio.Future[None]]] = []
        self._failure: Unavailable | None = None
        self.anchor = anchor

    def check(self, size_bytes: int) -> None:
        """See `CommitLog.check`."""
        if self._failure is not None:
            raise self._failure

    def append(self, position: Position, records: Sequence[bytes]) -> "asyncio.Future[None]":
        """See `CommitLog.append`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((position, records, future))
        if self._log.automatic:
            self.sync()
        return future

    def barrier(self) -> "asyncio.Future[None]":
        """See `CommitLog.barrier`."""
        return self.append(self.anchor.position, [])

    def sync(self, most: int | None = None) -> None:
        """Makes durable what waits; the first `most` appends of it only."""
        durable, self._waiting = self._waiting[:most], self._waiting[len(self._waiting[:most]) :]
        for position, records, future in durable:
            self._log.records += records
            if records:
                self.anchor = Anchor(position, len(self._log.records) - 1)
            if not future.done():
                future.set_result(None)

    def fence(self) -> None:
        """Ends it: another owner took over."""
        self._failure = NoLongerOwner("another engine owns this shard now; this one appends nothing more")
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(self._failure)
                future.exception()
        self._waiting.clear()

    async def close(self) -> None:
        """See `CommitLog.close`."""
        if self._failure is None:
            self.sync()
            self._failure = NoLongerOwner("the log is closed: the service is stopping")
