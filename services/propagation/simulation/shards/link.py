"""What engines ask each other, over a network that is late, loses and repeats, and by what each believes of the group.

A request may reach an engine that leads the shard no more and does not know it, one that stands still, or one that
dies before it answers; and it may arrive a second time, much later.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from libs.errors.errors import DeadlineExceeded, WellspringError
from libs.rpc.call import Call
from services.propagation.fleet.errors import ShardAway
from services.propagation.fleet.shards import Shards
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.trace import Trace
from services.propagation.simulation.shards.calling import call_of

_Answer = TypeVar("_Answer")
_LATE_S = 45.0
_LEAST_S, _MARGIN_S = 0.05, 0.2


class Reached(Protocol):
    """An engine's process, as another one reaches it."""

    name: str
    shards: Shards

    async def awake(self) -> None:
        """Waits while it stands still."""

    async def serve(self, method: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """The answer of a call to it. Raises Unavailable when it dies."""


class Network(Protocol):
    """What all links have in common."""

    faults: Callable[[], Faults]
    trace: Trace

    def chance(self) -> float:
        """Drawn between 0 and 1."""

    def believed(self, shard: int) -> Reached | None:
        """Where somebody thinks that the shard is led."""


class Link:
    """See `fleet.shards.Others`; of the process `own`."""

    def __init__(self, own: Reached, network: Network) -> None:
        self._own = own
        self._network = network
        self._echoes: dict[asyncio.Task[Any], None] = {}

    def look_again(self) -> None:
        """See `Others.look_again`."""

    async def ask(self, shard: int, service: str, method: str, request: Message, call: Call) -> Any:
        """See `Others.ask`."""
        network, faults = self._network, self._network.faults()
        await self._own.awake()
        target = network.believed(shard)
        if target is None:
            raise ShardAway(f"no engine is known to lead shard {shard}")
        left_s = max(_LEAST_S, call.remaining_s - _MARGIN_S)
        copy = type(request)()
        copy.CopyFrom(request)

        async def asked() -> Any:
            return await target.shards.owned(shard).ask(service, method, copy, call_of(left_s))

        await self._delay()
        if network.chance() < faults.request_lost:
            raise ShardAway(f"the engine that leads shard {shard} is not reached")
        if network.chance() < faults.duplicated:
            self._repeat(target, f"{method} for shard {shard}", asked)
        try:
            async with asyncio.timeout(left_s):
                answer = await target.serve(asked)
        except TimeoutError:
            raise DeadlineExceeded(f"the engine that leads shard {shard} did not answer in time") from None
        await self._delay()
        await self._own.awake()
        if network.chance() < faults.answer_lost:
            raise ShardAway(f"the engine that leads shard {shard} is not reached")
        return answer

    async def stream(
        self, shard: int, service: str, method: str, request: Message, call: Call
    ) -> AsyncGenerator[Any, None]:
        """Nobody watches streams here."""
        raise AssertionError(method)
        yield

    def _repeat(self, target: Reached, what: str, asked: Callable[[], Awaitable[Any]]) -> None:
        seconds = self._network.chance() * _LATE_S

        async def echo() -> None:
            await asyncio.sleep(seconds)
            self._network.trace(target.name, f"is asked again, {seconds:.1f} s late: {what}")
            try:
                await target.serve(asked)
            except WellspringError:
                return

        task = asyncio.ensure_future(echo())
        self._echoes[task] = None
        task.add_done_callback(lambda _: self._echoes.pop(task, None))

    async def _delay(self) -> None:
        mean_s = max(self._network.faults().delay_s / 4, 1e-4)
        await asyncio.sleep(mean_s * 2 * self._network.chance())
