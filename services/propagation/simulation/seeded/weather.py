"""Faults that come by time: crashes of the engine, a disk that is full for a while, clocks set, caches restarted."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

from services.propagation.simulation.seeded.caches import Cache
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.host import Host
from services.propagation.simulation.seeded.trace import Trace

MOST_SKEW_S = 3_600.0
MOST_LEAP_S = 60.0

Kind = tuple[str, Callable[[], Coroutine[Any, Any, None]], Callable[[], float]]


class Weather:
    """Strikes by seed."""

    def __init__(
        self,
        host: Host,
        caches: Sequence[Cache],
        rng: Random,
        faults: Callable[[], Faults],
        trace: Trace,
        time_passed: Callable[[], None],
    ) -> None:
        self._host = host
        self._caches = caches
        self._rng = rng
        self._faults = faults
        self._trace = trace
        self._time_passed = time_passed

    def strikes(self, probability: float) -> bool:
        """Whether it hits here."""
        return probability > 0 and self._rng.random() < probability

    def kinds(self) -> list[Kind]:
        """(name, what happens, mean seconds between)."""
        faults = self._faults
        return [
            ("crashes", self.crash, lambda: faults().engine_crash_every_s),
            ("full disks", self.fill_disk, lambda: faults().disk_refuses_every_s),
            ("wall jumps", self.set_wall, lambda: faults().wall_jump_every_s),
            ("leaps", self.leap, lambda: faults().engine_leap_every_s),
            ("cache restarts", self.restart_cache, lambda: faults().cache_restart_every_s),
        ]

    async def crash(self) -> None:
        """The engine's process is killed."""
        self._host.crash()

    async def fill_disk(self) -> None:
        """No write is taken for a while."""
        self._trace("disk", "is full")
        self._host.disk.refuses = True
        await asyncio.sleep(self._rng.uniform(0.1, 3.0))
        self._trace("disk", "has room")
        self._host.disk.refuses = False

    async def set_wall(self) -> None:
        """The engine's wall clock is set, up to an hour off."""
        self._host.skew_s = self._rng.uniform(-MOST_SKEW_S, MOST_SKEW_S)
        self._host.clock.skew_s = self._host.skew_s
        self._trace("engine", f"wall clock set {self._host.skew_s:.0f} s off")

    async def leap(self) -> None:
        """The engine's machine was suspended: its monotonic clock is suddenly further, and copies have caught up."""
        seconds = self._rng.uniform(1.0, MOST_LEAP_S)
        self._host.clock.leapt_s += seconds
        self._time_passed()
        self._trace("engine", f"wakes up {seconds:.0f} s later")

    async def restart_cache(self) -> None:
        """A cache comes back empty."""
        cache = self._rng.choice(list(self._caches))
        self._trace(cache.name, "restarts")
        cache.restart()
