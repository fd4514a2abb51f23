"""How late the event loop is: a renderer in Python that blocks it stops heartbeats and everybody's requests with it."""

import asyncio
import logging

from libs.telemetry.logs import fields

logger = logging.getLogger(__name__)

EVERY_S = 0.1
TOLD_FROM_S = 0.5
TOLD_EVERY_S = 10.0
"""One line for a spell of blocking, not one for each page."""


class LoopLag:
    """`worst_s` since the start, and how often the loop was blocked for `TOLD_FROM_S` or longer."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self.blocked = 0
        self._told_s = float("-inf")

    async def watch(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.saw(loop.time(), loop.time() - due_s)

    def saw(self, now_s: float, lag_s: float) -> None:
        """The loop came so much later than it was asked to."""
        self.worst_s = max(self.worst_s, lag_s)
        if lag_s < TOLD_FROM_S:
            return
        self.blocked += 1
        if now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            why = "a renderer that computes or waits without await"
            logger.warning("the event loop was blocked", extra=fields(for_s=round(lag_s, 2), likely=why))
