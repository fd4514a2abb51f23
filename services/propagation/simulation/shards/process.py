"""A life of an engine's process in a fleet: the shipped engine over several shards, that leads some of them.

It leads what it is given, from what the shard's log has then. It may be killed, or stand still and go on late with all
that it knew; that another one leads a shard in its place it hears from the group, or from the log, or not for long.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Protocol, TypeVar, cast

from libs.clock.virtual import VirtualClock
from libs.errors.errors import WellspringError
from libs.paging.paging import PageTokens
from libs.purge.caches import Caches
from services.propagation.fleet.admin import FleetAdmin
from services.propagation.fleet.building import Deployment, led
from services.propagation.fleet.errors import ShardAway
from services.propagation.fleet.local import LocalShard
from services.propagation.fleet.propagation import FleetPropagation
from services.propagation.fleet.shards import Shards
from services.propagation.fleet.work import FleetWork
from services.propagation.simulation.seeded.clocks import MachineClock
from services.propagation.simulation.seeded.host import SETTINGS
from services.propagation.simulation.seeded.late_log import LateLog, LateOwner
from services.propagation.simulation.seeded.log_host import Below, SeenLoggedStore, replayed
from services.propagation.simulation.seeded.tasks import Tasks
from services.propagation.simulation.shards.link import Link, Network
from services.propagation.store.interface import Store
from services.propagation.store.logged.records import Position
from services.propagation.store.logged.store import NumberedStore
from services.propagation.store.memory_state import MemoryDisk
from services.propagation.views.parsing import Defaults

_Answer = TypeVar("_Answer")
_LOOK_S = 0.2
_READ_S = 1.0


class Around(Network, Protocol):
    """What a process has around it."""

    logs: list[LateLog]
    virtual: VirtualClock

    def begins(self, number: int) -> None:
        """Another owner leads the shard from now on."""

    def began(self, number: int) -> None:
        """It does: what it found in the log can be looked at."""

    def ended(self, error: BaseException) -> None:
        """Something went wrong that may not."""


@dataclass(eq=False, slots=True)
class Led:
    """A shard that the process leads, or thinks so."""

    shard: LocalShard
    owner: LateOwner
    task: asyncio.Task[Any]


class Process:
    """See the module. `full`: its disk takes nothing."""

    def __init__(self, name: str, around: Around, rng: Random) -> None:
        self.name = name
        self.rng = rng
        self.clock = MachineClock(around.virtual, rng.uniform(0, 1e5))
        self.full = False
        self.dead = False
        self.led: dict[int, Led] = {}
        self._around = around
        self._tasks = Tasks(around.ended)
        self._awake = asyncio.Event()
        self._awake.set()
        self.shards = Shards(len(around.logs), Link(self, around))
        self.propagation = FleetPropagation(self.shards)
        self.work = FleetWork(self.shards, asyncio.Event())
        self.admin = FleetAdmin(self.shards)
        self._deployment = Deployment(
            SETTINGS,
            Defaults(),
            self.clock,
            Random(rng.random()),  # noqa: S311  a simulation
            self._tokens,
            Caches([]),
        )

    async def _tokens(self, store: Store) -> PageTokens:
        return PageTokens([bytes(32)], self.clock, ttl_s=3600)

    # -- calls --------------------------------------------------------------------------------------------------------

    @property
    def is_awake(self) -> bool:
        """Whether it does not stand still."""
        return self._awake.is_set()

    async def awake(self) -> None:
        """Waits while it stands still."""
        await self._awake.wait()

    async def serve(self, method: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """See `Reached.serve`."""
        await self.awake()
        if self.dead:
            raise ShardAway(f"{self.name} is down")
        task: asyncio.Task[_Answer] = self.keep(method())
        await asyncio.wait([task])
        await self.awake()
        if task.cancelled():
            raise ShardAway(f"the connection to {self.name} broke")
        return task.result()

    def keep(self, work: Awaitable[_Answer]) -> asyncio.Task[_Answer]:
        """Ends with the process."""
        return self._tasks.keep(work)

    # -- shards -------------------------------------------------------------------------------------------------------

    async def lead(self, number: int, wanted: Callable[[], bool]) -> None:
        """Reads the log to its end and leads the shard, if it is still `wanted` then."""
        log = self._around.logs[number]
        await asyncio.sleep(self.rng.uniform(0.0, _READ_S))
        while wanted() and not self.dead:
            had = self.led.get(number)
            if had is not None and log.owner is had.owner:
                return
            if had is not None:
                await self.lose(number)
            elif log.leaderless or self.full or not self.is_awake or not await self._take_over(number, log):
                await asyncio.sleep(_LOOK_S)

    async def _take_over(self, number: int, log: LateLog) -> bool:
        """Whether it leads the shard now."""
        below = Below(MemoryDisk(), lambda: self.full)
        last = replayed(cast("NumberedStore", below), log.records)
        position = Position(last.epoch + 1, last.number)
        self._around.begins(number)
        owner = log.take_over(position, partial(self._hear, number))
        store = cast("Store", SeenLoggedStore(below, owner, position))
        try:
            shard = await led(store, number, self.shards, self._deployment, lambda: owner.check(0))
        except WellspringError as error:
            owner.dead = True
            self._around.trace(self.name, f"cannot lead shard {number}: {error.message}")
            return False
        self.shards.own[number] = shard
        self.led[number] = Led(shard, owner, self.keep(shard.run()))
        self.shards.work.fire()
        self._around.began(number)
        roots = len(shard.engine.shard.roots)
        self._around.trace(self.name, f"leads shard {number} behind commit {position.number}, {roots} roots unfinished")
        return True

    async def lose(self, number: int) -> None:
        """Leads the shard no more, as the group says or the log."""
        had = self.led.pop(number, None)
        if had is None:
            return
        self._around.trace(self.name, f"leaves shard {number}")
        had.task.cancel()
        self.shards.own.pop(number, None)
        await had.shard.drain()
        had.owner.dead = True

    def _hear(self, number: int) -> None:
        """The log is another one's."""
        self.keep(self._lose_soon(number))

    async def _lose_soon(self, number: int) -> None:
        await asyncio.sleep(self.rng.uniform(0.0, 1.0))
        had = self.led.get(number)
        if had is not None and self._around.logs[number].owner is not had.owner:
            await self.lose(number)

    # -- faults -------------------------------------------------------------------------------------------------------

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT some time later."""
        self._stand(still=True)
        asyncio.get_running_loop().call_later(seconds, lambda: self._stand(still=False))

    def _stand(self, *, still: bool) -> None:
        for had in self.led.values():
            had.owner.still = still
        if still:
            self._awake.clear()
        else:
            self._awake.set()

    def kill(self) -> None:
        """SIGKILL: nothing of it goes on, but for what is under way to the brokers."""
        self.dead = True
        for had in self.led.values():
            had.owner.dead = True
        self.shards.own.clear()
        self.led.clear()
        self._tasks.end()
        self._awake.set()
