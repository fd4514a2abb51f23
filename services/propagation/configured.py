"""What the configuration says of an engine, whatever its store: limits, defaults of views, caches, keys."""

import os
from collections.abc import Callable

from libs.clock.clock import Clock
from libs.config import wiring
from libs.config.clients import caller, open_channels
from libs.paging.paging import KEY_BYTES, PageTokens
from libs.purge.caches import Caches
from libs.rpc.options import StartError
from libs.rpc.server import Server
from services.propagation.domain.engine import Engine
from services.propagation.domain.shard import Settings
from services.propagation.homes.opening import places
from services.propagation.intake.changes import Changes
from services.propagation.intake.intake import Intake
from services.propagation.store.interface import Store
from services.propagation.targets.budget import RetryBudget
from services.propagation.targets.settings import TargetInvalid, settings_of
from services.propagation.targets.targets import Targets
from services.propagation.views.parsing import Defaults
from wellspring.config.v1 import propagation_pb2
from wellspring_client.channels import Channels
from wellspring_client.storage_admin import Storage

_OWN_KEY = ("meta", b"page_token_key")


async def page_tokens(config: propagation_pb2.PropagationConfig, clock: Clock, store: Store) -> PageTokens:
    """The page tokens of an engine over this store. Raises ConfigError."""
    own_key = await _own_key(store)
    return wiring.page_tokens(config.page_tokens, clock, lambda: own_key)


async def _own_key(store: Store) -> bytes:
    """The key of page tokens that the store keeps, made when there is none."""
    kept = store.get_record(*_OWN_KEY)
    if kept is None:
        kept = os.urandom(KEY_BYTES)
        commit = store.begin()
        commit.put_record(*_OWN_KEY, kept)
        await store.write(commit)
    return kept


def defaults(config: propagation_pb2.PropagationConfig) -> Defaults:
    """What views have that say nothing else."""
    return Defaults(
        lease_s=wiring.seconds(config.leases.time),
        max_dependencies=config.limits.max_dependencies,
        max_attempts=config.retry.max_attempts,
        initial_backoff_s=wiring.seconds(config.retry.initial_backoff),
        max_backoff_s=wiring.seconds(config.retry.max_backoff),
        places=places(config),
    )


def settings(config: propagation_pb2.PropagationConfig) -> Settings:
    """The engine's bounds and times."""
    return Settings(
        lanes={lane.name: lane.weight for lane in config.lanes} or {config.default_lane: 10},
        default_lane=config.default_lane,
        max_roots=config.limits.max_active_roots,
        max_flips=config.limits.max_flips,
        stale_delay_s=wiring.seconds(config.leases.older_input_delay),
        remember_s=wiring.seconds(config.limits.finished_roots_kept),
        max_lent=config.leases.max_leased_items,
        jitter=config.retry.jitter,
        compact_every_s=wiring.seconds(config.checkpoint.compaction_interval),
        compact_s=wiring.seconds(config.checkpoint.compaction_budget),
        canaries={source.name: wiring.seconds(source.period) for source in config.canaries},
    )


async def caches(config: propagation_pb2.PropagationConfig) -> Caches:
    """Those that the engine purges, open. Raises StartError."""
    try:
        return Caches.of(config.caches)
    except ValueError as error:
        raise StartError(str(error)) from None


def targets(config: propagation_pb2.PropagationConfig) -> Targets:
    """Those that rules call. Raises StartError."""
    try:
        settings = settings_of(config.targets)
    except TargetInvalid as problem:
        raise StartError(f"targets: {problem}") from None
    return Targets(settings, RetryBudget(config.retry_budget.share, config.retry_budget.min_per_s))


async def storage(server: Server, config: propagation_pb2.PropagationConfig) -> Storage:
    """The storage service whose bound namespaces are followed; its channels are the server's resource."""
    channels = await server.resources.add(
        "storage channel", lambda: open_channels(config.storage), close=Channels.close
    )
    return Storage(caller(channels, config.storage))


def intake(
    config: propagation_pb2.PropagationConfig,
    from_storage: Storage,
    engine: Engine,
    changes: Callable[[], Changes] | None = None,
) -> Intake:
    """What follows bound namespaces; `engine` keeps the cursors, and takes the changes unless `changes` do."""
    return Intake(
        engine,
        from_storage,
        engine.shard.rng,
        only=config.follow.namespaces,
        refresh_s=wiring.seconds(config.follow.refresh),
        take_unbound=config.follow.from_beginning,
        changes=changes,
    )
