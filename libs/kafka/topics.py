"""What the brokers say of topics before anything is read from them: whether they are there, and fit."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource

from libs.kafka.errors import TopicUnfit
from libs.kafka.hearing import Hearing
from libs.kafka.options import Options

_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its own id (another one when it was deleted and made again), how many partitions it has, and whether
    the brokers drop messages that have a newer one of the same key."""

    name: str
    id: str
    partitions: int
    compacted: bool


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
            policy = (await self._answer(settings[resources[name]], name))["cleanup.policy"].value
            topics[name] = Topic(name, str(found[name].topic_id), len(found[name].partitions), "compact" in policy)
        return topics

    async def _answer(self, asked: "Future[Any]", topic: str = "") -> Any:
        future = asyncio.wrap_future(asked)
        try:
            while not (await asyncio.wait([future], timeout=_LOOK_S))[0]:
                self._admin.poll(0)  # what the connections told waits until it is asked for
                if self._heard.refusal is not None:
                    # It would be asked again and again until the time is over.
                    raise self._heard.refusal
            return future.result()
        except KafkaException as error:
            self._admin.poll(0)
            raise self._heard.why(error.args[0], topic) from None
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
