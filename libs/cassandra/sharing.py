"""One request for several callers: it fails for each of them by himself, and is smaller after it has failed.

A request for many that fails, or takes half of the time that there is, is followed by one for each, which has the other
half. Those for many are smaller for a while then: a member that is huge, or that cannot be answered, is soon alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from libs.cassandra.turns import answered, fail, settle
from libs.errors.errors import WellspringError

Member = TypeVar("Member")

Waiting = Sequence["asyncio.Future[Any]"]


class Shared(Generic[Member]):
    """Requests of one kind. ``most``: callers for whom there is one request now."""

    def __init__(
        self,
        upto: int,
        *,
        waiting: Callable[[Member], Waiting],
        alone: Callable[[Member, float], Awaitable[Any]],
        together: Callable[[Sequence[Member], float], Awaitable[Sequence[Any]]],
    ) -> None:
        """``waiting``: who waits for this one. ``alone`` and ``together`` ask for one, and for several, in so many
        seconds, and answer the result, or one for each; whatever they raise is an outcome. ``upto``: the highest
        ``most``."""
        self.most = upto
        self._upto = upto
        self._waiting = waiting
        self._alone = alone
        self._together = together

    async def run(self, members: Sequence[Member], timeout_s: float) -> None:
        """All who wait for these have their outcomes after ``timeout_s``, and when this is cancelled; it raises nothing
        else."""
        with answered([one for member in members for one in self._waiting(member)]):
            if len(members) == 1:
                await self._one(members[0], timeout_s)
                self._grow()
            elif not await self._many(members, timeout_s / 2):
                left = [member for member in members if not gone(self._waiting(member))]
                await asyncio.gather(*(self._one(member, timeout_s / 2) for member in left))

    async def _many(self, members: Sequence[Member], timeout_s: float) -> bool:
        """Whether all have their outcomes."""
        try:
            results = await self._together(members, timeout_s)
        except WellspringError:
            self.most = max(1, len(members) // 2)
            return False
        self._grow()
        for member, result in zip(members, results, strict=True):
            settle(self._waiting(member), result)
        return True

    async def _one(self, member: Member, timeout_s: float) -> None:
        try:
            result = await self._alone(member, timeout_s)
        except Exception as error:
            fail(self._waiting(member), error)
        else:
            settle(self._waiting(member), result)

    def _grow(self) -> None:
        self.most = min(self.most + 1, self._upto)


def gone(waiting: Waiting) -> bool:
    """Whether all who waited went away, or have their outcomes."""
    return all(one.done() for one in waiting)
