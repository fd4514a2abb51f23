"""A process's way to the others: messages that are late, lost or come twice, and a process that dies or stops between.

Every exchange has a boundary before and behind it. At each the process may be killed (nothing of it goes on) or stopped
(all of it waits, and wakes up late with what it knew).
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.trace import Trace
from wellspring_client.errors import Unavailable

_Answer = TypeVar("_Answer")

STOPPED_S = (0.5, 70.0)
_LATE_S = 45.0
_BATCHES_S = 60.0


class Killed(asyncio.CancelledError):
    """The process is gone: nothing in it runs any further."""


class Process:
    """One life of an executor; `faults()` are those of the present hour."""

    def __init__(self, name: str, rng: Random, faults: Callable[[], Faults], trace: Trace) -> None:
        self.name = name
        self.rng = rng
        self.faults = faults
        self.trace = trace
        self.dead = False
        self._named: list[tuple[float, frozenset[str]]] = []
        self.task: asyncio.Task[None] | None = None
        self._awake = asyncio.Event()
        self._awake.set()
        self._echoes: set[asyncio.Task[Any]] = set()

    def take(self, inputs: frozenset[str]) -> None:
        """A batch, with the inputs that it names."""
        now_s = asyncio.get_running_loop().time()
        self._named = [one for one in self._named if one[0] > now_s - _BATCHES_S]
        self._named.append((now_s, inputs))

    def must_see_new(self, name: str) -> bool:
        """Whether every batch of late names the input: how old a copy of it may be is then known to all renders."""
        return bool(self._named) and all(name in inputs for _, inputs in self._named)

    def kill(self, where: str) -> None:
        """SIGKILL."""
        self.trace(self.name, f"killed {where}")
        self.dead = True
        if self.task is not None:
            self.task.cancel()

    def stop(self, where: str) -> None:
        """SIGSTOP, and SIGCONT some time later."""
        seconds = self.rng.uniform(*STOPPED_S)
        self.trace(self.name, f"stopped {where} for {seconds:.1f} s")
        self._awake.clear()
        asyncio.get_running_loop().call_later(seconds, self._awake.set)

    async def boundary(self, where: str) -> None:
        """Between two steps."""
        roll = self.rng.random()
        faults = self.faults()
        if not self.dead:
            if roll < faults.executor_kill:
                self.kill(where)
            elif roll < faults.executor_kill + faults.executor_stop and self._awake.is_set():
                self.stop(where)
        await self._awake.wait()
        if self.dead:
            raise Killed

    async def exchange(self, what: str, effect: Callable[[], Awaitable[_Answer]], *, repeatable: bool) -> _Answer:
        """Asks another process. Raises Unavailable where the request or its answer was lost, and what `effect` raises.

        `repeatable`: the network may deliver it a second time, much later.
        """
        rng, faults = self.rng, self.faults()
        await self.boundary(f"before {what}")
        await self.delay()
        if rng.random() < faults.request_lost:
            raise Unavailable(f"{what} was lost", reason="LOST")
        if repeatable and rng.random() < faults.duplicated:
            echo = asyncio.ensure_future(self._echo(rng.uniform(0, _LATE_S), what, effect))
            self._echoes.add(echo)
            echo.add_done_callback(self._echoes.discard)
        answer = await effect()
        await self.delay()
        await self.boundary(f"after {what}")
        if rng.random() < faults.answer_lost:
            raise Unavailable(f"the answer of {what} was lost", reason="LOST")
        return answer

    async def delay(self) -> None:
        """On the way."""
        await asyncio.sleep(self.rng.expovariate(1 / max(self.faults().delay_s, 1e-4)))

    async def _echo(self, seconds: float, what: str, effect: Callable[[], Awaitable[Any]]) -> None:
        await asyncio.sleep(seconds)
        self.trace(self.name, f"{what} arrives again, {seconds:.1f} s late")
        try:
            await effect()
        except Unavailable:
            return
