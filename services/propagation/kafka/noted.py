"""Which topics the kept positions are of: a position means nothing in another topic of the same name.

Kind of record: `kafka`: topic → the cluster's id and the topic's own, noted when it was first read.
"""

import logging
from collections.abc import Collection, Iterable, Mapping

from libs.kafka.errors import TopicUnfit
from libs.kafka.topics import Topic
from libs.telemetry.logs import fields
from services.propagation.domain.change import dump, load
from services.propagation.domain.engine import Engine
from services.propagation.rules.state import CURSOR, LETTER, RULES, Letter, State
from services.propagation.rules.topics import topic_of

log = logging.getLogger(__name__)

KIND = "kafka"


async def check_noted(engine: Engine, cluster: str, topics: Iterable[Topic], begin_anew: Collection[str]) -> None:
    """Notes topics that are new. Raises TopicUnfit for one that is another one than it was, unless it is among
    `begin_anew`: then its kept positions are forgotten, once, and it is read from its beginning."""
    for topic in topics:
        value = engine.shard.store.get_record(KIND, topic.name.encode())
        noted = load(value) if value is not None else None
        present = {"cluster": cluster, "id": topic.id}
        if noted == present:
            continue
        if noted is not None:
            if topic.name not in begin_anew:
                raise _another(topic.name, noted, present)
            log.warning("a topic is read anew", extra=fields(topic=topic.name))
        await _note(engine, topic.name, present, forget=noted is not None)


def check_reached(state: State, ends: Mapping[str, int]) -> None:
    """Raises TopicUnfit for a stream that ends before what was done of it. `ends` is by stream."""
    for rule, stream in state.cursors():
        cursor = state.cursor(rule, stream)
        if stream in ends and cursor is not None and cursor.at > ends[stream]:
            raise TopicUnfit(
                f"the topic {topic_of(stream)} ends at {ends[stream]} in {stream}, and was read up to {cursor.at}: it"
                " was cut off; restore it, or make it anew and name it in events.begin_anew",
                metadata={"topic": topic_of(stream)},
            )


def _another(name: str, noted: Mapping[str, str], present: Mapping[str, str]) -> TopicUnfit:
    if noted["cluster"] != present["cluster"]:
        what = f"is of another cluster ({present['cluster']}) than the positions that are kept ({noted['cluster']})"
    else:
        what = "was deleted and made again since it was read, so that the positions that are kept mean nothing"
    return TopicUnfit(
        f"the topic {name} {what}; name it in events.begin_anew to read it from its beginning",
        metadata={"topic": name},
    )


async def _note(engine: Engine, name: str, present: Mapping[str, str], *, forget: bool) -> None:
    step = engine.shard.step()
    step.commit.put_record(KIND, name.encode(), dump(dict(present)))
    if forget:
        store = engine.shard.store
        for key, _ in list(store.records(CURSOR)):
            if topic_of(key.decode().split("\0")[1]) == name:
                step.commit.delete_record(CURSOR, key)
        for key, value in list(store.records(RULES)):
            plain = load(value)
            plain["starts"] = {stream: at for stream, at in plain["starts"].items() if topic_of(stream) != name}
            step.commit.put_record(RULES, key, dump(plain))
        for key, value in list(store.records(LETTER)):
            letter = Letter.unpack(key, value)
            # Kept under a name of its own: an event of the new topic may have the same position.
            if letter.topic.count("#") == 1 and topic_of(letter.topic) == name:
                step.commit.delete_record(LETTER, key)
                renamed = f"{letter.rule}\0{letter.topic}#{present['id']}\0".encode() + key[-8:]
                step.commit.put_record(LETTER, renamed, value)
    await step.write()
