"""The source and the sink of events that the configuration asks for, checked before anything is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.config.kafka import kafka_options
from libs.config.mistakes import ConfigError, Mistake
from libs.kafka.options import Options
from libs.kafka.producer import Producer
from libs.kafka.topics import Topic, Topics, check_kept_whole
from services.propagation.domain.engine import Engine
from services.propagation.kafka.noted import check_noted, check_reached
from services.propagation.kafka.sink import KafkaSink
from services.propagation.kafka.source import KafkaSource
from services.propagation.rules.schemas import SCHEMAS
from services.propagation.rules.state import State
from wellspring.config.v1 import propagation_pb2


@dataclass(frozen=True, slots=True)
class EventTopics:
    """What was opened. To be closed."""

    source: KafkaSource
    sink: KafkaSink
    producer: Producer

    async def close(self) -> None:
        """Ends the connections; what is being sent has a second to be acknowledged."""
        await self.source.close()
        await self.producer.close()


async def open_topics(config: propagation_pb2.EventTopics, engine: Engine) -> EventTopics:
    """Raises ConfigError, BrokersAway, AccessRefused, TopicMissing, TopicUnfit: nothing was read then."""
    options, topics, found = await _described(config)
    await check_noted(engine, await topics.cluster(), found.values(), config.begin_anew)
    source = await KafkaSource.open(options, topics, found, config.buffer_bytes, config.schemas)
    try:
        check_reached(
            State(engine), {stream: source.newest(stream) for name in found for stream in source.streams(name)}
        )
    except BaseException:
        await source.close()
        raise
    producer = Producer(options)
    return EventTopics(source, KafkaSink(producer), producer)


async def check_topics(config: propagation_pb2.EventTopics) -> None:
    """What can be said before there is an engine. Raises as `open_topics`."""
    await _described(config)


async def _described(config: propagation_pb2.EventTopics) -> tuple[Options, Topics, Mapping[str, Topic]]:
    options = kafka_options(config.kafka, "events.kafka")
    _check_names(config.topics)
    _check_schemas(config)
    topics = Topics(options)
    found = await topics.describe(config.topics)
    check_kept_whole(found.values())
    return options, topics, found


def _check_names(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        allowed = "each topic once"
        raise ConfigError([Mistake("the configuration", 0, 0, "events.topics", "name a topic twice", allowed)])


def _check_schemas(config: propagation_pb2.EventTopics) -> None:
    for topic, title in config.schemas.items():
        if topic not in config.topics:
            what, allowed = "is none of the topics", f"they are: {', '.join(config.topics)}"
        elif title not in SCHEMAS:
            what, allowed = f'"{title}" is no schema that is known', f"one of {', '.join(SCHEMAS)}"
        else:
            continue
        raise ConfigError([Mistake("the configuration", 0, 0, f"events.schemas.{topic}", what, allowed)])
