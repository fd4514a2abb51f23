"""What other servers of the same store changed reaches this one: realms, their policies and epochs, by asking again.

Asked several times in the shortest bound that a realm has; where the store does not answer for longer than a realm's
bound, the realm refuses by itself (`domain/realms.py`).
"""

import logging
from typing import Final

from libs.clock.clock import Clock
from libs.errors.errors import Unavailable
from libs.telemetry.logs import fields
from services.session.domain.realms import Realms

log = logging.getLogger(__name__)

_MOST_S: Final = 1.0
_TIMES: Final = 5
"""In the shortest bound, so that one answer that is late or lost does no harm."""


class Refresher:
    """Of one server."""

    def __init__(self, realms: Realms, clock: Clock) -> None:
        self._realms = realms
        self._clock = clock
        self._failed = False

    async def run(self) -> None:
        """Refreshes for ever. While the store is away it goes on asking."""
        while True:
            try:
                await self._realms.refresh()
                self._failed = False
            except Unavailable as error:
                if not self._failed:
                    log.warning("realms cannot be refreshed", extra=fields(reason=error.reason))
                self._failed = True
            await self._clock.sleep(self.interval_s)

    @property
    def interval_s(self) -> float:
        """Seconds between two refreshes."""
        bounds = [realm.policy.revocation_bound_us for realm in self._realms.everything()]
        return min([_MOST_S, *(bound_us / 1e6 / _TIMES for bound_us in bounds)])
