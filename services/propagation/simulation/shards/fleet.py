"""Engines' processes, the group that gives them shards, and the logs of these: what is the engine's machine elsewhere.

Each shard is watched at whoever leads it by its log, by invariants of its own. A former owner is not: what it does to
pages and caches is watched where they are, what it tells callers by those who ask.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from random import Random
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from libs.clock.virtual import VirtualClock
from libs.rpc.call import Call
from services.propagation.domain.shard import Shard
from services.propagation.fleet.ids import change_told
from services.propagation.fleet.propagation import FleetPropagation
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.host import Host, WatchedEngine, Watcher
from services.propagation.simulation.seeded.late_log import LateLog
from services.propagation.simulation.seeded.log_host import Nobody
from services.propagation.simulation.seeded.trace import Trace
from services.propagation.simulation.shards.calling import call_of
from services.propagation.simulation.shards.process import Process
from services.propagation.work_servicer import WorkServicer

_Answer = TypeVar("_Answer")
CALL_S = 60.0
_SESSION_S = (0.5, 6.0)
_UNAWARE_S = 40.0
_FORMER_KNOWN_S = 5.0
_TO_THE_FORMER = 0.3
"""Who asks for a shard that moved lately finds its former owner so often."""
_TARGET: ContextVar[Process | None] = ContextVar("process", default=None)


class _Asked:
    """A process's servicer as a caller has it: with messages of its own."""

    def __init__(self, process: Process, servicer: object) -> None:
        self._process = process
        self._servicer = servicer

    def __getattr__(self, name: str) -> Callable[[Message, Call], Awaitable[Any]]:
        async def ask(request: Message, call: Call) -> Any:
            copy = type(request)()
            copy.CopyFrom(request)
            return await getattr(self._servicer, name)(copy, call_of(call.remaining_s))

        return ask


