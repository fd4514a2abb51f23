"""A stable share of the events of a rule: those whose key falls into the lower part of a hash's range.

The hash is MurmurHash3 (32 bits, seed 0) of the key's UTF-8 bytes, taken as a signed number: the order in which rule
files of the change-propagation kind first chose their shares.
"""

_MASK = 0xFFFFFFFF
_SIGN = 0x80000000
_C1 = 0xCC9E2D51
_C2 = 0x1B873593
LOWEST_RATE = 0.01


def murmur3_32(data: bytes, seed: int = 0) -> int:
    """MurmurHash3_x86_32 as its author published it: github.com/aappleby/smhasher."""
    state = seed
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        state ^= _scrambled(int.from_bytes(data[at : at + 4], "little"))
        state = _rotated(state, 13)
        state = (state * 5 + 0xE6546B64) & _MASK
    if whole < len(data):
        state ^= _scrambled(int.from_bytes(data[whole:], "little"))
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & _MASK
    state = (state ^ state >> 13) * 0xC2B2AE35 & _MASK
    return state ^ state >> 16


def in_sample(key: str, rate: float) -> bool:
    """Whether the event of this key is in the share `rate` (0.01 to 1) of all keys."""
    return murmur3_32(key.encode()) ^ _SIGN < rate * (1 << 32)


def _scrambled(block: int) -> int:
    return _rotated(block * _C1 & _MASK, 15) * _C2 & _MASK


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> (32 - by)) & _MASK
