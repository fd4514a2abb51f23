"""One seeded run: everything in one process on a virtual clock, a storm, then a calm in which all must come right."""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from libs.clock.virtual import VirtualClock
from libs.errors.errors import WellspringError as EngineError
from services.propagation.domain.shard import Shard
from services.propagation.simulation.seeded import ending
from services.propagation.simulation.seeded.caches import caches_of
from services.propagation.simulation.seeded.clocks import MachineClock
from services.propagation.simulation.seeded.executors import CachesPort, EnginePort, StorePort, executor
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.host import REMEMBER_S, Host
from services.propagation.simulation.seeded.index import Index, targets_of
from services.propagation.simulation.seeded.invariants import Invariants
from services.propagation.simulation.seeded.operators import Operator
from services.propagation.simulation.seeded.people import (
    AUDIT_EVERY_S,
    Auditor,
    Author,
    Readers,
    again_and_again,
)
from services.propagation.simulation.seeded.places import views_text
from services.propagation.simulation.seeded.renderer import CURRENT, Kitchen
from services.propagation.simulation.seeded.site import Place, Site
from services.propagation.simulation.seeded.trace import Trace, Violation, violation_in
from services.propagation.simulation.seeded.weather import Kind, Weather
from services.propagation.simulation.seeded.wire import STOPPED_S, Process
from services.propagation.targets.targets import Targets
from wellspring_client.errors import Unavailable

STORM_S = 50.0
CALM_AT_MOST_S = 2_000.0
EDIT_EVERY_S = 1.2
READ_EVERY_S = 0.06
EXECUTORS = 3

