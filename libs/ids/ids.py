"""Identifiers: request ids, nonces and 16-byte versions. Randomness and clock are passed in, so that a simulation
repeats them.
"""

import os
import struct
import uuid
from collections.abc import Callable

from libs.clock.clock import Clock, MonotoneMicros

RandomBytes = Callable[[int], bytes]
"""Gives as many random bytes as asked for: ``os.urandom``, or ``random.Random(seed).randbytes`` in a simulation."""

NONCE_BYTES = 16
VERSION_BYTES = 16

_VERSION = struct.Struct(">QQ")
_MAX = (1 << 64) - 1


def request_id(clock: Clock, random_bytes: RandomBytes = os.urandom) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7) in its usual text form: unique, and sorting by the millisecond of its
    birth.
    """
    random = int.from_bytes(random_bytes(10), "big")
    value = (clock.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | random
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


def nonce(random_bytes: RandomBytes = os.urandom) -> bytes:
    """128 random bits, as bytes."""
    return random_bytes(NONCE_BYTES)


def pack_version(high: int, low: int) -> bytes:
    """The version (high, low): both as 8 bytes, most significant first, so that versions compare bytewise as the pairs
    do.

    ``high`` is a time in microseconds, a revision number or an epoch; ``low`` tells apart what shares it. Raises
    ValueError outside 0 to 2^64 - 1.
    """
    if not (0 <= high <= _MAX and 0 <= low <= _MAX):
        raise ValueError(f"a version has two numbers of 64 bits: got {high} and {low}")
    return _VERSION.pack(high, low)


def unpack_version(version: bytes) -> tuple[int, int]:
    """The pair of :func:`pack_version`. Raises ValueError for another length than 16 bytes."""
    if len(version) != VERSION_BYTES:
        raise ValueError(f"a version has {VERSION_BYTES} bytes: got {len(version)}")
    high, low = _VERSION.unpack(version)
    return high, low


class Versions:
    """Versions of one process: strictly ascending, unique among processes by 64 random bits below the microsecond."""

    def __init__(self, micros: MonotoneMicros, random_bytes: RandomBytes = os.urandom) -> None:
        self._micros = micros
        self._random_bytes = random_bytes

    def next(self) -> bytes:
        """A version greater than all that this object gave, 16 bytes."""
        return pack_version(self._micros.next(), int.from_bytes(self._random_bytes(8), "big"))

    def after(self, version: bytes) -> bytes:
        """A version greater than all given and than ``version``. Raises ValueError when ``version`` is not 16 bytes."""
        self._micros.observe(unpack_version(version)[0])
        return self.next()
