"""Single puts of several callers that come together are one step, as those of one call are (``lww/together.py``).

A put that is alone waits for nothing and takes a step of its own; those that come while a step is under way wait for
its end, or until they are as many as a step may be, and are the next one. Only what cannot hold up its neighbours goes
with them: puts of records that nobody is writing, of the same replicas, and small. What becomes of each is its own:
where a step could do nothing, each goes by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, NamedTuple

from libs.cassandra.turns import Turns, Work, answered, settle
from libs.errors.errors import WellspringError
from services.storage.cassandra.lww.likeness import MOST, single
from services.storage.domain.model import Receipt
from services.storage.store.interface import Write

MOST_BYTES: Final = 32 << 10
"""Of a value that goes with others: of such, several fit into a request."""

PATIENCE_S: Final = 0.1
"""For a step under way: it is three requests one after the other, and what is decided on many records."""

Result = Receipt | WellspringError


class _Asked(NamedTuple):
    """``done``: what became of it; None: it is to take a step of its own."""

    write: Write
    done: "asyncio.Future[Result | None]"


_Shape = tuple[int, int, bytes, Hashable]
"""What puts of one step have in common: the namespace and the very settings of it, the item's key, the replicas."""


class _Queue(NamedTuple):
    """Puts of one shape, by record."""

    waiting: dict[bytes, _Asked]
    turns: Turns


class Puts:
    """Those of one store. All methods belong to its event loop."""

    def __init__(
        self,
        one: Callable[[Write], Awaitable[Result]],
        many: Callable[[Sequence[Write]], Awaitable[Sequence[Result | None]]],
        busy: Callable[[Write], bool],
        replicas: Callable[[Write], Hashable],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``one`` and ``many`` do a step; None of many: it takes a step of its own. ``many`` raises WellspringError
        when nothing was written. ``busy``: somebody writes that record. ``replicas`` names where it lies."""
        self._one = one
        self._many = many
        self._busy = busy
        self._replicas = replicas
        self._patience_s = patience_s
        self._queues: dict[_Shape, _Queue] = {}

    async def run(self, write: Write) -> Result:
        """What became of a mutation."""
        space, command = write
        if single(space, command) and len(command.puts[0].value) <= MOST_BYTES:
            shape = (space.number, id(space), command.puts[0].key, self._replicas(write))
            queue = self._queues.get(shape)
            if queue is None:
                queue = self._queues[shape] = self._queue(shape)
            if command.record not in queue.waiting:
                asked = _Asked(write, asyncio.get_running_loop().create_future())
                queue.waiting[command.record] = asked
                queue.turns.came()
                result = await asked.done
                if result is not None:
                    return result
        return await self._one(write)

    def _queue(self, shape: _Shape) -> _Queue:
        waiting: dict[bytes, _Asked] = {}

        def take() -> Work | None:
            taken = self._take(waiting)
            return self._run(taken) if taken else None

        def idle() -> None:
            del self._queues[shape]

        def full() -> bool:
            return len(waiting) >= MOST

        turns = Turns(waiting, take, idle, full=full, patience_s=self._patience_s)
        return _Queue(waiting, turns)

    def _take(self, waiting: dict[bytes, _Asked]) -> list[_Asked]:
        taken: list[_Asked] = []
        for record in list(waiting)[:MOST]:
            asked = waiting.pop(record)
            if asked.done.done():
                continue  # the caller went away, and nothing has begun
            if self._busy(asked.write):
                asked.done.set_result(None)
            else:
                taken.append(asked)
        return taken

    async def _run(self, taken: Sequence[_Asked]) -> None:
        waiting = [asked.done for asked in taken]
        with answered(waiting):
            try:
                if len(taken) == 1:
                    results: Sequence[Result | None] = [await self._one(taken[0].write)]
                else:
                    results = await self._many([asked.write for asked in taken])
            except WellspringError:
                settle(waiting, None)
                return
            for done, result in zip(waiting, results, strict=True):
                settle([done], result)