Act = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. `digest` is the same for each run of a seed."""

    seed: int
    digest: int
    lines: int
    steps: int
    renders: int
    roots_checked: int
    dear_checks: int
    lives: int
    repaired: int
    virtual_s: float


class World:
    """One run of one seed. What a test wants otherwise it changes before `run`."""

    host_of: type[Host] = Host

    def __init__(self, seed: int, faults: Faults | None = None, *, printing: bool = False) -> None:
        self.seed = seed
        self.virtual = VirtualClock()
        self.faults = faults if faults is not None else Faults.drawn(self.rng("faults"))
        self.storming = True
        self.trace = Trace(self.virtual.monotonic, printing=printing)
        self.site = Site(self.virtual.monotonic, self.rng("replica"), self.faults.replica_lag_s)
        self.lost_purges: set[tuple[str, Place]] = set()
        self.index = Index()
        self._network = self.rng("cache network")
        self.caches = caches_of(self.site, self._delay)
        self.invariants = Invariants(
            self.site, self.caches, self.lost_purges, self.trace, self._shard, self._engine_stepped
        )
        self.host = self.host_of(self.virtual, self.rng("host"), self._now, self.trace, self.invariants, self._failed)
        self.author = Author(self.site, self.host, self.invariants, self.rng("author"), self._now, self.trace)
        self.operator = Operator(self.host, self.author, self.invariants, self.rng("operator"), self._now, self.trace)
        self.readers = Readers(self.caches, self.site, self.invariants, self.rng("readers"))
        self.auditor = Auditor(self.caches, self.site, self.lost_purges, self.trace)
        self.weather = Weather(
            self.host, self.caches, self.rng("weather"), self._now, self.trace, self.site.replica.catch_up
        )
        self.kitchen = Kitchen(self.site, self.rng("kitchen"), self._now)
        self.engine_port: type[EnginePort] = EnginePort
        self.store_port: type[StorePort] = StorePort
        self.caches_port: type[CachesPort] = CachesPort
        self._broken: asyncio.Future[None] | None = None

    def rng(self, name: str) -> Random:
        """A stream of its own for each part, so that one more draw of one part leaves the others as they were."""
        return Random(f"{self.seed}/{name}")  # noqa: S311  a seeded simulation

    def run(self) -> Outcome:
        """Plays the seed. Raises Violation."""
        for name in ("services.propagation", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.trace("world", f"seed {self.seed}: {self.faults}")
        try:
            self.virtual.run(self._main())
        except BaseExceptionGroup as group:
            broken = violation_in(group)
            if broken is None:
                raise
            raise broken from group
        return Outcome(
            self.seed,
            self.trace.digest,
            self.trace.count,
            self.invariants.steps,
            sum(self.kitchen.renders.values()),
            self.invariants.roots_checked,
            self.invariants.dear_checks,
            self.host.lives,
            self.auditor.repaired,
            self.virtual.monotonic(),
        )

    def replayed(self) -> str:
        """What plays it again, below `simulation/`."""
        return f"seeded:replay -- --seed {self.seed}"

    def ports(self, process: Process) -> tuple[EnginePort, StorePort, CachesPort, Targets]:
        """An executor's ways to the others."""
        return (
            self.engine_port(process, self.host),
            self.store_port(process, self.site, self.invariants.stored),
            self.caches_port(process, self.caches, self.lost_purges, self.faults.replica_lag_s),
            targets_of(process, self.index),
        )

    async def _main(self) -> None:
        self._broken = asyncio.get_running_loop().create_future()
        CURRENT.set(self.kitchen)
        play = asyncio.ensure_future(self._play())
        await asyncio.wait([play, self._broken], return_when=asyncio.FIRST_COMPLETED)
        if self._broken.done():
            play.cancel()
            await asyncio.wait([play])
            self._broken.result()
        play.result()

    async def _play(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._start()
            await self._put_first_views()
            ending_with = [
                tasks.create_task(executor(name, self.rng(name), self._now, self.trace, self.ports))
                for name in (f"executor{at}" for at in range(EXECUTORS))
            ]

            def often(act: Act, every_s: Callable[[], float], name: str) -> None:
                ending_with.append(tasks.create_task(again_and_again(act, every_s, self.rng(name), tasks)))

            tasks.create_task(self.author.at_work(self.author.create_all()))
            often(self.author.edit, lambda: EDIT_EVERY_S if self.storming else 0.0, "edits")
            often(self.readers.read, lambda: READ_EVERY_S if self.storming else 2.0, "reads")
            often(self._audit, lambda: AUDIT_EVERY_S if self.faults.purge_lost else 0.0, "audits")
            act, reload = self._operators()
            often(act, lambda: self.faults.operator_every_s, "operator")
            often(reload, lambda: self.faults.reload_every_s, "reloads")
            for name, act, every_s in self._weather_kinds():
                often(act, every_s, name)
            await asyncio.sleep(STORM_S)
            await self._calm()
            for task in ending_with:
                task.cancel()

    def _start(self) -> None:
        self.host.start()

    def _operators(self) -> tuple[Act, Act]:
        return self.operator.act, self.operator.reload

    def _weather_kinds(self) -> list[Kind]:
        return self.weather.kinds()

    async def _put_first_views(self) -> None:
        async def put() -> None:
            await self.host.views.put(self.host.up, views_text(self.rng("views")))

        while True:
            try:
                await self.host.call(put)
                return
            except (EngineError, Unavailable):
                await asyncio.sleep(0.5)

    async def _calm(self) -> None:
        """No more faults. What is late has its time to come; then all must be done, and stay so."""
        storm = self.faults
        self.storming = False
        self.faults = storm.calm()
        self.host.disk.refuses = False
        self.trace("world", "the storm is over")
        await asyncio.sleep(STOPPED_S[1] + 5)
        deadline_s = self.virtual.monotonic() + CALM_AT_MOST_S
        back = False
        while not (back and self._at_rest()):
            if self.virtual.monotonic() > deadline_s:
                raise Violation("everything comes to rest", self._unrest())
            back = await self._mend() or back
            await asyncio.sleep(3.0)
        await asyncio.sleep(60.0)  # leases that ended leave the table of deadlines
        if storm.purge_lost:
            self.auditor.look()
        elif self.auditor.repaired:
            raise Violation("caches are fresh", "the auditor had something to repair although no purge was lost")
        self._check_end()
        for clock in self._clocks():
            clock.skew_s += REMEMBER_S * 2
        await asyncio.sleep(30.0)
        self._check_forgotten()

    async def _mend(self) -> bool:
        """What people do when the storm is over. Whether no view was left out any more."""
        shard = self._shard()
        if shard is None or self.author.busy:
            return False
        await self.author.heal()
        self.operator.resume(shard)
        self.operator.replay(shard)
        return await self.operator.bring_back(shard)

    def _clocks(self) -> Sequence[MachineClock]:
        return [self.host.clock]

    def _check_forgotten(self) -> None:
        ending.check_forgotten(self.host.up.shard)

    def _check_end(self) -> None:
        shard = self.host.up.shard
        ending.check_fresh(self.site)
        ending.check_caches(self.site, self.caches)
        ending.check_called(self.site, self.index)
        ending.check_sums(shard)
        ending.check_nothing_left(shard)

    def _at_rest(self) -> bool:
        shard = self._shard()
        if shard is None or self.author.busy or shard.roots or shard.halted is not None:
            return False
        return all(held.reason == "OSCILLATION" for held in shard.holds.dead_letters(None))

    def _unrest(self) -> str:
        shard = self._shard()
        if shard is None:
            return "the engine is down"
        roots = {root.id: (root.record.state.name, root.tally(), root.settling) for root in shard.roots.values()}
        dead = [(held.view, held.resource, held.reason) for held in shard.holds.dead_letters(None)]
        return f"authors {self.author.busy}, roots {roots}, dead letters {dead}, waiting {shard.holds.waiting_count}"

    async def _audit(self) -> None:
        self.auditor.look()

    async def _delay(self, most_s: float = math.inf) -> None:
        await asyncio.sleep(min(most_s, self._network.expovariate(1 / max(self.faults.delay_s, 1e-4))))

    def _now(self) -> Faults:
        return self.faults

    def _shard(self) -> Shard | None:
        return self.host.engine.shard if self.host.engine is not None else None

    def _engine_stepped(self) -> None:
        if self.weather.strikes(self.faults.engine_crash):
            self.host.crash_soon()

    def _failed(self, error: BaseException) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(violation_in(error) or error)
