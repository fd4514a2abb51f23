"""The newest events of a partition, in memory: what all rules that keep up read, fetched and read as JSON once."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from services.propagation.rules.sources import Delivery

_OVERHEAD_BYTES: Final = 500
"""Of an event beside its text, about."""


class Tail:
    """Holds what follows position `first`, up to position `end`, in at most `room_bytes` (one event at least).

    A position is the offset of the message after: the position that is reached once an event is done.
    """

    def __init__(self, end: int, room_bytes: int) -> None:
        self.first = end
        self.end = end
        self._room_bytes = room_bytes
        self._held: list[Delivery] = []
        self._sizes: list[int] = []
        self._bytes = 0

    def add(self, delivery: Delivery, size_bytes: int) -> None:
        """Takes the next event in; the oldest ones go where there is no room."""
        self._held.append(delivery)
        self._sizes.append(size_bytes + _OVERHEAD_BYTES)
        self._bytes += size_bytes + _OVERHEAD_BYTES
        self.end = delivery.position
        if self._bytes > self._room_bytes:
            self._shorten()

    def ends_at(self, position: int) -> None:
        """There is nothing more up to this position: markers of transactions have positions, too."""
        self.end = max(self.end, position)

    def restart(self, position: int) -> None:
        """Forgets all, and goes on from this position."""
        self.first = self.end = position
        self._held, self._sizes, self._bytes = [], [], 0

    def after(self, position: int, limit: int) -> Sequence[Delivery]:
        """What follows the position, which is not before `first`."""
        start = bisect_right(self._held, position, key=lambda delivery: delivery.position)
        return self._held[start : start + limit]

    def _shorten(self) -> None:
        """Makes more room than is needed now, so that it is not made for each event."""
        gone, freed = 0, 0
        while gone < len(self._held) - 1 and self._bytes - freed > self._room_bytes * 3 // 4:
            freed += self._sizes[gone]
            gone += 1
        if gone:
            self.first = self._held[gone - 1].position
            del self._held[:gone], self._sizes[:gone]
            self._bytes -= freed
