"""One auditor put together: sampler, sweeper, and the reports on disk. Everything outside the process is passed in."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from libs.clock.clock import Clock
from services.propagation.auditor.freshness import Freshness
from services.propagation.auditor.looks import Looks
from services.propagation.auditor.orphans import OrphanSweep
from services.propagation.auditor.outputs import OutputSweep
from services.propagation.auditor.pace import Pace
from services.propagation.auditor.ports import Cache, Engine, Pages
from services.propagation.auditor.repairs import Repairs
from services.propagation.auditor.reservoir import Reservoir
from services.propagation.auditor.sampling import Sampler, SamplingOptions
from services.propagation.auditor.state import FRESHNESS, StateDirectory
from services.propagation.auditor.sweeping import Sweeper
from services.propagation.auditor.turn import Turn

POOL = 10_000
"""Pages kept for looks at those that did not change: a sample of all that the sweep has passed."""
REPORT_EVERY_S = 10.0
_PART_S = 2.0
"""About so long a part of the sweep takes: what a kill costs, and what is listed at once."""
_LEAST_PART, _MOST_PART = 20, 5_000


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """`pages_per_s` 0 has no limit; `cache_share` of the pages are looked at in the caches too."""

    pages_per_s: float
    pause_s: float
    cache_share: float


@dataclass(frozen=True, slots=True)
class Outside:
    """What the auditor works with, and by. `nonce` gives a text that is new each time."""

    engine: Engine
    pages: Pages
    caches: Sequence[Cache]
    clock: Clock
    rng: Random
    nonce: Callable[[], str]
    state: StateDirectory


class Auditor:
    """`sampling` and `sweeping` run until cancelled. `repair` off: what is found is told only."""

    def __init__(
        self,
        outside: Outside,
        sampling: SamplingOptions,
        sweep: SweepOptions,
        *,
        repair: bool = True,
        tell: Callable[[Turn], None] = lambda turn: None,
    ) -> None:
        clock, engine, pages = outside.clock, outside.engine, outside.pages
        self._clock = clock
        self._state = outside.state
        self.freshness = Freshness(sampling.delays_s)
        self.repairs = Repairs(engine, clock, outside.nonce, enabled=repair)
        pool: Reservoir[tuple[str, str]] = Reservoir(POOL, outside.rng)
        looks = Looks(outside.caches, pages, repair=repair)
        self.sampler = Sampler(engine, pages, looks, self.repairs, self.freshness, pool, clock, outside.rng, sampling)
        pace = Pace(clock, sweep.pages_per_s)
        size = int(min(_MOST_PART, max(_LEAST_PART, sweep.pages_per_s * _PART_S))) if sweep.pages_per_s else _MOST_PART
        self.sweeper = Sweeper(
            engine,
            OutputSweep(engine, pages, looks, self.repairs, pool, pace, outside.rng, sweep.cache_share, size),
            OrphanSweep(engine, pages, self.repairs, pace),
            clock,
            outside.state,
            sweep.pause_s,
            tell,
        )

    async def sampling(self) -> None:
        """Looks at samples, and writes down how fresh they are."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.sampler.run())
            group.create_task(self._keep_report())

    async def sweeping(self) -> None:
        """Turns without end."""
        await self.sweeper.run()

    async def _keep_report(self) -> None:
        began_ns = self._clock.time_ns()
        while True:
            await self._clock.sleep(REPORT_EVERY_S)
            now_ns = self._clock.time_ns()
            times = {"since_unix_s": began_ns / 1e9, "at_unix_s": now_ns / 1e9}
            await self._state.write(FRESHNESS, times | self.freshness.told())
