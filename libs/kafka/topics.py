"""What the brokers say of topics before anything is read from them: whether they are there, and fit."""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.cimpl import NewTopic

from libs.kafka.errors import TopicUnfit
from libs.kafka.hearing import Hearing
from libs.kafka.options import Options

_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its own id (another one when it was deleted and made again), how many partitions it has, whether the
    brokers drop messages that have a newer one of the same key, and whether they drop them by age or size."""

    name: str
    id: str
    partitions: int
    compacted: bool
    kept_for_ever: bool = False


class Topics:
    """Asks one cluster."""

    def __init__(self, options: Options) -> None:
        self._timeout_s = options.request_timeout_s
        self._heard = Hearing()
        settings: dict[str, Any] = {**options.settings(), "error_cb": self._heard}
        self._admin = AdminClient(settings)

    async def cluster(self) -> str:
        """The cluster's id. Raises BrokersAway, AccessRefused."""
        found = await self._answer(self._admin.describe_cluster(request_timeout=self._timeout_s))
        return str(found.cluster_id)

    async def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        """The topics by name. Raises TopicMissing, AccessRefused, BrokersAway."""
        wanted = list(dict.fromkeys(names))
        if not wanted:
            return {}
        told = self._admin.describe_topics(TopicCollection(wanted), request_timeout=self._timeout_s)
        found = {name: await self._answer(told[name], name) for name in wanted}
        resources = {name: ConfigResource(ConfigResource.Type.TOPIC, name) for name in wanted}
        settings = self._admin.describe_configs(list(resources.values()), request_timeout=self._timeout_s)
        topics: dict[str, Topic] = {}
        for name in wanted:
            config = await self._answer(settings[resources[name]], name)
            compacted = "compact" in config["cleanup.policy"].value
            kept = not compacted and config["retention.ms"].value == config["retention.bytes"].value == "-1"
            topics[name] = Topic(name, str(found[name].topic_id), len(found[name].partitions), compacted, kept)
        return topics

    async def create(self, name: str, partitions: int, replication: int, settings: Mapping[str, str]) -> None:
        """Makes a topic; one that is there stays as it is. Raises AccessRefused, BrokersAway, TopicUnfit where the
        brokers do not make it so."""
        wanted = NewTopic(name, partitions, replication, config=dict(settings))
        try:
            made = self._admin.create_topics([wanted], request_timeout=self._timeout_s)
            await self._waited(made[name])
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.TOPIC_ALREADY_EXISTS:
                return
            if code in (KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG):
                raise TopicUnfit(
                    f"the brokers do not make the topic {name} with {replication} replicas and {partitions} partitions"
                ) from None
            raise self._heard.why(error.args[0], name) from None

    async def delete_before(self, name: str, partition: int, offset: int) -> None:
        """Deletes the partition's records that stand before the offset; none where they are deleted already. Raises
        BrokersAway, AccessRefused."""
        place = TopicPartition(name, partition, offset)
        await self._answer(self._admin.delete_records([place], request_timeout=self._timeout_s)[place], name)

    async def _answer(self, asked: "Future[Any]", topic: str = "") -> Any:
        try:
            return await self._waited(asked)
        except KafkaException as error:
            self._admin.poll(0)
            raise self._heard.why(error.args[0], topic) from None

    async def _waited(self, asked: "Future[Any]") -> Any:
        """As `_answer`; raises KafkaException, too."""
        future = asyncio.wrap_future(asked)
        try:
            while not (await asyncio.wait([future], timeout=_LOOK_S))[0]:
                self._admin.poll(0)  # what the connections told waits until it is asked for
                if self._heard.refusal is not None:
                    # It would be asked again and again until the time is over.
                    raise self._heard.refusal
            return future.result()
        finally:
            future.cancel()


def check_kept_whole(topics: Iterable[Topic]) -> None:
    """Raises TopicUnfit for a topic out of which messages vanish before they were read."""
    for topic in topics:
        if topic.compacted:
            raise TopicUnfit(
                f"the topic {topic.name} is compacted (cleanup.policy): an event vanishes as soon as a newer one has"
                " its key; cleanup.policy=delete is needed",
                metadata={"topic": topic.name},
            )
