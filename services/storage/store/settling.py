"""Which records have writes that a crash could still take back, so that reads of them wait and others do not."""

from collections.abc import Awaitable, Collection, Iterable
from itertools import chain

from services.storage.store.kv import Kv


class Settling:
    """Numbers the batches in the order in which they are applied; the disk makes them durable in the same order.

    ``applied`` is the number of the last. Places are kept in two generations, and the older is let go as a whole when
    all of it is durable: nothing is done for a single place but to note it.
    """

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        self.applied = 0
        self._durable = 0
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}
        self._old_until = 0

    def mark(self, places: Iterable[bytes]) -> None:
        """Notes that a batch that touches ``places`` was applied just now."""
        if self._old_until <= self._durable:
            self._old, self._old_until, self._young = self._young, self.applied, {}
        self.applied += 1
        self._young.update(dict.fromkeys(places, self.applied))

    @property
    def settled(self) -> bool:
        """Whether all that was applied is durable."""
        return self._durable == self.applied

    async def wait(self, durable: Awaitable[None]) -> None:
        """Waits for the batch that was marked last, and with it for those before."""
        mine = self.applied
        await durable
        self.reached(mine)

    def reached(self, number: int) -> None:
        """Notes that the batch with that number is durable, and with it those before."""
        self._durable = max(self._durable, number)

    async def settle(self, places: Collection[bytes] | None = None) -> None:
        """Waits until what was read just now of ``places`` (None: of anything) is durable."""
        if self.settled:
            return
        if places is not None and not self._unsettled(places):
            return
        upto = self.applied
        await self._kv.durable()
        self.reached(upto)

    def _unsettled(self, places: Collection[bytes]) -> bool:
        """Whether a batch that is not durable touches one of them. A place that both generations have was touched
        later in the younger."""
        at = chain(map(self._young.get, places), map(self._old.get, places))
        return any(number is not None and number > self._durable for number in at)
