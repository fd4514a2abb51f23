"""Two machines with engines over one log: one owns the shard, and now and then another has taken it over without its
knowing.

A former owner that wakes up late goes on as it was: it lends, takes reports and changes, and appends, until its log
tells it. Nobody watches it: what it does to pages and caches is watched where they are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random
from typing import TypeVar, cast

import numpy as np

from libs.clock.virtual import VirtualClock
from libs.embedded.failures import DiskFull
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.host import Host, WatchedEngine, Watcher
from services.propagation.simulation.seeded.late_log import LateLog, LateOwner
from services.propagation.simulation.seeded.tasks import Tasks
from services.propagation.simulation.seeded.trace import Trace, Violation
from services.propagation.store.interface import Store
from services.propagation.store.logged.place import KIND
from services.propagation.store.logged.records import Position
from services.propagation.store.logged.replica import Diverged, Replica
from services.propagation.store.logged.store import LoggedStore, NumberedStore
from services.propagation.store.memory import MemoryCommit, MemoryStore
from services.propagation.store.memory_state import MemoryDisk, State
from services.propagation.views.catalogue import Catalogue
from services.propagation.work_servicer import WorkServicer
from wellspring_client.errors import Unavailable

_Answer = TypeVar("_Answer")

_TO_THE_FORMER = 0.5
"""Callers who know both find the one that was there before so often."""
_UNAWARE_S = 40.0


class Machine:
    """`disk` is what a kill leaves."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.disk = MemoryDisk(automatic=False)


class Below(MemoryStore):
    """The store below a log: it takes nothing while `full` says so."""

    def __init__(self, disk: MemoryDisk, full: Callable[[], bool]) -> None:
        super().__init__(disk)
        self._full = full

    def write(self, commit: MemoryCommit) -> Awaitable[None]:
        """See MemoryStore.write."""
        if self._full():
            raise DiskFull("the disk is full")
        return super().write(commit)


class SeenLoggedStore(LoggedStore):
    """A logged store whose state can be looked at."""

    def __init__(self, below: Below, log: LateOwner, position: Position) -> None:
        super().__init__(cast("NumberedStore", below), log, position)
        self.seen = below

    @property
    def state(self) -> State:
        """That of the store below."""
        return self.seen.state


