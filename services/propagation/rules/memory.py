"""Topics in memory, source and sink in one: for tests of rules, and of what stands on them."""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence

from services.propagation.rules.events import Event
from services.propagation.rules.sources import Delivery


class MemoryTopics:
    """Holds what is put for ever. Bytes that are no JSON object are deliveries without an event."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.topics = frozenset(topics)
        self.held: dict[str, list[Delivery]] = {topic: [] for topic in self.topics}
        self.published: list[tuple[str, Event]] = []
        """What came by `publish`, topics that nobody reads included."""
        self._news = asyncio.Condition()

    async def put(self, topic: str, event: Mapping[str, object] | bytes, hops: int = 0) -> None:
        """Adds a delivery."""
        held = self.held[topic]
        position = len(held) + 1
        raw = event if isinstance(event, bytes) else json.dumps(event).encode()
        try:
            read = json.loads(raw)
        except ValueError as error:
            held.append(Delivery(position, None, time.time_ns(), raw=raw, problem=f"is no JSON: {error}"))
        else:
            held.append(Delivery(position, read, time.time_ns(), hops=hops))
        async with self._news:
            self._news.notify_all()

    async def publish(self, topic: str, event: Event, hops: int = 0) -> None:
        """See Sink."""
        self.published.append((topic, event))
        if topic in self.topics:
            await self.put(topic, event, hops)

    def streams(self, topic: str) -> Sequence[str]:
        """See Source."""
        return (topic,)

    def newest(self, stream: str) -> int:
        """See Source."""
        return len(self.held[stream])

    async def read(self, stream: str, after: int, limit: int) -> Sequence[Delivery]:
        """See Source."""
        return self.held[stream][after : after + limit]

    async def wait(self, stream: str, known: int, seconds: float) -> None:
        """See Source."""
        if self.newest(stream) > known:
            return
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait()
        except TimeoutError:
            return
