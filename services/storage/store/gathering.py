"""Single mutations that come while others are on their way to the disk: they share the next turn, batch and wait.

A mutation that comes during a sync needs the sync after it, and gains nothing by being written before that begins. So
there is one turn at a time, with all that has come until then: under load a put costs a line in a batch instead of a
batch, and alone it waits for nothing.
"""

import asyncio
from functools import partial
from typing import Final

from libs.errors.errors import WellspringError
from services.storage.domain.model import Receipt
from services.storage.store.interface import Write
from services.storage.store.turn import Turn
from services.storage.store.writer import Writer

_TOGETHER: Final = 256
"""Mutations of a turn: a few milliseconds of the loop."""
_TOGETHER_BYTES: Final = 4 << 20

_Answer = asyncio.Future[Receipt | WellspringError]
_Taken = list[tuple[Write, _Answer]]
_Results = list[Receipt | WellspringError]


class Gathering:
    """The single mutations of a store whose ``submit`` gives futures."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._waiting: _Taken = []
        self._under_way = False

    async def mutate(self, write: Write) -> Receipt | WellspringError:
        """As ``Store.mutate``, of one. Its write goes on when the caller does not wait for it."""
        loop = asyncio.get_running_loop()
        answer: _Answer = loop.create_future()
        self._waiting.append((write, answer))
        if not self._under_way:
            self._under_way = True
            loop.call_soon(self._begin)
        return await answer

    def _begin(self) -> None:
        """Takes the next turn, if somebody waits for one."""
        taken = self._take()
        if not taken:
            self._under_way = False
            return
        writer, loop = self._writer, asyncio.get_running_loop()
        try:
            turn = Turn(writer)
            results = turn.run([write for write, _ in taken])
            durable: asyncio.Future[None] = turn.durable
            if durable is None and not writer.settling.settled:
                # Nothing was written; what the answers rest on is on its way to the disk.
                durable = writer.kv.submit(writer.kv.batch())
                writer.settling.mark(())
        except Exception as error:  # whatever it is: those who wait must hear it, and the others go on
            _fail(taken, error)
            loop.call_soon(self._begin)
            return
        if durable is None:
            _answer(taken, results)
            loop.call_soon(self._begin)
        else:
            durable.add_done_callback(partial(self._end, taken, results, writer.settling.applied))

    def _end(self, taken: _Taken, results: _Results, number: int, durable: asyncio.Future[None]) -> None:
        """Answers those whose batch, with that ``number``, is durable, or could not be made so."""
        error = durable.exception()
        if error is None:
            self._writer.settling.reached(number)
            _answer(taken, results)
        else:
            _fail(taken, error)
        self._begin()

    def _take(self) -> _Taken:
        """The first that wait, as many as one turn should have."""
        size = 0
        for count, (write, _) in enumerate(self._waiting):
            size += sum(len(put.value) for put in write.command.puts)
            if count == _TOGETHER or (count and size > _TOGETHER_BYTES):
                taken, self._waiting = self._waiting[:count], self._waiting[count:]
                return taken
        taken, self._waiting = self._waiting, []
        return taken


def _answer(taken: _Taken, results: _Results) -> None:
    for (_, answer), result in zip(taken, results, strict=True):
        if not answer.done():
            answer.set_result(result)


def _fail(taken: _Taken, error: BaseException) -> None:
    for _, answer in taken:
        if not answer.done():
            answer.set_exception(error)
            answer.exception()  # nothing is logged for a caller that went away
