"""What other servers of the same store changed reaches this one: realms, their policies and epochs, by asking again;
and what other data centres revoked, by hearing them.

Asked several times in the shortest bound that a realm has; where the store does not answer for longer than a realm's
bound, the realm refuses by itself (`domain/realms.py`), and so it does where another data centre is not heard
(`domain/origins.py`).
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from libs.clock.clock import Clock
from libs.errors.errors import Unavailable
from libs.telemetry.logs import fields
from services.session.domain.hot import Following
from services.session.domain.realms import Realms
from services.session.domain.tools import Events
from services.session.store.origins_interface import Origins

log = logging.getLogger(__name__)

_MOST_S: Final = 1.0
_TIMES: Final = 5
"""In the shortest bound, so that one answer that is late or lost does no harm."""


class Refresher:
    """Of one server. Where there are other data centres, it says each time how far revocations have gone here."""

    def __init__(
        self, realms: Realms, clock: Clock, origins: Origins | None = None, following: Following | None = None
    ) -> None:
        self._realms = realms
        self._clock = clock
        self._origins = origins
        self._following = following

    async def run(self) -> None:
        """Refreshes for ever. While the store is away it goes on asking."""
        await _asking(self._realms, self._clock, self.tick, "realms cannot be refreshed")

    async def tick(self) -> None:
        """Once. Raises Unavailable."""
        # Of before what is read: whatever was revoked until then is in it.
        at_us = self._realms.now_us()
        await self._realms.refresh()
        if self._origins is not None:
            await self._origins.beat(at_us, self._realms.names())
            self._realms.listening.shut(await self._origins.fences())
        if self._following is not None:
            await self._following.follow(at_us, self._realms.names())


class Listener:
    """Hears one other data centre, for one server."""

    def __init__(
        self,
        realms: Realms,
        clock: Clock,
        origins: Origins,
        origin: str,
        events: Events,
        following: Following | None = None,
    ) -> None:
        self._following = following
        self._realms = realms
        self._clock = clock
        self._origins = origins
        self._origin = origin
        self._events = events

    async def run(self) -> None:
        """Listens for ever."""
        await _asking(self._realms, self._clock, self.tick, f"{self._origin} cannot be heard")

    async def tick(self) -> None:
        """Once. Raises Unavailable."""
        heard = await self._origins.hear(self._origin)
        if heard is None:
            return
        # Epochs of realms count from memory, and so do names: what was heard is whole when they are there, too.
        at_us = self._realms.now_us()
        await self._realms.refresh()
        if self._following is not None:
            await self._following.follow(at_us, self._realms.names())
        listening = self._realms.listening
        was_apart = self._origin in listening.apart
        listening.take(heard, self._realms.now_us())
        if self._origin in listening.apart and not was_apart:
            log.error("the clock of another data centre is ahead of ours", extra=fields(datacentre=self._origin))
            self._events.record("clocks_apart", "", datacentre=self._origin)


async def _asking(realms: Realms, clock: Clock, tick: Callable[[], Awaitable[None]], trouble: str) -> None:
    failed = False
    while True:
        try:
            await tick()
            failed = False
        except Unavailable as error:
            if not failed:
                log.warning(trouble, extra=fields(reason=error.reason))
            failed = True
        await clock.sleep(interval_s(realms))


def interval_s(realms: Realms) -> float:
    """Seconds between two times of asking."""
    bounds = [realm.policy.revocation_bound_us for realm in realms.everything()]
    return min([_MOST_S, *(bound_us / 1e6 / _TIMES for bound_us in bounds)])
