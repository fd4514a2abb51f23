"""Hints of the other servers that a realm changed: then the store is asked at once, and not when its turn comes.

A hint says nothing but that; what is true is the store's. One that is lost, late, sent twice or by a stranger costs a
look at the store at most, and no more than ten of them a second.
"""

import asyncio
from contextlib import aclosing, suppress
from typing import Final

from libs.clock.clock import Clock
from libs.errors.errors import Unavailable
from libs.redis.listening import messages
from libs.redis.options import Options
from services.session.domain.realms import Realms

_APART_S: Final = 0.1


class Hints:
    """Of one server."""

    def __init__(self, options: Options, channel: bytes, realms: Realms, clock: Clock) -> None:
        self._options = options
        self._channel = channel
        self._realms = realms
        self._clock = clock
        self._heard = asyncio.Event()
        self.listening = False
        """Whether it ever listened."""

    async def run(self) -> None:
        """Listens for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._look())

    async def _listen(self) -> None:
        async with aclosing(messages(self._options, self._channel, self._clock.sleep)) as heard:
            async for _ in heard:
                self.listening = True
                self._heard.set()

    async def _look(self) -> None:
        while True:
            await self._heard.wait()
            self._heard.clear()
            with suppress(Unavailable):  # the refresher goes on asking, and says so
                await self._realms.refresh()
            await self._clock.sleep(_APART_S)
