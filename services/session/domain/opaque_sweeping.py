"""Housekeeping of opaque realms in bounded ticks: what is over leaves the store (and the disk with the next scrub).

At most ROWS_A_TICK rows are looked at in a tick, and as many tombstones. Of a realm that was revoked as a whole the
tombstones stay and the values go.
"""

import asyncio
from typing import Final

from services.session.crypto.opaque import handle_of
from services.session.domain.epochs import is_below
from services.session.domain.opaque import OpaqueState, judge, revoked
from services.session.domain.opaque_model import OpaqueRow, OpaqueStored
from services.session.domain.policy import Kind
from services.session.domain.sweeping import ticking
from services.session.domain.tools import Tools

ROWS_A_TICK: Final = 2_000
ROWS_A_STEP: Final = 100
"""Looked at without letting a call in between."""


class OpaqueSweeper:
    """`interval_us` between ticks."""

    def __init__(self, tools: Tools, interval_us: int) -> None:
        self._tools = tools
        self._rows = tools.store.opaque
        self._usage = tools.opaque_usage
        self._interval_us = interval_us
        self._resume: bytes | None = None

    async def run(self) -> None:
        """Ticks for ever."""
        await ticking(self._tools, self._interval_us, self.tick)

    async def tick(self) -> int:
        """One bounded piece of work; how many rows it removed."""
        removed, left = 0, ROWS_A_TICK
        while left > 0:
            piece = await self._rows.patrol(self._resume, min(left, ROWS_A_STEP))
            removed += await self._remove(piece.found)
            left -= max(1, len(piece.found))
            self._resume = piece.resume
            if piece.resume is None:
                self._usage.came_round(shared=self._tools.shared)
                break
            await asyncio.sleep(0)
        await self._rows.prune(self._tools.clock.now_us(), ROWS_A_TICK)
        return removed

    async def _remove(self, found: list[tuple[str, OpaqueStored]]) -> int:
        now_us, removed = self._tools.clock.now_us(), 0
        over: dict[str, list[OpaqueRow]] = {}
        for name, stored in found:
            row, realm = stored.row, self._tools.realms.get(name)
            if row is None:
                continue
            self._usage.saw(name, row)
            if realm is None or realm.policy.kind is not Kind.OPAQUE:
                over.setdefault(name, []).append(row)
                continue
            state = judge(realm, stored, now_us)
            if state is OpaqueState.ENDED and is_below(row.stamp, realm.epoch):
                if await self._rows.delete(name, [row.name], revoked(realm, row), known=True):
                    removed += 1
                    self._gone(name, [row])
            elif state is not OpaqueState.LIVE:
                over.setdefault(name, []).append(row)
        for name, rows in over.items():
            count = await self._rows.remove(name, rows)
            removed += count
            if count == len(rows):
                self._gone(name, rows)
            else:  # some were written anew meanwhile, and which ones is not told
                self._usage.forget()
            for row in rows:
                self._tools.events.record("opaque_swept", name, handle=handle_of(row.name))
        return removed

    def _gone(self, name: str, rows: list[OpaqueRow]) -> None:
        self._usage.changed(name, -len(rows), -sum(row.stored_bytes for row in rows))
