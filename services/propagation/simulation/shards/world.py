"""One seeded run over several shards: a fleet of engines whose shards move, and all that one engine has around it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast
from unittest import mock

from libs.errors.errors import WellspringError as EngineError
from services.propagation.domain.change import Change
from services.propagation.domain.completion import Completion
from services.propagation.domain.leases import Answer
from services.propagation.domain.records import State, read_root
from services.propagation.domain.shard import Shard
from services.propagation.fleet import building, ids, spreading, telling
from services.propagation.simulation.seeded import ending
from services.propagation.simulation.seeded.clocks import MachineClock
from services.propagation.simulation.seeded.executors import CachesPort, EnginePort, StorePort
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.invariants import Invariants
from services.propagation.simulation.seeded.log_host import SeenLoggedStore, check_log
from services.propagation.simulation.seeded.log_world import PIECE_BYTES
from services.propagation.simulation.seeded.site import Place
from services.propagation.simulation.seeded.weather import MOST_LEAP_S, MOST_SKEW_S, Kind
from services.propagation.simulation.seeded.wire import Process
from services.propagation.simulation.seeded.world import Act, Outcome, World
from services.propagation.simulation.shards.calling import call_of
from services.propagation.simulation.shards.fleet import FleetHost
from services.propagation.simulation.shards.people import Askers, FleetAuthor, FleetOperator
from services.propagation.simulation.shards.shown import Judge
from services.propagation.store.logged import records
from services.propagation.targets.targets import Targets
from wellspring_client.errors import WellspringError

MOVE_EVERY_S = 12.0
ASK_EVERY_S = 0.8


class ShardInvariants(Invariants):
    """Of one shard; tells the judge which renders are accepted for good, and `over` which roots end."""

    def __init__(self, judge: Judge, over: Callable[[str], None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._judge = judge
        self._over = over
        self._taken: list[tuple[Place, bytes]] = []
        self._reports: list[tuple[Place, bytes]] = []

    def _check_finished(self, shard: Shard) -> None:
        before = self._unfinished
        super()._check_finished(shard)
        for sequence in sorted(before - self._unfinished):
            record = read_root(shard.store, sequence)
            if record is not None and record.state is State.DONE and not record.left:
                self._over(record.change.id)

    def completing(self, completion: Completion) -> None:
        """See Invariants.completing."""
        super().completing(completion)
        shard = self._shard()
        lease = shard.leases._by_id.get(completion.lease_id) if shard is not None else None
        self._reports = []
        if shard is not None and lease is not None:
            version, view = shard.sequence.version(lease.sequence), shard.views.name(lease.view)
            names = shard.store.resource_names(completion.done)
            self._reports = [((view, name.decode()), version) for name in names]

    def completed(self, completion: Completion, answer: Answer, *, repeated: bool) -> None:
        """See Invariants.completed."""
        super().completed(completion, answer, repeated=repeated)
        if not repeated:
            self._taken += self._reports
            for place, version in self._reports:
                self._judge.taken(place, version)

    def synced(self) -> None:
        """See Invariants.synced."""
        super().synced()
        for place, version in self._taken:
            self._judge.accepted(place, version)
        self._taken.clear()

    def lost_memory(self) -> None:
        """See Invariants.lost_memory."""
        super().lost_memory()
        self._taken.clear()


class FleetWorld(World):
    """See `World`."""

    host_of = FleetHost

    def __init__(self, seed: int, faults: Faults | None = None, *, printing: bool = False) -> None:
        super().__init__(seed, faults, printing=printing)
        rng = self.rng("fleet")
        count, self._processes = rng.randrange(2, 5), rng.randrange(2, 4)
        # What this world is for comes in each seed; views are not left out.
        self.faults = self.faults.with_(take_over_every_s=self.faults.take_over_every_s or MOVE_EVERY_S, left_out=0.0)
        self._still_every_s = rng.choice([0.0, 8.0, 20.0])
        self.judge = Judge(self.site, count, self.fleet.domain, self.virtual.monotonic)
        self.watched = [self._invariants(number) for number in range(count)]
        self.fleet.open(self.watched)
        self.askers = Askers(self.fleet, self.judge, self.rng("askers"))
        self.author = FleetAuthor(
            self.site, self.fleet, self.invariants, self.rng("author"), self._now, self.trace, self._acknowledged
        )
        self.people = FleetOperator(self.fleet, self.author, self.judge, self.rng("operator"), self._now, self.trace)
        self._weather_rng = self.rng("fleet weather")

    @property
    def fleet(self) -> FleetHost:
        """The host."""
        assert isinstance(self.host, FleetHost)
        return self.host

    def replayed(self) -> str:
        """See `World.replayed`."""
        return f"shards:replay -- --seed {self.seed}"

    def run(self) -> Outcome:
        """See `World.run`."""
        with self.patched():
            outcome = super().run()
        return replace(
            outcome,
            steps=sum(one.steps for one in self.watched),
            roots_checked=sum(one.roots_checked for one in self.watched),
            dear_checks=sum(one.dear_checks for one in self.watched),
        )

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Engines of this fleet are watched, and their own calls end in virtual time."""
        with (
            mock.patch.object(records, "PIECE_BYTES", PIECE_BYTES),
            mock.patch.object(building, "Engine", self.fleet.engine_of),
            mock.patch.object(telling, "own_call", call_of),
            mock.patch.object(spreading, "own_call", call_of),
        ):
            yield

    def ports(self, process: Process) -> tuple[EnginePort, StorePort, CachesPort, Targets]:
        """See `World.ports`."""
        engine, _, caches, targets = super().ports(process)
        return engine, self.store_port(process, self.site, self._stored), caches, targets

    def _stored(self) -> None:
        self.invariants.stored()
        self.judge.stored()

    def _invariants(self, number: int) -> Invariants:
        return ShardInvariants(
            self.judge,
            lambda change_id: self.askers.over(change_id),
            self.site,
            self.caches,
            self.lost_purges,
            self.trace,
            partial(self.fleet.domain, number),
            partial(self._shard_stepped, number),
        )

    def _shard_stepped(self, number: int) -> None:
        if self.weather.strikes(self.faults.engine_crash):
            self.fleet.crash_leader(number)

    def _acknowledged(self, change: Change, token: str) -> None:
        for number, invariants in enumerate(self.watched):
            asked = ids.visibility_asked(token, number, len(self.watched))
            invariants.acknowledge(change.id, int(asked.rpartition("-")[2], 16))
        self.askers.note(self.judge.acknowledged(change, token))

    # -- what happens -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.fleet.begin(self._processes)

    async def _put_first_views(self) -> None:
        while True:
            try:
                await self.people.put_views()
                return
            except (EngineError, WellspringError):
                await asyncio.sleep(0.5)

    def _operators(self) -> tuple[Act, Act]:
        return self.people.act, self.people.reload

    def _weather_kinds(self) -> list[Kind]:
        return [
            ("crashes", self._crash, lambda: self.faults.engine_crash_every_s),
            ("full disks", self._fill_disk, lambda: self.faults.disk_refuses_every_s),
            ("wall jumps", self._set_wall, lambda: self.faults.wall_jump_every_s),
            ("leaps", self._leap, lambda: self.faults.engine_leap_every_s),
            ("cache restarts", self.weather.restart_cache, lambda: self.faults.cache_restart_every_s),
            ("moves", self._move, lambda: self.faults.take_over_every_s),
            ("leader losses", self._lose_leaders, lambda: self.faults.leaderless_every_s),
            ("standstills", self._stop, lambda: self._still_every_s if self.storming else 0.0),
            ("questions", self.askers.ask, lambda: ASK_EVERY_S if self.storming else 2.0),
        ]

    async def _crash(self) -> None:
        self.fleet.crash()

    async def _move(self) -> None:
        self.fleet.move()

    async def _stop(self) -> None:
        self.fleet.stop()

    async def _fill_disk(self) -> None:
        process = self.fleet.victim()
        self.trace(process.name, "has a full disk")
        process.full = True
        await asyncio.sleep(self._weather_rng.uniform(0.1, 3.0))
        process.full = False

    async def _set_wall(self) -> None:
        process = self.fleet.victim()
        process.clock.skew_s = self._weather_rng.uniform(-MOST_SKEW_S, MOST_SKEW_S)
        self.trace(process.name, f"wall clock set {process.clock.skew_s:.0f} s off")

    async def _leap(self) -> None:
        process, seconds = self.fleet.victim(), self._weather_rng.uniform(1.0, MOST_LEAP_S)
        process.clock.leapt_s += seconds
        self.site.replica.catch_up()
        self.trace(process.name, f"wakes up {seconds:.0f} s later")

    async def _lose_leaders(self) -> None:
        """Some partitions, or all, have no leader for a while."""
        rng = self._weather_rng
        some = rng.sample(self.fleet.logs, rng.randint(1, len(self.fleet.logs)))
        self.trace("log", f"{len(some)} partitions have no leader")
        for log in some:
            log.leaderless = True
        await asyncio.sleep(rng.uniform(0.1, 5.0))
        for log in some:
            log.leaderless = False

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _mend(self) -> bool:
        if not self.author.busy:
            await self.author.heal()
            try:
                await self.people.resume()
                await self.people.replay()
            except (EngineError, WellspringError):
                return False
        return True

    def _clocks(self) -> Sequence[MachineClock]:
        return [process.clock for process in self.fleet.processes]

    def _domains(self) -> list[Shard]:
        found = [self.fleet.domain(number) for number in range(len(self.watched))]
        return [shard for shard in found if shard is not None]

    def _at_rest(self) -> bool:
        shards = self._domains()
        if len(shards) < len(self.watched) or not self.fleet.led_by_all or self.author.busy:
            return False
        if any(shard.roots or shard.halted is not None or any(shard.interest.waiting.values()) for shard in shards):
            return False
        return all(held.reason == "OSCILLATION" for shard in shards for held in shard.holds.dead_letters(None))

    def _unrest(self) -> str:
        return (
            "; ".join(f"shard {number}: {_told(self.fleet.domain(number))}" for number in range(len(self.watched)))
            + f"; authors {self.author.busy}, all led {self.fleet.led_by_all}"
        )

    def _check_end(self) -> None:
        ending.check_fresh(self.site)
        ending.check_caches(self.site, self.caches)
        ending.check_called(self.site, self.index)
        for number, shard in enumerate(self._domains()):
            ending.check_sums(shard)
            ending.check_nothing_left(shard)
            check_log(cast("SeenLoggedStore", shard.store).seen, self.fleet.logs[number])

    def _check_forgotten(self) -> None:
        for shard in self._domains():
            ending.check_forgotten(shard)


def _told(shard: Shard | None) -> str:
    if shard is None:
        return "nobody leads it"
    roots = {root.id: (root.record.state.name, root.tally(), root.untold) for root in shard.roots.values()}
    dead = [(held.view, held.resource, held.reason) for held in shard.holds.dead_letters(None)]
    return f"halted {shard.halted}, roots {roots}, dead letters {dead}, untold {shard.interest.waiting}"
