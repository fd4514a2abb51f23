"""A shard that this process leads, built over its store: what an engine alone is, once for each shard."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from prometheus_client.registry import Collector

from libs.clock.clock import Clock
from libs.paging.paging import PageTokens
from libs.purge.caches import Caches
from services.propagation.canary_watch import CanaryWatch
from services.propagation.domain.dividing import divide
from services.propagation.domain.engine import Engine
from services.propagation.domain.generation import Generation
from services.propagation.domain.partition import Part
from services.propagation.domain.shard import Settings
from services.propagation.files import views_file
from services.propagation.fleet.across import AcrossServicer
from services.propagation.fleet.alike import Alike
from services.propagation.fleet.changes import FleetChanges
from services.propagation.fleet.growth import GrowingAdmin
from services.propagation.fleet.homes import Begun
from services.propagation.fleet.interests import InterestedPropagation, InterestedWork, Interests
from services.propagation.fleet.local import LocalShard
from services.propagation.fleet.rules import LedRules, RulesSetup, elsewhere
from services.propagation.fleet.shards import Shards
from services.propagation.fleet.spreading import Spreading
from services.propagation.fleet.telling import Telling
from services.propagation.homes.metrics import HomesCollector
from services.propagation.homes.opening import Homes
from services.propagation.homes.taking import POSITION, Taking
from services.propagation.intake import follower
from services.propagation.intake.changes import Changes
from services.propagation.intake.intake import Intake
from services.propagation.kafka import noted
from services.propagation.metrics import EngineCollector
from services.propagation.purging import Purging
from services.propagation.rules import state
from services.propagation.rules_servicer import RulesNow
from services.propagation.sharded.snapshots.snapshots import Snapshots
from services.propagation.store.interface import Store
from services.propagation.views.catalogue import Catalogue
from services.propagation.views.parsing import Defaults
from services.propagation.work_servicer import MAX_CAPACITY

_FIRST = 0
_ONLY_FIRST = (state.RULES, state.CURSOR, state.LETTER, noted.KIND, follower.CURSOR, POSITION)
"""Kinds of records of what the first shard alone does."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What all shards of a process have in common. `tokens` makes the page tokens of a store; `intake` follows bound
    namespaces for an engine, None: there are none; so `homes`; `views_file` may be empty."""

    settings: Settings
    defaults: Defaults
    clock: Clock
    rng: Random
    tokens: Callable[[Store], Awaitable[PageTokens]]
    caches: Caches
    intake: Callable[[Engine, Callable[[], Changes]], Intake] | None = None
    views_file: str = ""
    rules: RulesSetup = field(default_factory=RulesSetup)
    homes: Homes | None = None
    max_batch: int = MAX_CAPACITY
    alike: Alike = field(default_factory=Alike)


async def led(
    store: Store,
    number: int,
    shards: Shards,
    deployment: Deployment,
    check: Callable[[], None],
    snapshots: Snapshots | None = None,
) -> LocalShard:
    """Shard `number` over its store, recovered; one that is the copy of a shard of before is made its part first.

    `check` is that of the store's log, `snapshots` are those that are made of it. Raises what the store, and the views
    in it, raise.
    """
    part = Part(number, shards.count)
    await divide(store, part, Generation(shards.generation, shards.count), _ONLY_FIRST)
    catalogue = Catalogue(store, deployment.defaults, part)
    engine = Engine(
        store,
        deployment.clock,
        deployment.rng,
        replace(deployment.settings, part=part),
        catalogue.views(),
        catalogue.revision,
        catalogue.older(),
    )
    engine.shard.signals.work = shards.work
    background: list[Callable[[], Awaitable[None]]] = [Telling(engine, shards).run]
    collectors: list[Collector] = [EngineCollector(engine)]
    canaries = CanaryWatch(engine)
    intake: Intake | None = None
    homes: Sequence[Taking] = ()
    rules: RulesNow = elsewhere
    if number == _FIRST:
        if deployment.views_file:
            file = views_file(deployment.views_file, catalogue, engine)
            await file.read_first()
            background.append(file.follow)
        background += [canaries.run, Spreading(shards, catalogue).run]
        led_rules = LedRules(engine, shards, deployment.rules)
        background.append(led_rules.run)
        rules = led_rules.now
        collectors += [canaries, led_rules]
        if deployment.homes is not None:
            homes = deployment.homes.takings(engine, catalogue, Begun(shards, catalogue))
        background += [home.run for home in homes]
        collectors.append(HomesCollector(homes))
        if deployment.intake is not None:
            intake = deployment.intake(engine, partial(FleetChanges, shards))
            background.append(intake.run)
    tokens = await deployment.tokens(store)
    stopping = asyncio.Event()
    interests = Interests(engine, shards)
    return LocalShard(
        number,
        engine,
        catalogue,
        InterestedPropagation(engine, tokens, interests),
        InterestedWork(engine, catalogue, interests, deployment.max_batch, stopping),
        GrowingAdmin(
            engine,
            shards,
            catalogue,
            tokens,
            lambda: (intake.states() if intake is not None else []) + [home.state for home in homes],
            Purging(deployment.caches, lambda: catalogue.messages),
            rules,
            canaries,
            {number: snapshots} if snapshots is not None else {},
            (lambda: deployment.alike.others) if number == _FIRST else dict,
        ),
        AcrossServicer(engine, deployment.alike),
        background,
        collectors,
        stopping,
        check,
    )
