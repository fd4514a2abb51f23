"""A set of very many names in little memory, for which "no" is certain and "yes" is not.

Bloom's filter, some of them behind each other, each twice as large as the one before: 16 bits for a name of which four
are set, so that of names that were never put in one in 400 is taken for one that was (and as many for each filter
more, of which there are eight for ten million names).
"""

from collections.abc import Hashable
from typing import Final

_BITS_A_NAME: Final = 16
_SET: Final = 4
_FIRST: Final = 1 << 16
"""Names in the first filter: 128 KiB."""
_LOW: Final = (1 << 32) - 1


class Names:
    """Names are hashed as Python does: with a key of the process, so that nobody outside chooses collisions."""

    def __init__(self) -> None:
        self._filters = [bytearray(_FIRST * _BITS_A_NAME // 8)]
        self._room = _FIRST

    def __contains__(self, name: Hashable) -> bool:
        value = hash(name)
        first, step = value & _LOW, (value >> 32) | 1
        return any(_has(bits, first, step) for bits in self._filters)

    def add(self, name: Hashable) -> None:
        """Puts one in; twice is once."""
        if name in self:
            return
        if not self._room:
            bits = bytearray(2 * len(self._filters[-1]))
            self._filters.append(bits)
            self._room = len(bits) * 8 // _BITS_A_NAME
        self._room -= 1
        bits, value = self._filters[-1], hash(name)
        mask, at, step = len(bits) * 8 - 1, value & _LOW, (value >> 32) | 1
        for _ in range(_SET):
            place = at & mask
            bits[place >> 3] |= 1 << (place & 7)
            at += step


def _has(bits: bytearray, at: int, step: int) -> bool:
    mask = len(bits) * 8 - 1
    for _ in range(_SET):
        place = at & mask
        if not bits[place >> 3] >> (place & 7) & 1:
            return False
        at += step
    return True
