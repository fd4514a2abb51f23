"""Renders anew what the store has lost or has otherwise: one root for a batch, the next when that one has ended.

So the work that repairs make is bounded by what the executors manage, and an operator sees each of them as a change,
which can be paused and cancelled like any other.
"""

import logging
from collections.abc import Callable, Sequence

from libs.clock.clock import Clock
from libs.telemetry.logs import fields
from services.propagation.auditor.ports import Engine

logger = logging.getLogger(__name__)

ROOT_PREFIX = "auditor/"
MAX_NAMES = 1_000
"""Of the 100,000 that a re-render may name: a batch that an operator can read, and that ends soon."""
LOOK_EVERY_S = 1.0


class Repairs:
    """Sends batches. `nonce` gives a text that is new each time; an earlier batch is waited for `wait_s` at most."""

    def __init__(
        self, engine: Engine, clock: Clock, nonce: Callable[[], str], *, enabled: bool = True, wait_s: float = 600.0
    ) -> None:
        self.enabled = enabled
        self._engine = engine
        self._clock = clock
        self._nonce = nonce
        self._wait_s = wait_s
        self._root = ""

    async def rerender(self, view: str, names: Sequence[str], reason: str) -> int:
        """How many pages are rendered anew: fewer than `names` when the earlier batch does not end, or when it is off.

        Raises the SDK's errors. What is left out is found again in the next turn.
        """
        if not self.enabled:
            return 0
        sent = 0
        for start in range(0, len(names), MAX_NAMES):
            if not await self.ready():
                logger.warning("a repair does not end; the rest waits for the next turn", extra=fields(root=self._root))
                break
            sent += await self._send(view, names[start : start + MAX_NAMES], reason)
        return sent

    async def ready(self) -> bool:
        """Whether a batch could be sent now, the earlier one having ended."""
        return self.enabled and await self.settled(self._wait_s)

    async def rerender_now(self, view: str, names: Sequence[str], reason: str) -> int:
        """As rerender, without waiting for an earlier batch."""
        if not self.enabled or not await self.settled(0.0):
            return 0
        return await self._send(view, names[:MAX_NAMES], reason)

    async def settled(self, wait_s: float) -> bool:
        """Whether the last batch has ended, now or within `wait_s`."""
        end_s = self._clock.monotonic() + wait_s
        while self._root and not await self._engine.finished(self._root):
            if self._clock.monotonic() >= end_s:
                return False
            await self._clock.sleep(LOOK_EVERY_S)
        self._root = ""
        return True

    async def _send(self, view: str, names: Sequence[str], reason: str) -> int:
        root = ROOT_PREFIX + self._nonce()
        pages = await self._engine.rerender(root, view, names, reason)
        self._root = root if pages else ""
        logger.info("repair begun", extra=fields(root=root, view=view, pages=pages, reason=reason))
        return pages
