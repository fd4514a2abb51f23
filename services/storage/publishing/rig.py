"""For tests: a topic in memory that fails when it is told to, a clock on which time flies, and a server that publishes
by both."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Collection, Sequence

from prometheus_client import CollectorRegistry

from libs.errors.errors import Unavailable
from services.storage.domain.namespace import Namespace
from services.storage.publishing.messages import Message
from services.storage.publishing.publication import Publication, Stats
from services.storage.store.interface import Store


class Quick:
    """A clock on which seconds pass a hundred times as fast; ``ahead_us`` is added to its wall time."""

    ahead_us = 0

    def time_ns(self) -> int:
        """See ``Clock``."""
        return int(self.monotonic() * 1e9) + self.ahead_us * 1000

    def monotonic(self) -> float:
        """See ``Clock``."""
        return asyncio.get_running_loop().time() * 100

    async def sleep(self, seconds: float) -> None:
        """See ``Clock``."""
        await asyncio.sleep(seconds / 100)


class MemoryTopic:
    """A topic that now and then takes a part of what it is sent and fails, if it has a ``chance``; ``away`` it takes
    nothing."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.kept: list[Message] = []
        self.away = False
        self._chance = chance
        self._grew = asyncio.Condition()

    async def send(self, messages: Sequence[Message]) -> None:
        """See ``Topic``."""
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("nobody is there")
        taken = len(messages)
        if self._chance is not None and self._chance.random() < 0.4:
            taken = self._chance.randrange(len(messages) + 1)
        async with self._grew:
            self.kept += messages[:taken]
            self._grew.notify_all()
        if taken < len(messages):
            raise Unavailable("it went away")

    async def close(self) -> None:
        """See ``Topic``."""

    def ids(self) -> list[str]:
        """Of the changes, as they came."""
        return [dict(message.headers)["ce_id"].decode() for message in self.kept]

    async def has(self, ids: Collection[str], patience_s: float) -> None:
        """Waits for these changes. Raises TimeoutError."""
        async with asyncio.timeout(patience_s), self._grew:
            await self._grew.wait_for(lambda: set(ids) <= set(self.ids()))


@contextlib.asynccontextmanager
async def publishing(store: Store, space: Namespace, topic: MemoryTopic) -> AsyncIterator[None]:
    """One of several servers that publish a namespace as ``ns`` to ``t``, or wait for their turn; killed at the end."""
    stats = Stats(CollectorRegistry())
    publication = Publication("ns", "t", topic, store, lambda: space, Quick(), stats, shared=True)
    task = asyncio.create_task(publication.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
