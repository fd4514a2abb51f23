"""The engine's machine: the real engine and the real work interface, over a disk that is slow, refuses and is cut.

Each life opens the engine from what the disk kept. `crash` ends one between two steps: calls under way are never
answered, and of what was not yet durable only a prefix survives; a commit that was half written is no commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol, TypeVar, cast

from libs.clock.virtual import VirtualClock
from libs.embedded.failures import DiskFull
from libs.rpc.call import Call
from services.propagation.domain.change import Change
from services.propagation.domain.completion import Completion
from services.propagation.domain.engine import Engine
from services.propagation.domain.leases import Answer
from services.propagation.domain.leasing import Grant
from services.propagation.domain.publish import Accepted
from services.propagation.domain.shard import Settings
from services.propagation.simulation.seeded.clocks import MachineClock
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.tasks import Tasks
from services.propagation.simulation.seeded.trace import Trace
from services.propagation.store.interface import Store
from services.propagation.store.memory import MemoryCommit, MemoryStore
from services.propagation.store.memory_state import Durability, MemoryDisk, Op
from services.propagation.views.catalogue import Catalogue
from services.propagation.views.parsing import Defaults
from services.propagation.work_servicer import WorkServicer
from wellspring_client.errors import Unavailable

_Answer = TypeVar("_Answer")

REMEMBER_S = 50_000.0

SETTINGS = Settings(
    max_superseded=2,
    max_flips=4,
    stale_delay_s=0.5,
    remember_s=REMEMBER_S,
    lanes={"default": 10, "fast": 30},
)


class Watcher(Protocol):
    """Who looks at the engine after each of its steps."""

    def stepped(self, what: str) -> None: ...

    def leased(self, executor: str, grants: Sequence[Grant]) -> None: ...

    def completing(self, completion: Completion) -> None: ...

    def completed(self, completion: Completion, answer: Answer, *, repeated: bool) -> None: ...

    def extended(self, lease_id: int) -> None: ...

    def published(self, change: Change, accepted: Accepted) -> None: ...

    def synced(self) -> None: ...

    def lost_memory(self) -> None: ...


class WatchedEngine(Engine):
    """The engine, with somebody who looks."""

    def __init__(self, watcher: Watcher, *arguments: Any) -> None:
        self._watcher = watcher
        super().__init__(*arguments)

    def publish(self, change: Change) -> tuple[Accepted, Awaitable[None] | None]:
        """See Engine.publish."""
        answer = super().publish(change)
        self._watcher.published(change, answer[0])
        self._watcher.stepped("publish")
        return answer

    def lease(self, executor: str, capacity: Mapping[str, int]) -> list[Grant]:
        """See Engine.lease."""
        grants = super().lease(executor, capacity)
        if grants:
            self._watcher.leased(executor, grants)
            self._watcher.stepped("lease")
        return grants

    def complete(self, completion: Completion) -> tuple[Answer, Awaitable[None] | None]:
        """See Engine.complete."""
        self._watcher.completing(completion)
        answer = super().complete(completion)
        self._watcher.completed(completion, answer[0], repeated=answer[1] is None)
        self._watcher.stepped("complete")
        return answer

    def extend(self, lease_id: int, fencing: int) -> float:
        """See Engine.extend."""
        left_s = super().extend(lease_id, fencing)
        self._watcher.extended(lease_id)
        return left_s

    def tick(self) -> float:
        """See Engine.tick."""
        halted = self.shard.halted is not None
        wait_s = super().tick()
        if halted and self.shard.halted is None:
            self._watcher.lost_memory()
        self._watcher.stepped("tick")
        return wait_s


class SlowDisk(MemoryDisk):
    """Makes durable what was written, some time later."""

    def __init__(self, rng: Random, faults: Callable[[], Faults], synced: Callable[[], None]) -> None:
        super().__init__(automatic=False)
        self.refuses = False
        self._rng = rng
        self._faults = faults
        self._synced = synced
        self._sync_due: asyncio.TimerHandle | None = None

    def append(self, ops: tuple[Op, ...]) -> Durability:
        """Takes a commit."""
        written = super().append(ops)
        if self._sync_due is None:
            wait_s = self._rng.expovariate(1 / max(self._faults().disk_slow_s, 1e-4))
            self._sync_due = asyncio.get_running_loop().call_later(wait_s, self.sync)
        return written

    def sync(self) -> None:
        """All is durable now."""
        self._sync_due = None
        super().sync()
        self._synced()

    def crash(self, keep: int = 0) -> None:
        """Cut behind `keep` of the commits that were not durable."""
        if self._sync_due is not None:
            self._sync_due.cancel()
            self._sync_due = None
        super().crash(keep)


class RefusingStore(MemoryStore):
    """A store whose disk may be full."""

    def write(self, commit: MemoryCommit) -> Awaitable[None]:
        """See MemoryStore.write."""
        if isinstance(self.disk, SlowDisk) and self.disk.refuses:
            raise DiskFull("the disk is full")
        return super().write(commit)


class _NoDeadline:
    """What the work interface asks of a call."""

    remaining_s = 60.0


CALL = cast("Call", _NoDeadline())


class Host:
    """Lives of the engine, one after another."""

    def __init__(
        self,
        virtual: VirtualClock,
        rng: Random,
        faults: Callable[[], Faults],
        trace: Trace,
        watcher: Watcher,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._failed = failed
        self._virtual = virtual
        self._rng = rng
        self.faults = faults
        self.trace = trace
        self._watcher = watcher
        self.disk = SlowDisk(rng, faults, watcher.synced)
        self.skew_s = 0.0
        self.lives = 0
        self.engine: WatchedEngine | None = None
        self.catalogue: Catalogue | None = None
        self.clock = MachineClock(virtual, 0.0)
        self._work: WorkServicer | None = None
        self._tasks = Tasks(failed)

    @property
    def up(self) -> WatchedEngine:
        """The engine. Raises Unavailable between two lives."""
        if self.engine is None:
            raise Unavailable("the engine is down", reason="DOWN")
        return self.engine

    @property
    def views(self) -> Catalogue:
        """The views in force. Raises Unavailable between two lives."""
        if self.catalogue is None:
            raise Unavailable("the engine is down", reason="DOWN")
        return self.catalogue

    @property
    def work(self) -> WorkServicer:
        """What executors call. Raises Unavailable between two lives."""
        if self._work is None:
            raise Unavailable("the engine is down", reason="DOWN")
        return self._work

    def start(self) -> None:
        """A new life from what the disk kept; while the disk takes no writes, another try a little later."""
        if self.disk.refuses:
            asyncio.get_running_loop().call_later(0.5, self.start)
            return
        self.lives += 1
        self.clock = MachineClock(self._virtual, self._rng.uniform(0, 1e5))
        self.clock.skew_s = self.skew_s
        store = self._open()
        catalogue = Catalogue(store, Defaults())
        rng = Random(self._rng.random())  # noqa: S311  a seeded simulation
        views, revision = catalogue.views(), catalogue.revision
        engine = WatchedEngine(self._watcher, store, self.clock, rng, SETTINGS, views, revision, catalogue.older())
        self.engine, self.catalogue = engine, catalogue
        self._work = WorkServicer(engine, catalogue)
        self._tasks.keep(engine.run())
        self.trace("engine", f"life {self.lives} begins, {len(engine.shard.roots)} roots unfinished")
        self._watcher.stepped("start")

    def crash(self) -> None:
        """kill -9 and a cut of the disk."""
        if self.engine is None:
            return
        self._cut()
        self.engine = self.catalogue = self._work = None
        self._tasks.end()
        self._watcher.lost_memory()
        wait_s = self._rng.uniform(0.0, 2.0)
        asyncio.get_running_loop().call_later(wait_s, self.start)

    def _open(self) -> Store:
        """What the disk kept."""
        return cast("Store", RefusingStore(self.disk))

    def _cut(self) -> None:
        """What a kill leaves on the disk."""
        unsynced = len(self.disk.log) - self.disk.durable
        keep = self._rng.randrange(unsynced + 1)
        self.trace("engine", f"killed; of {unsynced} commits that were not durable {keep} survive")
        self.disk.crash(keep)

    def crash_soon(self) -> None:
        """Right after the present step, before anything is answered."""
        asyncio.get_running_loop().call_soon(self.crash)

    async def call(self, method: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """As over a connection: it breaks when the engine dies, and the call goes on when its caller does."""
        if self.engine is None:
            raise Unavailable("the engine is down", reason="DOWN")
        task = self._tasks.keep(method())
        await asyncio.wait([task])
        if task.cancelled():
            raise Unavailable("the connection broke", reason="BROKEN")
        return task.result()