class FleetHost(Host):
    """See `Host`: callers find any of the processes. `watchers` are those of the shards."""

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
        self.virtual = virtual
        self.logs: list[LateLog] = []
        self.watchers: Sequence[Watcher] = []
        self.processes: list[Process] = []
        self.engines: dict[int, WatchedEngine] = {}
        self.moves = 0
        self.woke_s = -1.0
        self._given: dict[int, Process] = {}
        self._former: dict[int, tuple[Process, float]] = {}

    def open(self, watchers: Sequence[Watcher]) -> None:
        """As many shards as there are watchers."""
        self.watchers = watchers
        self.logs = [LateLog(self._rng, self.faults, watcher.synced) for watcher in watchers]

    # -- callers ------------------------------------------------------------------------------------------------------

    async def call(self, method: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """As over a connection to one of the processes."""
        process = self._rng.choice(self.processes)

        async def within() -> _Answer:
            _TARGET.set(process)
            return await process.serve(method)

        return await asyncio.ensure_future(within())

    @property
    def work(self) -> WorkServicer:
        """What executors call."""
        return cast("WorkServicer", self._servicer("work"))

    @property
    def propagation(self) -> FleetPropagation:
        """What authors call."""
        return cast("FleetPropagation", self._servicer("propagation"))

    def method(self, name: str) -> Callable[[Message, Call], Awaitable[Any]]:
        """What operators call, by its name."""
        found: Callable[[Message, Call], Awaitable[Any]]
        found = getattr(self._servicer("propagation" if hasattr(FleetPropagation, name) else "admin"), name)
        return found

    def _servicer(self, name: str) -> _Asked:
        process = _TARGET.get()
        assert process is not None
        return _Asked(process, getattr(process, name))

    # -- what processes ask -------------------------------------------------------------------------------------------

    def chance(self) -> float:
        """See `Network`."""
        return self._rng.random()

    def believed(self, shard: int) -> Process | None:
        """See `Network`."""
        former, until_s = self._former.get(shard, (None, 0.0))
        if former is not None and self._virtual.monotonic() < until_s and self._rng.random() < _TO_THE_FORMER:
            return former
        return self._given.get(shard)

    def begins(self, number: int) -> None:
        """See `Around`."""
        engine = self.engines.pop(number, None)
        if engine is not None:
            engine._watcher = cast("Watcher", Nobody())
        self.watchers[number].lost_memory()

    def began(self, number: int) -> None:
        """See `Around`."""
        self.watchers[number].stepped("start")

    def ended(self, error: BaseException) -> None:
        """See `Around`."""
        self._failed(error)

    def engine_of(self, *arguments: Any) -> WatchedEngine:
        """In place of `Engine`: the one that leads the shard of these settings from now on."""
        number = arguments[3].part.number
        engine = self.engines[number] = WatchedEngine(self.watchers[number], *arguments)
        self.lives += 1
        return engine

    def domain(self, number: int) -> Shard | None:
        """The shard as whoever leads it by its log has it."""
        engine = self.engines.get(number)
        return engine.shard if engine is not None else None

    def unfinished(self, change_id: str) -> bool:
        """Whether a shard has the root unfinished, or is led by nobody."""
        for number in range(len(self.logs)):
            shard = self.domain(number)
            if shard is None or any(change_told(number, root.id) == change_id for root in shard.roots.values()):
                return True
        return False

    # -- the group ----------------------------------------------------------------------------------------------------

    def begin(self, processes: int) -> None:
        """Processes, with the shards shared out."""
        self.processes = [self._made(f"engine{at}") for at in range(processes)]
        for number in range(len(self.logs)):
            self._give(number, self.processes[number % processes])

    def _made(self, name: str) -> Process:
        process = Process(name, self, Random(self._rng.random()))  # noqa: S311  a seeded simulation
        process.clock.skew_s = self.skew_s
        return process

    def _give(self, number: int, process: Process) -> None:
        former = self._given.get(number)
        if former is not None and former is not process:
            self._former[number] = former, self._virtual.monotonic() + self._rng.uniform(0, _FORMER_KNOWN_S)
        self._given[number] = process
        if process.dead:
            self._give_away(number, process)
            return
        process.keep(process.lead(number, lambda: self._given.get(number) is process))

    def _give_away(self, number: int, dead: Process) -> None:
        """The group misses a process."""
        if self._given.get(number) is not dead:
            return
        members = self._members()
        if members:
            self._give(number, self._rng.choice(members))
        else:
            asyncio.get_running_loop().call_later(_SESSION_S[0], self._give_away, number, dead)

    def _members(self, but: Process | None = None) -> list[Process]:
        """Who is in the group, but one."""
        return [one for one in self.processes if not one.dead and one.is_awake and one is not but]

    def move(self) -> None:
        """The group gives a shard to another process; the former owner hears of it, first or much later."""
        number = self._rng.randrange(len(self.logs))
        former = self._given[number]
        others = self._members(former)
        if not others or number not in former.led:
            return
        self.moves += 1
        heir = self._rng.choice(others)
        if self._rng.random() < 0.5:
            self.trace("group", f"moves shard {number} to {heir.name}")
            former.keep(self._hand_over(number, former, heir))
        else:
            self.trace("group", f"gives shard {number} to {heir.name}, and {former.name} does not hear of it")
            self._give(number, heir)
            former.keep(self._hear_later(number, former))

    async def _hand_over(self, number: int, former: Process, heir: Process) -> None:
        await former.lose(number)
        if self._given.get(number) is former:
            self._give(number, heir)

    async def _hear_later(self, number: int, former: Process) -> None:
        had = former.led[number]
        await asyncio.sleep(self._rng.uniform(0.5, _UNAWARE_S))
        if former.led.get(number) is had and self._given.get(number) is not former:
            await former.lose(number)

    # -- faults -------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """A process stands still, perhaps for longer than the group waits."""
        members = self._members()
        if not members:
            return
        process = self._rng.choice(members)
        seconds = self._rng.uniform(0.5, _UNAWARE_S)
        self.trace(process.name, f"stands still for {seconds:.1f} s")
        process.stop(seconds)
        asyncio.get_running_loop().call_later(seconds, self._woke)
        session_s = _SESSION_S[1]
        if seconds > session_s:
            asyncio.get_running_loop().call_later(session_s, self._share_out, process)

    def _woke(self) -> None:
        self.woke_s = self._virtual.monotonic()

    def _share_out(self, process: Process) -> None:
        others = self._members(process)
        for number, given in list(self._given.items()):
            if given is process and others:
                self.moves += 1
                self._give(number, self._rng.choice(others))
                if number in process.led:
                    process.keep(self._hear_late(number, process))

    async def _hear_late(self, number: int, process: Process) -> None:
        await process.awake()
        await self._hear_later(number, process)

    def crash(self) -> None:
        """A process is killed."""
        self._kill(self._rng.choice(self.processes))

    def crash_leader(self, number: int) -> None:
        """Whoever leads the shard by its log dies behind the present step, before anything is answered."""
        engine = self.engines.get(number)
        for process in self.processes:
            if any(had.shard.engine is engine for had in process.led.values()):
                asyncio.get_running_loop().call_soon(self._kill, process)

    def _kill(self, process: Process) -> None:
        if process.dead:
            return
        self.trace(process.name, "is killed")
        mine = {id(had.shard.engine) for had in process.led.values()}
        process.kill()
        for number, engine in list(self.engines.items()):
            if id(engine) in mine:
                self.begins(number)
        loop = asyncio.get_running_loop()
        for number, given in self._given.items():
            if given is process:
                loop.call_later(self._rng.uniform(*_SESSION_S), self._give_away, number, process)
        loop.call_later(self._rng.uniform(0.0, 3.0), self._replace, process)

    def _replace(self, process: Process) -> None:
        self.trace(process.name, "starts")
        self.processes[self.processes.index(process)] = self._made(process.name)

    def victim(self) -> Process:
        """Of a fault of one machine."""
        return self._rng.choice(self.processes)

    @property
    def led_by_all(self) -> bool:
        """Whether each shard has an owner that serves."""
        return all(
            number in self._given and number in self._given[number].led and not self._given[number].dead
            for number in range(len(self.logs))
        )
