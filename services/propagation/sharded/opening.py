"""A shard opened by the engine that leads it.

Until it leads, its store follows the log. Then the former owner is fenced, the rest of the log applied, and the new
owner's word given.
"""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from libs.config import wiring
from libs.config.kafka import kafka_options
from libs.errors.errors import Unavailable, WellspringError
from libs.kafka.errors import TopicUnfit
from libs.kafka.membership import Membership
from libs.kafka.options import Options
from libs.kafka.topics import Topics
from libs.rpc.options import Stopped
from services.propagation.domain.generation import sealed
from services.propagation.sharded.checkpoints import keep_checkpoints
from services.propagation.sharded.directory import Open, ShardDirectory
from services.propagation.sharded.following import Following
from services.propagation.sharded.shard_log import KafkaShardLog
from services.propagation.sharded.snapshots.opening import SnapshotPlace
from services.propagation.sharded.taking_over import take_over
from services.propagation.sharded.topic import log_topic
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.interface import Store
from services.propagation.store.logged.store import LoggedStore
from wellspring.config.v1 import backend_pb2, propagation_pb2

log = logging.getLogger(__name__)

TOPIC = "propagation.shard-log"
_SHARD = 0


class ShardLost(Unavailable):
    """Another engine leads this one's shard."""

    default_reason = "SHARD_LOST"


@dataclass(frozen=True, slots=True)
class OwnedShard:
    """What was opened: `embedded` is the store below `store`. To be closed."""

    store: LoggedStore
    embedded: EmbeddedStore
    log: KafkaShardLog
    membership: Membership
    directory: ShardDirectory

    async def check(self) -> None:
        """Raises why the shard takes no writes."""
        self.log.check(0)
        if self.embedded.database.failure is not None:
            raise self.embedded.database.failure

    async def lost(self) -> None:
        """Returns never; raises when the log takes no more of this engine: the process has to end."""
        try:
            await self.log.lost()
        except WellspringError as error:
            log.critical("this engine's shard is lost, and the process ends: %s", error.message)
            raise

    async def keep_checkpoints(self) -> None:
        """For ever: see `checkpoints`; snapshots, too."""
        await keep_checkpoints(self.directory, self.embedded, self.log)

    async def given_up(self) -> None:
        """Returns never; raises when the group has given the shard to others: the process has to end."""
        await self.membership.lost(_SHARD)
        why = "the brokers had not heard of it for longer than backend.sharded.session_timeout"
        log.critical("this engine's shard is lost, and the process ends: %s", why)
        raise ShardLost(f"another engine leads this shard: {why}")

    async def close(self) -> None:
        """Ends the log and the store; only then does another engine lead."""
        try:
            await self.store.close()
        finally:
            await self.membership.close()


async def open_shard(
    config: propagation_pb2.ShardedPropagation,
    open_store: Open,
    stopping: asyncio.Event,
    snapshots: SnapshotPlace | None = None,
) -> OwnedShard:
    """Waits until this engine leads the shard, following its log meanwhile, and takes it over.

    `open_store` opens a directory; `snapshots` None: none are made, and none used. Raises Stopped when `stopping` is
    set before it leads, ConfigError, BrokersAway, AccessRefused, SessionRefused, TopicUnfit, ShelfRefused, LogDamaged,
    and what the store raises.
    """
    options = options_of(config.kafka)
    name = config.kafka.topic_prefix + TOPIC
    topics = Topics(options)
    topic = await log_topic(topics, name, config.shards, config.kafka.replication)
    kept = snapshots.of(_SHARD, topic, topics) if snapshots is not None else None
    directory = ShardDirectory(Path(config.embedded.path) / f"shard-{_SHARD}", open_store, topic, kept)
    following = await Following.open(options, (name, _SHARD), directory)
    try:
        # One that is far behind would be of no use as a leader.
        await following.read_to_end()
        _check_alone(following, name)
        membership = Membership(options, config.kafka.group, name, wiring.seconds(config.session_timeout))
        try:
            await _stand_by(following, membership, stopping)
            taken = await take_over(options, (name, _SHARD), following)
            return OwnedShard(taken.store, taken.embedded, taken.log, membership, directory)
        except BaseException:
            await membership.close()
            raise
    except BaseException:
        await following.close()
        raise


def _check_alone(following: Following, name: str) -> None:
    """Raises TopicUnfit for a log that has ended: what is behind it is elsewhere."""
    seal = sealed(cast("Store", following.embedded))
    if seal is not None:
        raise TopicUnfit(
            f"the shard of the topic {name} goes on as {seal.follows.shards}: backend.sharded.shards must be above 1"
        )


async def _stand_by(following: Following, membership: Membership, stopping: asyncio.Event) -> None:
    def done() -> bool:
        return _SHARD in membership.own or membership.refusal is not None or stopping.is_set()

    log.info("standing by until this engine leads shard %d", _SHARD)
    await following.follow(done)
    if stopping.is_set():
        raise Stopped
    await membership.leads(_SHARD)


def options_of(config: backend_pb2.Kafka) -> Options:
    """How the brokers of a log are spoken to. Raises ConfigError."""
    cluster = backend_pb2.KafkaCluster(
        bootstrap_servers=config.bootstrap_servers,
        username=config.username,
        password_file=config.password_file,
        client_id="wellspring-propagation",
    )
    if config.HasField("tls"):
        cluster.tls.CopyFrom(config.tls)
    cluster.request_timeout.seconds = 10
    cluster.delivery_timeout.seconds = 30
    return kafka_options(cluster, "backend.sharded.kafka")
