"""Housekeeping in bounded ticks: what is over leaves the store, and then the disk.

The walk over all sessions finds everything that is over, whatever ended it: a timeout, a shorter policy, an epoch. It
comes round in a quarter of `gone_after` (at most ROWS_A_TICK sessions are looked at in a tick); what it removed, and
what was overwritten or revoked, leaves tables and logs at the next scrub, in another quarter at most.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from libs.errors.errors import ResourceExhausted, Unavailable
from services.session.domain.policy import SECOND
from services.session.domain.tools import Tools
from services.session.store.interface import Stored

ROWS_A_TICK: Final = 2_000
ROWS_A_STEP: Final = 100
"""Looked at without letting a call in between: about a millisecond."""
LEAST_ROWS: Final = 200
CLOCK: Final = "clock_us"


async def ticking(tools: Tools, interval_us: int, tick: Callable[[], Awaitable[int]]) -> None:
    """Calls `tick` for ever, `interval_us` apart. A store that takes no writes now puts a tick off: sessions are read
    all the same, and its health says what is wrong."""
    while True:
        await tools.clock.clock.sleep(interval_us / 1e6)
        try:
            await tick()
        except (ResourceExhausted, Unavailable) as error:
            tools.events.record("sweep_put_off", "", reason=error.reason)


class Sweeper:
    """`interval_us` between ticks; nothing is left on disk `gone_after_us` after it was over."""

    def __init__(self, tools: Tools, interval_us: int, gone_after_us: int) -> None:
        self._tools = tools
        self._interval_us = interval_us
        self._quarter_us = gone_after_us // 4
        self._resume: bytes | None = None
        self._seen = 0
        self._rows: int | None = None
        self._scrubbed_us = tools.clock.now_us()
        self.walk_s = 0.0
        self._walk_began_us = self._scrubbed_us

    async def run(self) -> None:
        """Ticks for ever."""
        await ticking(self._tools, self._interval_us, self.tick)

    async def tick(self) -> int:
        """One bounded piece of work; how many sessions it removed."""
        store, now_us = self._tools.store, self._tools.clock.now_us()
        await store.note({CLOCK: b"%d" % now_us})
        removed = await self._walk()
        await store.prune(now_us, ROWS_A_TICK)
        if now_us >= self._scrubbed_us + self._quarter_us:
            self._scrubbed_us = now_us
            await store.scrub()
        return removed

    @property
    def rows_a_tick(self) -> int:
        """As many as bring the walk round in time, by what the last one counted; the first one hurries."""
        ticks = max(1, self._quarter_us // self._interval_us)
        return ROWS_A_TICK if self._rows is None else min(ROWS_A_TICK, max(LEAST_ROWS, self._rows // ticks + 1))

    async def _walk(self) -> int:
        left, removed = self.rows_a_tick, 0
        while left > 0:
            piece = await self._tools.store.patrol(self._resume, min(left, ROWS_A_STEP))
            removed += await self._remove(piece.found)
            left -= max(1, len(piece.found))
            self._seen += len(piece.found)
            self._resume = piece.resume
            if piece.resume is None:
                now_us = self._tools.clock.now_us()
                self.walk_s, self._walk_began_us = (now_us - self._walk_began_us) / SECOND, now_us
                self._rows, self._seen = self._seen, 0
                break
            await asyncio.sleep(0)
        return removed

    async def _remove(self, found: list[Stored]) -> int:
        now_us = self._tools.clock.now_us()
        over: dict[str, list[str]] = {}
        for stored in found:
            session = stored.session
            if session is None:
                continue
            realm = self._tools.realms.get(session.realm)
            if realm is None or not realm.judge(stored, now_us).live:
                over.setdefault(session.realm, []).append(session.handle)
                self._tools.events.record("session_swept", session.realm, handle=session.handle)
        for name, handles in over.items():
            await self._tools.store.remove(name, handles)
        return sum(map(len, over.values()))
