"""This process's lane of a namespace's feed: intents written in order, before what they announce; then settled.

Each process writes lanes of its own. In a lane an intent is written only after those before it have arrived, several at
a time: so whoever has read a lane up to some change has missed none before it. When it is not known whether intents
arrived, the lane is left and another one begun: what surfaces in the old one later is behind all that was read there.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from libs.cassandra.session import Session, Statement
from libs.errors.errors import WellspringError
from services.storage.cassandra.announced import VOID, packed
from services.storage.cassandra.layout import feed_slot
from services.storage.cassandra.statements import Statements

_TOGETHER: Final = 100
"""Intents written by one batch."""
BESIDE_BYTES: Final = 4096
"""Of a batch with writes of other partitions: Cassandra warns of such from 5 KiB on, and refuses 50 KiB."""
_ROW_BYTES: Final = 64
"""What a row has beside its values of bytes, with room to spare."""
Writes = Sequence[tuple[Statement, Sequence[Any]]]


class Intent(NamedTuple):
    """The announcement of one change. ``row`` and ``token`` as those of an ``Announced``."""

    number: int
    lane: int
    sequence: int
    row: int = 0
    token: bytes = b""


class _Waiting(NamedTuple):
    """``together``: changes that are announced together, the last with the sequence; ``name`` is then their records."""

    sequence: int
    name: bytes
    beside: Writes
    future: "asyncio.Future[Intent]"
    together: int = 0
    token: bytes = b""

    def sequences(self) -> range:
        return range(self.sequence - max(0, self.together - 1), self.sequence + 1)

    def size(self) -> int:
        """Of its rows, about."""
        return _ROW_BYTES + len(self.name) + len(self.token) + sum([row_bytes(values) for _, values in self.beside])


class Lane:
    """The lane of one namespace. ``under_way``: the changes announced whose outcome this process still determines."""

    def __init__(self, number: int, session: Session, statements: Statements, consistency: int) -> None:
        self.number = number
        self.under_way: set[tuple[int, int]] = set()
        self._session = session
        self._write = statements.write
        self._consistency = consistency
        self._datacentre = session.options.local_datacentre
        self._lane = 0
        self._own: set[int] = set()
        self._open: set[tuple[int, int]] = set()
        self._slots: set[int] = set()
        self._queue: list[_Waiting] = []
        self._writing = asyncio.Lock()

    def announce(
        self, sequence: int, record: bytes, beside: Writes = (), token: bytes = b""
    ) -> "asyncio.Future[Intent]":
        """Queues an intent; sequences come rising. ``beside``: small rows about the record that may be there for
        nothing, and have arrived when the intent has. ``token``: as that of an ``Announced``. Await the future after
        :meth:`write`."""
        future: asyncio.Future[Intent] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(sequence, record, beside, future, 0, token))
        return future

    def announce_many(
        self, last: int, records: Sequence[bytes], tokens: Sequence[bytes], beside: Writes = ()
    ) -> "asyncio.Future[Intent]":
        """As :meth:`announce` for changes of several records, with sequences up to ``last`` that are in one slot; the
        future's is the intent of the last. ``tokens``: the keys under which their mutations are remembered, one for all
        or one for each. With what is ``beside`` it has ``BESIDE_BYTES`` at most."""
        assert len(tokens) in (1, len(records)), "each has one"
        assert feed_slot(last) == feed_slot(last - len(records) + 1), "they are in one row"
        future: asyncio.Future[Intent] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(last, packed(records), beside, future, len(records), b"".join(tokens)))
        return future

    async def write(self, mine: "asyncio.Future[Intent]") -> Intent:
        """Writes what is queued until ``mine`` has arrived. Raises Unavailable: then nothing was announced."""
        while not mine.done():
            async with self._writing:
                if mine.done():
                    break
                many = _many(self._queue)
                group, self._queue = self._queue[:many], self._queue[many:]
                await self._write_group(group)
        return mine.result()

    def settled(self, lane: int, sequence: int) -> bool:
        """Whether this process has announced the change and knows that it is settled."""
        return lane in self._own and (lane, sequence) not in self._open

    async def settle(self, intent: Intent, event: bytes) -> None:
        """The change happened. Raises Unavailable."""
        await self._session.execute(*settled(self._write, intent, event), self._consistency)
        self._open.discard((intent.lane, intent.sequence))

    async def settle_some(self, some: Sequence[Sequence[tuple[Intent, bytes]]]) -> None:
        """Changes that happened, with their events: those of a row that was announced together come together. Raises
        Unavailable."""
        slots: dict[tuple[int, int], list[tuple[Statement, Sequence[Any]]]] = {}
        for changes in some:
            intent, event = changes[0]
            write = settled(self._write, intent, event) if not intent.row else self._settled_many(changes)
            slots.setdefault((intent.lane, feed_slot(intent.sequence)), []).append(write)
        for writes in slots.values():
            await self._session.batch(writes, self._consistency)

    def forget(self, intent: Intent) -> None:
        """The change is in other hands: settled, or left to readers."""
        self._open.discard((intent.lane, intent.sequence))
        self.under_way.discard((intent.lane, intent.sequence))

    async def void(self, intent: Intent) -> None:
        """The change will not happen. Raises Unavailable."""
        if intent.row:
            await self._session.execute(*settled(self._write, intent, VOID), self._consistency)
        else:
            place = (intent.number, intent.lane, feed_slot(intent.sequence), intent.sequence)
            await self._session.execute(self._write["void"], place, self._consistency)
        self._open.discard((intent.lane, intent.sequence))

    def done(self, intent: Intent) -> None:
        """This process knows no more about it than the store."""
        self.under_way.discard((intent.lane, intent.sequence))

    def _settled_many(self, changes: Sequence[tuple[Intent, bytes]]) -> tuple[Statement, Sequence[Any]]:
        """The write of a row's events, of those of its changes that happened, from the first of these on."""
        number, lane, _, row, _ = changes[0][0]
        events = {intent.sequence: event for intent, event in changes}
        value = packed([events.get(sequence) for sequence in range(min(events), row + 1)])
        return self._write["settle_many"], (value, number, lane, feed_slot(row), row)

    async def _write_group(self, group: list[_Waiting]) -> None:
        lane = self._lane or secrets.randbits(62) + 1
        slots = sorted({feed_slot(one.sequence) for one in group})
        try:
            if lane != self._lane:
                await self._session.execute(
                    self._write["lane"], (self.number, lane, self._datacentre), self._consistency
                )
                self._lane, self._slots = lane, set()
                self._own.add(lane)
            for slot in slots:
                if slot not in self._slots:
                    await self._session.execute(self._write["slot"], (self.number, lane, slot), self._consistency)
                    self._slots.add(slot)
                rows = [one for one in group if feed_slot(one.sequence) == slot]
                announced = {(lane, sequence) for one in rows for sequence in one.sequences()}
                self.under_way |= announced
                self._open |= announced
                writes = [self._intended(lane, one) for one in rows]
                await self._session.batch(
                    [*writes, *(write for one in rows for write in one.beside)], self._consistency
                )
        except WellspringError as error:
            self._lane = 0
            for one in group:
                self.under_way -= {(lane, sequence) for sequence in one.sequences()}
                if not one.future.done():
                    one.future.set_exception(error)
                    one.future.exception()
            return
        for one in group:
            if not one.future.done():
                one.future.set_result(
                    Intent(self.number, lane, one.sequence, one.sequence if one.together else 0, one.token)
                )

    def _intended(self, lane: int, one: _Waiting) -> tuple[Statement, Sequence[Any]]:
        place = (self.number, lane, feed_slot(one.sequence), one.sequence)
        if one.together:
            return self._write["intend_many"], (*place, one.name, one.token)
        if one.token:
            return self._write["intend_remembered"], (*place, one.name, one.token)
        return self._write["intend"], (*place, one.name)


def settled(write: Mapping[str, Statement], intent: Intent, event: bytes) -> tuple[Statement, Sequence[Any]]:
    """The write by which a change has its event, and its values; of one of several in a row also that it is void."""
    place = (intent.number, intent.lane, feed_slot(intent.sequence), intent.row or intent.sequence)
    if intent.row:
        return write["tell"], (intent.sequence, event, *place)
    return write["settle"], (event, *place)


def row_bytes(values: Sequence[Any]) -> int:
    """Of a row with such values, about."""
    return _ROW_BYTES + sum([len(value) for value in values if isinstance(value, bytes)])


def _many(queue: Sequence[_Waiting]) -> int:
    """How many of the first in the queue are written together: one at least."""
    size, beside = 0, False
    for count, one in enumerate(queue[:_TOGETHER]):
        size += one.size()
        beside = beside or bool(one.beside)
        if count and beside and size > BESIDE_BYTES:
            return count
    return min(len(queue), _TOGETHER)
