"""The store that the configuration asks for, opened: alone on this machine, or as a shard with its log in Kafka."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from libs.config import wiring
from libs.kafka.waiting import when_there
from libs.rpc.options import StartError
from libs.rpc.server import Server
from services.propagation.sharded import opening
from services.propagation.sharded.opening import OwnedShard
from services.propagation.sharded.snapshots.metrics import SnapshotsCollector
from services.propagation.sharded.snapshots.opening import SnapshotPlace
from services.propagation.sharded.snapshots.snapshots import Snapshots
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.interface import Store
from wellspring.config.v1 import backend_pb2, propagation_pb2


def check(config: propagation_pb2.PropagationConfig) -> None:
    """Raises StartError for what this release has not."""
    if config.server.workers != 1:
        raise StartError("server.workers: one engine serves a shard; 1 is allowed")


async def add_store(server: Server, config: propagation_pb2.PropagationConfig) -> tuple[Store, Mapping[int, Snapshots]]:
    """Opens the store as the server's resource "store", with its background work; with it come the snapshots that are
    made of it, by the number of its shard. Raises what opening it raises."""
    if config.backend.WhichOneof("kind") == "sharded":
        return await _add_shard(server, config)
    embedded = config.backend.embedded

    async def open_store() -> EmbeddedStore:
        return open_embedded(config, embedded, Path(embedded.path))

    async def check_store(store: EmbeddedStore) -> None:
        if store.database.failure is not None:
            raise store.database.failure

    store = await server.resources.add("store", open_store, close=EmbeddedStore.close, health=check_store)
    server.add_background("store", store.tidy)
    return cast("Store", store), {}  # a store takes the commits that it began itself


async def _add_shard(
    server: Server, config: propagation_pb2.PropagationConfig
) -> tuple[Store, Mapping[int, Snapshots]]:
    sharded = config.backend.sharded

    def open_store(path: Path) -> EmbeddedStore:
        return open_embedded(config, sharded.embedded, path)

    place = await add_snapshots(server, sharded)
    shard = await server.resources.add(
        "store",
        lambda: when_there(lambda: opening.open_shard(sharded, open_store, server.stopping, place)),
        close=OwnedShard.close,
        health=OwnedShard.check,
    )
    snapshots = {0: shard.directory.snapshots} if shard.directory.snapshots is not None else {}
    if snapshots:
        server.telemetry.registry.register(SnapshotsCollector(snapshots))
    server.add_background("store", shard.embedded.tidy)
    server.add_background("the shard's log", shard.lost)
    server.add_background("the shard's group", shard.given_up)
    server.add_background("the shard's checkpoints", shard.keep_checkpoints)
    return cast("Store", shard.store), snapshots


async def add_snapshots(server: Server, sharded: propagation_pb2.ShardedPropagation) -> SnapshotPlace | None:
    """Where snapshots lie, as a resource of the server; None where none are to be made."""
    if not sharded.HasField("snapshots"):
        return None
    return await server.resources.add(
        "snapshots", lambda: SnapshotPlace.open(sharded.snapshots), close=SnapshotPlace.close
    )


def open_embedded(
    config: propagation_pb2.PropagationConfig, embedded: backend_pb2.Embedded, path: Path
) -> EmbeddedStore:
    """The store in a directory. Raises what the store raises."""
    settings = wiring.embedded_settings(embedded)
    return EmbeddedStore.open(path, settings=settings, cache_bytes=config.limits.name_cache_bytes)
