"""Where events come from and go to: the engine's own log, and what else a process has."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.propagation.domain import finished, listing
from services.propagation.domain.engine import Engine
from services.propagation.domain.records import read_root, read_tally
from services.propagation.rules.events import Event, changed_event, completed_event
from services.propagation.rules.topics import CHANGED, ENGINE_TOPICS, topic_of


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing out of a stream. `event` is None for what is none; `problem` then says why, and `raw` is what it was.

    `position` orders a stream's deliveries: positive, strictly ascending. `root` is the change that an event is about,
    `hops` how many rules published one after the other to bring it about.
    """

    position: int
    event: Event | None
    arrived_ns: int
    root: str = ""
    raw: bytes = b""
    problem: str = ""
    hops: int = 0


class Source(Protocol):
    """Topics that can be read from any position that is still kept. What is in order is a stream: a topic, or one
    partition of it."""

    @property
    def topics(self) -> frozenset[str]: ...

    def streams(self, topic: str) -> Sequence[str]:
        """The topic's streams; there may be more of them later, none goes."""

    def newest(self, stream: str) -> int:
        """Where the stream ends now: every later delivery has a greater position."""

    async def read(self, stream: str, after: int, limit: int) -> Sequence[Delivery]:
        """What follows the position, in order, at most so many; at once. Nothing that a crash could take back.

        Nothing: there is nothing up to what was `newest` before. Raises WellspringError when that cannot be said now.
        """

    async def wait(self, stream: str, known: int, seconds: float) -> None:
        """Until the stream may end behind `known`, or so many seconds."""


class Sink(Protocol):
    """What takes events. Returns when the event is durable; raises FailedPrecondition or InvalidArgument when it is not
    taken as things are, another WellspringError when it cannot be taken now."""

    async def publish(self, topic: str, event: Event, hops: int = 0) -> None: ...


class Sources:
    """All sources of a process; each topic has one."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._by_topic = {topic: source for source in sources for topic in source.topics}

    @property
    def topics(self) -> frozenset[str]:
        """The topics of all of them."""
        return frozenset(self._by_topic)

    def of(self, stream: str) -> Source:
        """The source of a stream, or of a topic."""
        return self._by_topic[topic_of(stream)]

    def streams(self, topics: Iterable[str]) -> list[str]:
        """The streams of these topics, of those that have a source."""
        return [
            stream for topic in topics if topic in self._by_topic for stream in self._by_topic[topic].streams(topic)
        ]


class EngineSource:
    """The engine's log: accepted changes, by their sequence, and finished roots, by that of their end."""

    def __init__(self, engine: Engine, topics: frozenset[str] = ENGINE_TOPICS) -> None:
        """`topics`: those of the engine's own that are told."""
        self.topics = topics
        self._engine = engine

    def streams(self, topic: str) -> Sequence[str]:
        """See Source."""
        return (topic,)

    def newest(self, stream: str) -> int:
        """See Source."""
        return self._engine.shard.sequence.last

    async def read(self, stream: str, after: int, limit: int) -> Sequence[Delivery]:
        """See Source. Raises Unavailable while the engine takes no writes."""
        found = self._changed(after, limit) if stream == CHANGED else self._completed(after, limit)
        if found:
            await self._engine.durable()
        return found

    async def wait(self, stream: str, known: int, seconds: float) -> None:
        """See Source."""
        signals = self._engine.shard.signals
        await (signals.accepted if stream == CHANGED else signals.progress).wait(seconds)

    def _changed(self, after: int, limit: int) -> list[Delivery]:
        records = listing.accepted_after(self._engine.shard, after, limit)
        return [
            Delivery(record.sequence, changed_event(record), record.accepted_ns, record.change.id) for record in records
        ]

    def _completed(self, after: int, limit: int) -> list[Delivery]:
        store = self._engine.shard.store
        found: list[Delivery] = []
        for position, sequence in finished.after(store, after, limit):
            record = read_root(store, sequence)
            if record is None or not record.state.finished:
                found.append(Delivery(position, None, 0, problem="the root is forgotten, or at work again"))
                continue
            event = completed_event(record, read_tally(store, sequence), position)
            found.append(Delivery(position, event, record.finished_ns, record.change.id))
        return found
