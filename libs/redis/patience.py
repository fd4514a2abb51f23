"""A time limit that does not mistake this process's own lateness for another's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_LOOK_AGAIN_S: Final = 0.005


@asynccontextmanager
async def within(limit_s: float, look_again_s: float = _LOOK_AGAIN_S) -> AsyncIterator[None]:
    """Raises TimeoutError when the block takes longer than ``limit_s``.

    When the limit is over the loop gets some more turns, ``look_again_s``, before the block is given up: an answer that
    came while the loop was busy with something else lies in the socket, and counts.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        timer = loop.call_later(limit_s, lambda: scope.reschedule(loop.time() + look_again_s))
        try:
            yield
        finally:
            timer.cancel()
