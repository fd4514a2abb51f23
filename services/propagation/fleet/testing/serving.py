"""Engines of a fleet in the test's own process, over logs in memory, and stubs to call them.

A shard that another engine leads is taken away as brokers do it: the former owner is fenced, and hears of it later.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import grpc

from libs.auth.options import AuthOptions
from libs.clock.clock import SystemClock
from libs.paging.paging import PageTokens
from libs.purge.caches import Caches
from libs.rpc.options import ServerOptions, TlsOptions
from libs.rpc.server import Server
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from services.propagation.domain.generation import Generation, Seal, put_seal
from services.propagation.domain.shard import Settings
from services.propagation.fleet.building import Deployment, led
from services.propagation.fleet.parting import begin_part
from services.propagation.fleet.peers import Peers
from services.propagation.fleet.rules import RulesSetup
from services.propagation.fleet.service import Front, add_fleet
from services.propagation.fleet.shards import Shards
from services.propagation.sharded.snapshots.snapshots import Snapshots
from services.propagation.simulation.processes import Stubs
from services.propagation.store.interface import Store
from services.propagation.store.logged.memory_log import MemoryLog
from services.propagation.store.logged.records import Position
from services.propagation.store.logged.replica import Replica
from services.propagation.store.logged.store import LoggedStore, NumberedStore
from services.propagation.store.memory import MemoryStore
from services.propagation.views.parsing import Defaults
from wellspring_client.channels import Tls


class Fleet:
    """`logs[shard]` is what survives; `engines` may lead any of them."""

    def __init__(self, shards: int) -> None:
        self.generations = [[MemoryLog() for _ in range(shards)]]
        self.engines: list[Serving] = []

    @property
    def logs(self) -> list[MemoryLog]:
        """Of the present generation."""
        return self.generations[-1]

    def store(self, number: int, generation: int = -1) -> tuple[NumberedStore, Replica]:
        """The shard as its log has it: of a later generation, the part of the one that it was."""
        at = generation % len(self.generations)
        logs = self.generations[at]
        below = cast("NumberedStore", MemoryStore())
        if at:
            before = len(self.generations[at - 1])
            below, _ = self.store(number * before // len(logs), at - 1)
            below.write(begin_part(below, before))
        replica = Replica(below)
        for offset, record in enumerate(logs[number].records):
            replica.take(offset, record)
        return below, replica

    def address(self, shard: int) -> str | None:
        """Of the engine that leads the shard."""
        for engine in self.engines:
            if shard in engine.shards.own:
                return engine.address
        return None


@dataclass(eq=False)
class Serving:
    """An engine that listens. `snapshots` are of the shards that it leads from then on."""

    fleet: Fleet
    shards: Shards
    deployment: Deployment
    server: Server
    front: Front
    peers: Peers
    address: str = ""
    stubs: Any = None
    snapshots: dict[int, Snapshots] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._running: dict[int, asyncio.Task[None]] = {}

    async def lead(self, number: int) -> None:
        """Makes the shard from its log, and leads it; whoever led it writes nothing more."""
        log = self.fleet.logs[number]
        below, replica = self.fleet.store(number)
        last = replica.caught_up()
        position = Position(last.epoch + 1, last.number)
        owned = log.take_over(position)
        store = LoggedStore(below, owned, position)
        deployment, kept = self.deployment, self.snapshots.get(number)
        shard = await led(cast("Store", store), number, self.shards, deployment, store.check, kept)
        self.shards.own[number] = shard
        self._running[number] = asyncio.get_running_loop().create_task(shard.run())

    async def seal(self, number: int, follows: Generation) -> None:
        """Writes the last commit of the shard's log, durably, and leads it no more."""
        store = cast("LoggedStore", self.shards.own[number].engine.shard.store)
        commit = store.begin()
        put_seal(commit, Seal(follows, store.epoch))
        written = store.end(commit)
        self.fleet.logs[number].owner.sync()  # type: ignore[union-attr]
        await written
        await self.lose(number)

    def turn(self) -> None:
        """Goes on with the shards of the present generation."""
        self.shards = Shards(len(self.fleet.logs), self.peers, len(self.fleet.generations))
        self.front.turn_to(self.shards)

    async def lose(self, number: int) -> None:
        """Leads the shard no more."""
        shard = self.shards.own.pop(number)
        await shard.drain()
        await self._end(number)
        await cast("LoggedStore", shard.engine.shard.store).close()

    async def _end(self, number: int) -> None:
        task = self._running.pop(number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def die(self) -> None:
        """As kill -9 does: no more of it, and nobody is told."""
        for number in list(self._running):
            self.shards.own.pop(number, None)
            await self._end(number)
        await self.server.stop(wait_s=0, grace_s=0)
        self.fleet.engines.remove(self)


@dataclass(frozen=True, slots=True)
class Secured:
    """TLS: an engine as it is called, who may call it, how it shows itself to the others (None: in the clear), and how
    the test does."""

    server: TlsOptions
    auth: AuthOptions
    engines: Tls | None
    caller: Tls


@asynccontextmanager
async def serving(
    fleet: Fleet,
    leads: Sequence[int] = (),
    intake: Any = None,
    secured: Secured | None = None,
    rules: RulesSetup | None = None,
    homes: Any = None,
) -> AsyncIterator[Serving]:
    """An engine of the fleet that leads these shards at first; `intake`, `rules` and `homes` as `Deployment` has
    them; with `homes` the engine is in "west", and its homes may be "east"."""
    clock = SystemClock()

    async def tokens(store: Store) -> PageTokens:
        return PageTokens([bytes(32)], clock, ttl_s=3600)

    rng = Random(1)  # noqa: S311  a test
    defaults = Defaults(places=("west", "east")) if homes is not None else Defaults()
    deployment = Deployment(
        Settings(), defaults, clock, rng, tokens, Caches([]), intake, rules=rules or RulesSetup(), homes=homes
    )
    server = Server(
        ServerOptions(
            service="propagation", drain_wait_s=0, drain_grace_s=0.1, tls=secured.server if secured else None
        ),
        Telemetry(TelemetryOptions(), "propagation"),
        auth=secured.auth if secured else None,
    )
    peers = Peers(fleet.address, tls=secured.engines if secured else None)
    shards = Shards(len(fleet.logs), peers)
    engine = Serving(fleet, shards, deployment, server, add_fleet(server, shards), peers)
    async with server:
        engine.address = server.addresses[0]
        fleet.engines.append(engine)
        async with _channel(engine.address, secured) as channel:
            engine.stubs = Stubs(channel)
            for number in leads:
                await engine.lead(number)
            try:
                yield engine
            finally:
                if engine in fleet.engines:
                    for number in list(engine.shards.own):
                        await engine.lose(number)
                await peers.close()


def _channel(address: str, secured: Secured | None) -> grpc.aio.Channel:
    if secured is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, secured.caller.credentials())
