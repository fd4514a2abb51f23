"""Which records have writes that a crash could still take back, so that reads of them wait and others do not."""

from collections.abc import Awaitable, Iterable
from typing import Final

from services.storage.store.kv import Kv

_MANY: Final = 65_536


class Settling:
    """Numbers the batches in the order in which they are applied; the disk makes them durable in the same order."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        self._applied = 0
        self._durable = 0
        self._unsettled: dict[bytes, int] = {}

    def mark(self, places: Iterable[bytes]) -> None:
        """Notes that a batch that touches ``places`` was applied just now."""
        self._applied += 1
        if len(self._unsettled) > _MANY:
            self._unsettled = {place: at for place, at in self._unsettled.items() if at > self._durable}
        self._unsettled.update(dict.fromkeys(places, self._applied))

    async def wait(self, durable: Awaitable[None], places: Iterable[bytes]) -> None:
        """Waits for the batch that was marked last, and with it for those before."""
        mine = self._applied
        await durable
        self._durable = max(self._durable, mine)
        unsettled = self._unsettled
        for place in places:
            if unsettled.get(place, mine + 1) <= mine:
                del unsettled[place]

    async def settle(self, places: Iterable[bytes] | None = None) -> None:
        """Waits until what was read just now of ``places`` (None: of anything) is durable."""
        if self._durable == self._applied:
            return
        if places is not None and all(self._unsettled.get(place, 0) <= self._durable for place in places):
            return
        upto = self._applied
        await self._kv.durable()
        self._durable = max(self._durable, upto)
