"""What the sweeper must look at, and when: entries by time, in slots that are known by name.

An entry only says where to look. It is entered before what it is about, and dropped after it was worked on: by the very
time it was written, so that one entered anew meanwhile stays.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from libs.cassandra.session import LOCAL_QUORUM, Session
from services.storage.cassandra.layout import DUE_SHARDS, DUE_SLOT_US, due_shard, due_slot
from services.storage.cassandra.statements import Statements
from services.storage.store import layout

_AHEAD_US: Final = 60 * 60 * 1_000_000
"""A slot that ends so long after now is entered once; one that may be swept away meanwhile, with each entry."""
_TOGETHER: Final = 50


class DueEntry(NamedTuple):
    """An entry: its key in the engine's words (``store/layout.py``), and when it was written (the store's time)."""

    key: bytes
    written: int


class Dues:
    """Reads and writes the entries."""

    def __init__(self, session: Session, statements: Statements, clock_us: Callable[[], int]) -> None:
        self._session = session
        self._read = statements.read
        self._write = statements.write
        self._clock_us = clock_us
        self._slots: set[int] = set()
        self._written: dict[bytes, int] = {}

    async def enter(self, keys: Sequence[bytes]) -> None:
        """Enters them. Raises Unavailable."""
        now_us = self._clock_us()
        rows = [layout.parse_due(key) for key in keys]
        for slot in {due_slot(_bounded(row[0])) for row in rows}:
            if slot not in self._slots or (slot + 1) * DUE_SLOT_US < now_us + _AHEAD_US:
                await self._session.execute(self._write["due_slot"], (slot,), LOCAL_QUORUM)
                self._slots.add(slot)
        statement = self._write["enter_due"]
        for first in range(0, len(rows), _TOGETHER):
            work = []
            for due_us, number, kind, rest in rows[first : first + _TOGETHER]:
                due_us = _bounded(due_us)
                values = (due_slot(due_us), due_shard(number, rest), due_us, number, kind, rest)
                work.append(self._session.execute(statement, values, LOCAL_QUORUM))
            await asyncio.gather(*work)

    async def read(self, now_us: int, limit: int) -> list[bytes]:
        """The first entries that are due, about ``limit``. Slots that have long been over and empty are forgotten."""
        found: list[bytes] = []
        slots = [
            row
            async for page in self._session.pages(self._read["due_slots"], (due_slot(now_us),), LOCAL_QUORUM)
            for row in page
        ]
        for slot, written in slots:
            rows = await self._slot(slot, now_us, limit - len(found))
            found += rows
            if len(found) >= limit:
                break
            if not rows and (slot + 1) * DUE_SLOT_US + _AHEAD_US <= now_us:
                self._slots.discard(slot)
                await self._session.execute(self._write["drop_due_slot"], (written, slot), LOCAL_QUORUM)
        return found

    async def drop(self, keys: Sequence[bytes]) -> None:
        """Drops entries that :meth:`read` answered. Raises Unavailable."""
        statement, work = self._write["drop_due"], []
        for key in keys:
            written = self._written.pop(key, None)
            if written is not None:
                due_us, number, kind, rest = layout.parse_due(key)
                values = (written, due_slot(due_us), due_shard(number, rest), due_us, number, kind, rest)
                work.append(self._session.execute(statement, values, LOCAL_QUORUM))
        await asyncio.gather(*work)

    async def _slot(self, slot: int, now_us: int, limit: int) -> list[bytes]:
        shards = await asyncio.gather(
            *(
                self._session.execute(self._read["due"], (slot, shard, now_us, limit), LOCAL_QUORUM)
                for shard in range(DUE_SHARDS)
            )
        )
        found = []
        for rows in shards:
            for due_us, number, kind, rest, written in rows:
                key = layout.due_key(due_us, number, kind, rest)
                self._written[key] = written
                found.append(key)
        return found


def _bounded(due_us: int) -> int:
    """A time that the store can hold."""
    return min(due_us, (1 << 63) - 1)
