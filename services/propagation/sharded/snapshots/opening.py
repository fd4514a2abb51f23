"""The snapshots of a deployment's shards out of its configuration."""

import asyncio
from random import Random

from libs.clock.clock import SystemClock
from libs.config import wiring
from libs.config.clients import caller, open_channels
from libs.kafka.topics import Topics
from services.propagation.sharded.snapshots.snapshots import Snapshots
from services.propagation.sharded.snapshots.storage_shelf import StorageShelf
from services.propagation.sharded.topic import LogTopic
from wellspring.config.v1 import propagation_pb2
from wellspring_client.channels import Channels
from wellspring_client.storage_admin import Storage


class SnapshotPlace:
    """The namespace of all shards. `open`; to be closed."""

    def __init__(self, config: propagation_pb2.ShardSnapshots, channels: Channels) -> None:
        self._namespace = Storage(caller(channels, config.storage)).namespace(config.namespace)
        self._interval_s = wiring.seconds(config.interval)
        self._channels = channels
        self._one = asyncio.Semaphore()

    @classmethod
    async def open(cls, config: propagation_pb2.ShardSnapshots) -> "SnapshotPlace":
        """Calls nobody yet."""
        return cls(config, await open_channels(config.storage))

    def of(self, shard: int, topic: LogTopic, topics: Topics) -> Snapshots:
        """Those of one shard."""

        async def trim(offset: int) -> None:
            await topics.delete_before(topic.name, shard, offset)

        shelf = StorageShelf(self._namespace, f"{topic.name}/{shard}")
        identity = topic.identity.decode()
        rng = Random()  # noqa: S311  for names and pauses
        return Snapshots(shelf, identity, self._interval_s, trim, SystemClock(), rng, self._one)

    async def close(self) -> None:
        """Ends the connections."""
        await self._channels.close()
