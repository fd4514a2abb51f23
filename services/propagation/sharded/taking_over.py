"""A shard taken over: the former owner is ended, the rest of the log applied, and the new owner's word given."""

import logging
from typing import NamedTuple, cast

from libs.kafka.consumer import Partition
from libs.kafka.options import Options
from libs.kafka.transactions import TransactionalProducer
from libs.telemetry.logs import fields
from services.propagation.sharded.following import Following
from services.propagation.sharded.shard_log import KafkaShardLog
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.logged.place import Anchor
from services.propagation.store.logged.records import Position, owner_record
from services.propagation.store.logged.store import LoggedStore, NumberedStore

log = logging.getLogger(__name__)

_TRANSACTION_S = 600.0
"""So long the brokers may be away without ending what an owner has begun; they allow 15 minutes by default.

Nobody waits for it: a new owner ends what the former one has begun."""


class TakenOver(NamedTuple):
    """`store` is to be closed, and with it the log; `embedded` is what lies below it."""

    store: LoggedStore
    embedded: EmbeddedStore
    log: KafkaShardLog


async def take_over(options: Options, partition: Partition, following: Following) -> TakenOver:
    """The shard whose log is this partition, led from now on; its store is `following`'s, which has ended then.

    Raises BrokersAway, AccessRefused, Fenced, DeliveryUnknown, LogDamaged; the store is still `following`'s then.
    """
    topic, number = partition
    own_name = f"{topic}/{number}"
    producer = await TransactionalProducer.open(options, topic, number, own_name, timeout_s=_TRANSACTION_S)
    try:
        last = await following.catch_up()
        position = Position(last.epoch + 1, last.number)
        offset = await producer.append([owner_record(position)])
        embedded = await following.release()
    except BaseException:
        await producer.close()
        raise
    log.info("a shard is led", extra=fields(shard=number, epoch=position.epoch, commits=position.number))
    shard_log = KafkaShardLog(producer, Anchor(position, offset))
    return TakenOver(LoggedStore(cast("NumberedStore", embedded), shard_log, position), embedded, shard_log)
