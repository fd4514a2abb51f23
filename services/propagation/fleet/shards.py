"""All shards, as this process reaches them: its own at once, the others by the engines that lead them.

A shard that moves is asked for again where it is then, until the caller's time is over. What is asked again is what the
contract lets a caller repeat: changes have ids, declarations replace, completions are told by their leases.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

from google.protobuf.message import Message

from libs.errors.errors import WellspringError
from libs.rpc.call import Call
from services.propagation.domain.generation import FIRST, Generation
from services.propagation.domain.partition import shard_of
from services.propagation.domain.signals import Signal
from services.propagation.fleet.errors import ShardAway, ShardNotHere
from services.propagation.fleet.local import LocalShard

SHARD_HEADER = "wellspring-shard"
"""Of calls between engines: the number of the shard that is meant, and of how many: 3/8."""

_PAUSE_S = 0.1
_GROWN_S = 1.0
_MARGIN_S = 0.5
"""Kept of the caller's deadline, so that the reason reaches it."""
_LONGEST_S = 60.0


class Others(Protocol):
    """The shards that other engines lead."""

    async def ask(self, shard: int, service: str, method: str, request: Message, call: Call) -> Any:
        """The answer of the engine that leads it. Raises ShardNotHere, ShardAway, and what it answers."""

    def stream(self, shard: int, service: str, method: str, request: Message, call: Call) -> AsyncGenerator[Any, None]:
        """Its answers. Raises as `ask`."""

    def look_again(self) -> None:
        """A shard was not where it was thought to be."""


Answers = dict[int, Any]
"""By shard, its answer, or the WellspringError that it raised."""


class Growth(Protocol):
    """How the number of shards grows."""

    async def prepare(self, follows: Generation) -> None:
        """Makes the log of the generation. Raises FailedPrecondition, Unavailable."""

    def wanted(self) -> Generation | None:
        """What is under way, as far as it is known here."""

    def sealed(self) -> list[int]:
        """The shards whose logs are known here to have ended."""


class Shards:
    """Those of one generation. `own` are those that this process leads now. `work` is fired when one of them may have
    work to lend."""

    def __init__(
        self, count: int, others: Others | None = None, generation: int = FIRST, growth: Growth | None = None
    ) -> None:
        """`others` is None where this process leads all shards whenever it leads one; `growth` where there is none."""
        self.growth = growth
        self.count = count
        self.generation = generation
        self.ended = False
        """Set once the shards have become those of the next generation: whoever still asks is told to begin again."""
        self.own: dict[int, LocalShard] = {}
        self.work = Signal()
        self._others = others

    @property
    def first_sequence(self) -> int:
        """Above all sequences that were given when there were fewer."""
        return Generation(self.generation, self.count).first_sequence

    def of(self, resource: str) -> int:
        """The shard that a resource belongs to."""
        return shard_of(resource, self.count)

    def owned(self, number: int) -> LocalShard:
        """The shard that this process leads. Raises ShardNotHere."""
        shard = self.own.get(number)
        if shard is None:
            raise ShardNotHere(f"this engine does not lead shard {number}")
        return shard

    async def ask(
        self, shard: int, service: str, method: str, request: Message, call: Call, *, patient: bool = True
    ) -> Any:
        """The shard's answer, wherever it is led; a `patient` caller waits for one that moves. Raises ShardAway, and
        what the shard raises."""
        end_s = _end_s(call) if patient else 0.0
        while True:
            self._check_present()
            try:
                if shard in self.own:
                    return await self.own[shard].ask(service, method, request, call)
                if self._others is not None:
                    return await self._others.ask(shard, service, method, request, call)
                raise ShardNotHere(f"shard {shard} is not led now")
            except (ShardNotHere, ShardAway) as error:
                await self._wait(shard, error, end_s)

    async def ask_each(
        self, service: str, method: str, requests: Mapping[int, Message], call: Call, *, patient: bool = True
    ) -> Answers:
        """The answers of these shards, asked side by side; an error of one is its answer."""
        answers: Answers = {}

        async def one(shard: int, request: Message) -> None:
            try:
                answers[shard] = await self.ask(shard, service, method, request, call, patient=patient)
            except WellspringError as error:
                answers[shard] = error

        if len(requests) == 1:
            for shard, request in requests.items():
                await one(shard, request)
            return answers
        async with asyncio.TaskGroup() as group:
            for shard, request in requests.items():
                group.create_task(one(shard, request))
        return {shard: answers[shard] for shard in sorted(answers)}

    async def ask_all(self, service: str, method: str, request: Message, call: Call) -> Answers:
        """The answers of all shards to the same request."""
        return await self.ask_each(service, method, dict.fromkeys(range(self.count), request), call)

    async def stream(
        self, shard: int, service: str, method: str, request: Message, call: Call
    ) -> AsyncGenerator[Any, None]:
        """The shard's answers. One that moves before the first of them is looked for, as in `ask`; later the stream
        ends with ShardAway: its caller resumes where it was."""
        end_s = _end_s(call)
        begun = False
        while True:
            self._check_present()
            try:
                async for answer in self._stream(shard, service, method, request, call):
                    begun = True
                    yield answer
                return
            except (ShardNotHere, ShardAway) as error:
                if begun:
                    raise ShardAway(f"shard {shard} moved meanwhile: resume", retry_after_s=_PAUSE_S) from None
                await self._wait(shard, error, end_s)

    def _stream(self, shard: int, service: str, method: str, request: Message, call: Call) -> AsyncGenerator[Any, None]:
        if shard in self.own:
            return self.own[shard].stream(service, method, request, call)
        if self._others is not None:
            return self._others.stream(shard, service, method, request, call)
        raise ShardNotHere(f"shard {shard} is not led now")

    def _check_present(self) -> None:
        """What was asked of some of these shards is not asked of all that there are now. Raises ShardAway."""
        if self.ended:
            raise ShardAway("the number of shards has grown meanwhile: call again", retry_after_s=_GROWN_S)

    async def _wait(self, shard: int, error: WellspringError, end_s: float) -> None:
        """Before a shard is asked again. Raises ShardAway when there is no time."""
        if self._others is not None:
            self._others.look_again()
        if asyncio.get_running_loop().time() + _PAUSE_S >= end_s:
            raise ShardAway(
                f"shard {shard} of {self.count} is not led now, or its engine is not reached: {error.message}",
                retry_after_s=1.0,
                metadata={"shard": str(shard)},
            )
        await asyncio.sleep(_PAUSE_S)


def whole(answers: Answers) -> Sequence[Any]:
    """The answers in the order of the shards. Raises the first error among them."""
    for answer in answers.values():
        if isinstance(answer, WellspringError):
            raise answer
    return list(answers.values())


def _end_s(call: Call) -> float:
    return asyncio.get_running_loop().time() + min(_LONGEST_S, max(0.0, call.remaining_s - _MARGIN_S))
