"""A fleet's rules out of the configuration. Every engine takes events over HTTP: they go into Kafka, from where the one
that leads the first shard reads them."""

from functools import partial
from pathlib import Path

from libs.config.kafka import kafka_options
from libs.kafka.producer import Producer
from libs.kafka.waiting import when_there
from libs.rpc.options import StartError
from libs.rpc.server import Server
from services.propagation import configured
from services.propagation.domain.engine import Engine
from services.propagation.fleet.rules import OWN_TOPICS, RulesSetup
from services.propagation.kafka.listening import Listening
from services.propagation.kafka.metrics import ReceiverCollector
from services.propagation.kafka.opening import EventTopics, check_topics, open_topics
from services.propagation.rules.parsing import read_rules
from wellspring.config.v1 import propagation_pb2


async def rules_setup(server: Server, config: propagation_pb2.PropagationConfig) -> RulesSetup:
    """What rules work with; events over HTTP are taken from now on.

    What is wrong with the file, the targets or the topics is told now, not when the first shard is led. Raises
    ConfigError, OSError, StartError, AccessRefused, TopicMissing, TopicUnfit; brokers that are away are waited for.
    """
    targets = partial(configured.targets, config)
    targets()
    events = config.events if config.HasField("events") else None
    if config.rules_file:
        topics = OWN_TOPICS | frozenset(config.events.topics)
        read_rules(text_of(config.rules_file), topics, config.rules_file, publishes=events is not None)
    if events is None:
        return RulesSetup(targets, None, config.rules_file)
    await when_there(lambda: check_topics(events))
    if events.HasField("http"):
        producer = await server.resources.add("events' producer", lambda: _producer(events), close=Producer.close)
        listening = await server.resources.add(
            "events over http", lambda: Listening.open(events, producer), close=Listening.close
        )
        server.telemetry.registry.register(ReceiverCollector(listening.receiver))

    async def open_now(engine: Engine) -> EventTopics:
        return await open_topics(events, engine)

    return RulesSetup(targets, open_now, config.rules_file)


def text_of(path: str) -> str:
    """Of a file. Raises OSError, and StartError for what is no UTF-8."""
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        raise StartError(f"{path} is not UTF-8") from None


async def _producer(events: propagation_pb2.EventTopics) -> Producer:
    return Producer(kafka_options(events.kafka, "events.kafka"))
