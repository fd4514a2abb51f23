"""A log in place of the engine's disk: at each start the store is made again from it, for the next owner."""

from typing import cast

from services.propagation.store.interface import Store
from services.propagation.store.logged.memory_log import MemoryLog, OwnedLog
from services.propagation.store.logged.records import Position
from services.propagation.store.logged.replica import Replica
from services.propagation.store.logged.store import LoggedStore, NumberedStore
from services.propagation.store.memory import MemoryStore


class LogDisk:
    """As `MemoryDisk` is to a store in memory; for whoever is on an event loop."""

    def __init__(self) -> None:
        self._log = MemoryLog()
        self._store: LoggedStore | None = None

    def open(self) -> Store:
        """The store of another owner. What the one before had not made durable is lost."""
        below = cast("NumberedStore", MemoryStore())
        replica = Replica(below)
        for offset, record in enumerate(self._log.records):
            replica.take(offset, record)
        last = replica.caught_up()
        position = Position(last.epoch + 1, last.number)
        self._store = LoggedStore(below, self._log.take_over(position), position)
        return cast("Store", self._store)

    @property
    def automatic(self) -> bool:
        """Whether each commit is durable at once."""
        return self._log.automatic

    @automatic.setter
    def automatic(self, automatic: bool) -> None:
        self._log.automatic = automatic

    @property
    def log(self) -> range:
        """The commits, durable or not."""
        return range(self._store.position.number if self._store is not None else 0)

    @property
    def durable(self) -> int:
        """How many of them are durable."""
        return self._owner.anchor.position.number

    def sync(self) -> None:
        """Everything written so far is durable."""
        self._owner.sync()

    def crash(self, keep: int = 0) -> None:
        """Of what was not durable the first `keep` commits reach the log, the others are lost."""
        self._owner.sync(keep)

    @property
    def _owner(self) -> OwnedLog:
        assert self._log.owner is not None
        return self._log.owner