class Nobody:
    """Looks at nothing: see `host.Watcher`."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@dataclass(slots=True)
class Former:
    """An owner that does not know of the next one."""

    machine: Machine
    engine: WatchedEngine
    catalogue: Catalogue
    work: WorkServicer
    owner: LateOwner
    tasks: Tasks
    ended: bool = False


_TARGET: ContextVar[Former | None] = ContextVar("target", default=None)


class LogHost(Host):
    """See `Host`; `log` is what both machines share."""

    def __init__(
        self,
        virtual: VirtualClock,
        rng: Random,
        faults: Callable[[], Faults],
        trace: Trace,
        watcher: Watcher,
        failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(virtual, rng, faults, trace, watcher, failed)
        self.log = LateLog(rng, faults, watcher.synced)
        self.machines = (Machine("a"), Machine("b"))
        self.take_overs = 0
        self.diverged = 0
        self._machine = self.machines[0]
        self._former: Former | None = None

    # -- who is called ------------------------------------------------------------------------------------------------

    @property
    def up(self) -> WatchedEngine:
        """The engine, or the former one for who was sent there."""
        former = self._target()
        return super().up if former is None else former.engine

    @property
    def views(self) -> Catalogue:
        """Its views."""
        former = self._target()
        return super().views if former is None else former.catalogue

    @property
    def work(self) -> WorkServicer:
        """What executors call."""
        former = self._target()
        return super().work if former is None else former.work

    def _target(self) -> Former | None:
        former = _TARGET.get()
        if former is not None and former.ended:
            raise Unavailable("the engine has ended", reason="DOWN")
        return former

    async def call(self, method: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """As over a connection to one of both engines."""
        former = self._former
        if former is None or self._rng.random() >= _TO_THE_FORMER:
            return await super().call(method)
        given = _TARGET.set(former)
        try:
            task = former.tasks.keep(method())
        finally:
            _TARGET.reset(given)
        await asyncio.wait([task])
        if task.cancelled():
            raise Unavailable("the connection broke", reason="BROKEN")
        return task.result()

    # -- owners -------------------------------------------------------------------------------------------------------

    def depose(self) -> None:
        """The group gives the shard to the other machine, and the engine does not hear of it."""
        if self.engine is None or self._former is not None:
            return
        assert self.catalogue is not None and self._work is not None and self.log.owner is not None
        former = Former(self._machine, self.engine, self.catalogue, self._work, self.log.owner, self._tasks)
        former.engine._watcher = cast("Watcher", Nobody())
        self._former = former
        self.engine = self.catalogue = self._work = None
        self._tasks = Tasks(self._failed)
        self._watcher.lost_memory()
        self.take_overs += 1
        self.trace("engine", "stands still, and another takes its shard over")
        asyncio.get_running_loop().call_later(self._rng.uniform(0.5, _UNAWARE_S), self._end, former)
        self.start()

    def _end(self, former: Former) -> None:
        """The process of a former owner ends."""
        if former.ended:
            return
        self.trace("engine", "a former owner ends")
        former.ended = former.owner.dead = True
        former.machine.disk.crash(self._rng.randrange(len(former.machine.disk.log) - former.machine.disk.durable + 1))
        former.tasks.end()
        self._former = None

    def _open(self) -> Store:
        free = [one for one in self.machines if self._former is None or one is not self._former.machine]
        self._machine = machine = self._rng.choice(free)
        below, last = self._caught_up(machine)
        position = Position(last.epoch + 1, last.number)
        former = self.log.owner
        owner = self.log.take_over(position, self._lost)
        if former is not None:
            self.trace("engine", f"machine {machine.name} leads behind commit {position.number}")
        machine.disk.sync()
        return cast("Store", SeenLoggedStore(below, owner, position))

    def _caught_up(self, machine: Machine) -> tuple[Below, Position]:
        """The machine's store with all that the log has; made anew if it has more."""
        below = Below(machine.disk, lambda: self.disk.refuses)
        try:
            return below, replayed(cast("NumberedStore", below), self.log.records)
        except Diverged:
            self.diverged += 1
            machine.disk = MemoryDisk(automatic=False)
            below = Below(machine.disk, lambda: self.disk.refuses)
            return below, replayed(cast("NumberedStore", below), self.log.records)

    def _lost(self) -> None:
        """A former owner was told: its process ends soon."""
        if self._former is not None:
            asyncio.get_running_loop().call_later(self._rng.uniform(0.0, 1.0), self._end, self._former)

    def _cut(self) -> None:
        disk, owner = self._machine.disk, self.log.owner
        keep = self._rng.randrange(len(disk.log) - disk.durable + 1)
        disk.crash(keep)
        if owner is not None:
            owner.dead = True
        self.trace("engine", f"killed; its disk keeps {keep} commits since it led, and the log what has reached it")

    # -- the end ------------------------------------------------------------------------------------------------------

    def check_log(self) -> None:
        """See `check_log`."""
        check_log(cast("SeenLoggedStore", self.up.shard.store).seen, self.log)


def check_log(store: MemoryStore, log: LateLog) -> None:
    """The log alone makes the store that the owner has. Raises Violation."""
    again = MemoryStore(MemoryDisk())
    replayed(cast("NumberedStore", again), log.records)
    for mine, made in zip(_facts(store), _facts(again), strict=True):
        if mine != made:
            raise Violation("the log makes the store again", f"{mine} is in the store, the log makes {made}")


def _facts(store: MemoryStore) -> Iterator[object]:
    """All that a store keeps, but for its place in the log."""
    state, every = store.state, np.arange(store.resource_count, dtype=np.uint32)
    yield state.views
    yield state.numbers
    yield state.input_numbers
    yield {place: inputs.tolist() for place, inputs in state.forward.items() if len(inputs)}
    yield state.edge_count
    for view in state.views.values():
        yield store.rendered_at(view, every).tolist()
        yield store.output_changed_at(view, every).tolist()
        yield store.hashes(view, every).tobytes()
    yield state.changes
    yield {kind: kept for kind, kept in state.records.items() if kind != KIND}


def replayed(below: NumberedStore, log: list[bytes]) -> Position:
    """Applies the log; answers how far it is. Raises Diverged."""
    replica = Replica(below)
    if replica.begins_at >= len(log) and log:
        raise Diverged
    for offset in range(replica.begins_at, len(log)):
        replica.take(offset, log[offset])
    return replica.caught_up() if log else Position(0, 0)
