"""Exchanges with a topic of messages, many messages in one: a topic has the same limits, breaker and deadlines as what
is called over HTTP.

An exchange whose messages were all acknowledged has status 200, also when the topic refused some of them as they are:
that says nothing against the topic. Otherwise its `error` is the reason of a message that was not taken. `problems`
tells of each message.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from libs.errors.errors import InvalidArgument, WellspringError
from services.propagation.targets.exchange import Exchange


class Message(NamedTuple):
    """Messages of one key stay in their order."""

    key: bytes
    value: bytes


class Messages(Protocol):
    """What takes messages (libs.kafka.producer.Producer)."""

    async def send(self, topic: str, value: bytes, key: bytes | None = None) -> object:
        """Returns when the message is durable. Raises WellspringError; InvalidArgument for one that is never taken."""


class TopicExchange(Exchange):
    """`messages` and, by their index, `problems`: why one is not known to be in the topic."""

    def __init__(self, messages: Sequence[Message], on_end: Callable[[Exchange], None], timeout_s: float) -> None:
        super().__init__(b"", on_end, timeout_s, 0)
        self.messages = messages
        self.problems: dict[int, WellspringError] = {}


class TopicSender:
    """Of one topic. Never sends again by itself: that is the caller's budget."""

    def __init__(self, messages: Messages, topic: str, on_end: Callable[[Sequence[Exchange]], None]) -> None:
        self._messages = messages
        self._topic = topic
        self._on_end = on_end
        self._tasks: dict[Exchange, asyncio.Task[None]] = {}

    def send(self, exchanges: Sequence[Exchange]) -> None:
        """Begins to send."""
        loop = asyncio.get_running_loop()
        for exchange in exchanges:
            assert isinstance(exchange, TopicExchange)  # the only kind that is given to a topic
            # Owned here: `abort` and `close` cancel it, and it ends within its deadline.
            self._tasks[exchange] = loop.create_task(self._send(exchange))

    def abort(self, exchange: Exchange) -> None:
        """Waits no more for its messages, without calling `on_end`; they may still come to be in the topic."""
        task = self._tasks.pop(exchange, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Waits for nothing any more."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, exchange: TopicExchange) -> None:
        # Each is given to the producer before any is waited for: those of one key keep their order.
        sent = [self._messages.send(self._topic, one.value, one.key) for one in exchange.messages]
        for at, outcome in enumerate(await asyncio.gather(*sent, return_exceptions=True)):
            if isinstance(outcome, WellspringError):
                exchange.problems[at] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
        hard = [one for one in exchange.problems.values() if not isinstance(one, InvalidArgument)]
        if hard:
            exchange.error, exchange.detail = hard[0].reason, hard[0].message
        else:
            exchange.status = 200
        if self._tasks.pop(exchange, None) is not None:
            self._on_end((exchange,))
