"""Reads that are alike, asked for at once, are one read of the store.

Whoever asks gets what a read brought that was sent after he asked: so he sees every write that was answered before, by
whichever server, and need not know of writes at all. A read that is already under way is therefore never joined. At
most one of a kind is under way while the store answers in time; who comes meanwhile waits for it to end, and shares the
next one with all others who came. When it takes longer than ``patience_s``, the next one is sent beside it.
"""

import asyncio
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from libs.cassandra.session import Row, Statement
from libs.cassandra.turns import PATIENCE_S, fail, settle


class Asked(Protocol):
    """What is read from: a ``Session``."""

    async def execute(self, statement: Statement, values: Sequence[Any], consistency: int) -> list[Row]: ...


class _Flight:
    """One read. ``sharing``: those who get what it brings; None instead of rows says that nobody fetched it.
    ``ended``: who waits to send the next one."""

    __slots__ = ("ended", "sharing")

    def __init__(self) -> None:
        self.sharing: list[asyncio.Future[list[Row] | None]] = []
        self.ended: asyncio.Future[None] | None = None


class Joined:
    """Reads of one session. All methods belong to its event loop."""

    def __init__(self, session: Asked, patience_s: float = PATIENCE_S) -> None:
        self._session = session
        self._patience_s = patience_s
        self._sent: dict[Hashable, _Flight] = {}
        self._waiting: dict[Hashable, _Flight] = {}

    async def execute(self, name: Hashable, statement: Statement, values: Sequence[Any], consistency: int) -> list[Row]:
        """The rows of a statement that only reads, shared: they are not to be changed. ``name`` tells the read, with
        its values, from all others. Raises as ``Session.execute``."""
        key = (name, consistency)
        while (flight := self._waiting.get(key)) is not None:
            mine: asyncio.Future[list[Row] | None] = asyncio.get_running_loop().create_future()
            flight.sharing.append(mine)
            rows = await mine
            if rows is not None:
                return rows
        flight, before = _Flight(), self._sent.get(key)
        try:
            if before is not None:
                self._waiting[key] = flight
                await self._turn(before)
                del self._waiting[key]
            self._sent[key] = flight
            rows = await self._session.execute(statement, values, consistency)
        except BaseException as error:
            self._end(key, flight, None, error if isinstance(error, Exception) else None)
            raise
        self._end(key, flight, rows, None)
        return rows

    async def _turn(self, before: _Flight) -> None:
        """Until the read under way has ended, or was waited for long enough."""
        loop = asyncio.get_running_loop()
        ended = before.ended = loop.create_future()
        timer = loop.call_later(self._patience_s, settle, [ended], None)
        try:
            await ended
        finally:
            timer.cancel()

    def _end(self, key: Hashable, flight: _Flight, rows: list[Row] | None, error: Exception | None) -> None:
        """Tells those who share the flight, and whoever waits for its end. Without rows and error its owner went
        away."""
        for flights in (self._waiting, self._sent):
            if flights.get(key) is flight:
                del flights[key]
        if error is not None:
            fail(flight.sharing, error)
        else:
            settle(flight.sharing, rows)
        if flight.ended is not None:
            settle([flight.ended], None)
