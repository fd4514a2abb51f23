"""From the configuration to publications, and their work in the background of a server."""

import logging
from collections.abc import Callable
from dataclasses import replace

from libs.clock.clock import Clock
from libs.config.kafka import kafka_options
from libs.config.mistakes import ConfigError, Mistake
from libs.errors.errors import Unavailable, WellspringError
from libs.rpc.server import Server
from libs.telemetry.logs import fields
from services.storage.domain.namespace import Namespace
from services.storage.publishing.publication import Publication, Stats
from services.storage.publishing.topic import KafkaTopic
from services.storage.registry import Registry
from services.storage.store.interface import Store
from wellspring.config.v1 import storage_pb2

_log = logging.getLogger(__name__)


async def add_publishing(
    server: Server, config: storage_pb2.Publishing, store: Store, registry: Registry, clock: Clock, *, shared: bool
) -> None:
    """Has ``server`` publish the changes of ``config``'s namespaces; one that is not there yet is waited for.

    Raises ConfigError; and TopicUnfit, TopicMissing or AccessRefused when brokers answer and a topic is none for
    changes. Brokers that do not answer stop no start: changes are published when they do.
    """
    options = replace(kafka_options(config.kafka, "publishing.kafka"), delivery_timeout_s=0.0)
    pairs = [(feed.namespace, feed.topic) for feed in config.feeds]
    for at, pair in enumerate(pairs):
        if pair in pairs[:at]:
            what = "is the namespace and the topic of another one"
            raise ConfigError([Mistake("", 0, 0, f"publishing.feeds[{at}]", what, "each pair may be there once")])
    stats = Stats(server.telemetry.registry)
    for name, called in pairs:
        topic = KafkaTopic(options, called)
        try:
            await topic.check()
        except Unavailable as error:
            more = fields(namespace=name, topic=called, problem=error.message)
            _log.warning("a topic cannot be reached; changes are published later", extra=more)
        publication = Publication(name, called, topic, store, _finder(registry, name), clock, stats, shared=shared)
        server.add_background(f"publish {name} to {called}", publication.run)


def _finder(registry: Registry, name: str) -> Callable[[], Namespace | None]:
    def find() -> Namespace | None:
        try:
            namespace = registry.get(name)
            namespace.check_ready()
        except WellspringError:
            return None  # not made yet, or deleted
        return namespace

    return find
