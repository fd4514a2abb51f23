"""A fleet's engine out of the configuration: several shards with their logs in Kafka, and all engines of a group."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from libs.clock.clock import SystemClock
from libs.config.clients import client_tls
from libs.kafka.waiting import when_there
from libs.purge.caches import Caches
from libs.rpc.options import StartError
from libs.rpc.server import Server
from services.propagation import backends, configured
from services.propagation.domain.engine import Engine
from services.propagation.fleet.alike import Alike
from services.propagation.fleet.building import Deployment
from services.propagation.fleet.comparing import Comparing
from services.propagation.fleet.digests import digests
from services.propagation.fleet.generations import Generations
from services.propagation.fleet.rules import RulesSetup
from services.propagation.fleet.rules_opening import rules_setup, text_of
from services.propagation.fleet.service import add_fleet
from services.propagation.homes.opening import Homes
from services.propagation.intake.changes import Changes
from services.propagation.intake.intake import Intake
from services.propagation.sharded.snapshots.metrics import SnapshotsCollector
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.views.parsing import read_views
from wellspring.config.v1 import propagation_pb2

_ANYWHERE = ("0.0.0.0", "[::]")


def is_wanted(config: propagation_pb2.PropagationConfig) -> bool:
    """Whether the configuration asks for several shards."""
    return config.backend.WhichOneof("kind") == "sharded" and config.backend.sharded.shards > 1


async def add(server: Server, config: propagation_pb2.PropagationConfig) -> None:
    """Opens the stores, and adds the services and the work in the background. Raises what opening raises."""
    sharded = config.backend.sharded
    _check_address(sharded.address or config.server.listen[0])
    if config.views_file:
        _check_views(config)
    rules = await rules_setup(server, config)
    tls = client_tls(sharded.engines_tls) if sharded.HasField("engines_tls") else None
    if tls is not None:
        tls.credentials()  # a file that cannot be read is told now, and not by the first call to another engine
    caches = await server.resources.add("caches", lambda: configured.caches(config), close=Caches.close)
    homes: Homes | None = None
    if config.homes:
        homes = await server.resources.add("homes", lambda: Homes.open(config), close=Homes.close)
    deployment = _deployment(config, caches, await _intake(server, config), rules, homes)

    def open_store(path: Path) -> EmbeddedStore:
        return backends.open_embedded(config, sharded.embedded, path)

    place = await backends.add_snapshots(server, sharded)
    made = Generations(sharded, deployment, open_store, place, tls)

    async def open_generations() -> Generations:
        await made.open()
        return made

    generations = await server.resources.add(
        "shards", lambda: when_there(open_generations), close=Generations.close, health=Generations.check
    )
    server.telemetry.registry.register(SnapshotsCollector(generations.snapshots))
    generations.front = front = add_fleet(server, generations.shards)
    comparing = Comparing(deployment.alike, lambda: front.shards)
    server.telemetry.registry.register(comparing)
    server.add_background("comparing", lambda: comparing.run(sharded.address or server.addresses[0]))
    server.add_background("shards", lambda: generations.run(sharded.address or server.addresses[0]))


async def _intake(
    server: Server, config: propagation_pb2.PropagationConfig
) -> Callable[[Engine, Callable[[], Changes]], Intake] | None:
    """What follows the bound namespaces for the engine of the first shard."""
    if not config.HasField("storage"):
        return None
    storage = await configured.storage(server, config)

    def follow(engine: Engine, changes: Callable[[], Changes]) -> Intake:
        return configured.intake(config, storage, engine, changes)

    return follow


def _deployment(
    config: propagation_pb2.PropagationConfig,
    caches: Caches,
    intake: Callable[[Engine, Callable[[], Changes]], Intake] | None,
    rules: RulesSetup,
    homes: Homes | None,
) -> Deployment:
    clock = SystemClock()
    return Deployment(
        configured.settings(config),
        configured.defaults(config),
        clock,
        Random(os.urandom(16)),  # noqa: S311  spreads retries, guards nothing
        lambda store: configured.page_tokens(config, clock, store),
        caches,
        intake,
        config.views_file,
        rules,
        homes,
        config.leases.max_batch_items,
        Alike(partial(digests, config)),
    )


def _check_views(config: propagation_pb2.PropagationConfig) -> None:
    """Raises ConfigError, OSError and StartError for what is wrong with the file now, not when a shard is led."""
    read_views(text_of(config.views_file), configured.defaults(config), config.views_file)


def _check_address(address: str) -> None:
    """Raises StartError for one that nobody can call."""
    if address.startswith(("unix:", *_ANYWHERE)):
        raise StartError(
            f"server.listen: {address} is nothing that other engines can call; name this engine's own host:port in"
            " backend.sharded.address"
        )
