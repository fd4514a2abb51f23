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
from services.propagation.targets.tasks import ExchangeTasks


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
        self._tasks = ExchangeTasks(self._send, on_end)

    def send(self, exchanges: Sequence[Exchange]) -> None:
        """Begins to send."""
        for exchange in exchanges:
            assert isinstance(exchange, TopicExchange)  # the only kind that is given to a topic
            self._tasks.begin(exchange)

    def abort(self, exchange: Exchange) -> None:
        """Waits no more for its messages, without calling `on_end`; they may still come to be in the topic."""
        self._tasks.abort(exchange)

    async def close(self) -> None:
        """Waits for nothing any more."""
        await self._tasks.close()

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
