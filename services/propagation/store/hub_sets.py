"""A part of a large set as bytes: at most 2^22 neighbouring numbers, so at most about 512 KiB.

Roaring where the numbers are dense enough for it, differences as varints where its containers would be mostly heads.
The first byte tells which.
"""

import numpy as np
from pyroaring import BitMap

from services.propagation.store import varints
from services.propagation.store.interface import Numbers
from services.propagation.store.numbers import group_starts, to_numbers, to_set

BITS = 22

_ROARING = b"r"
_VARINTS = b"v"
# A container of 65,536 takes about 8 bytes and 2 for each number; differences below 2^14 take 2, above 3.
_DENSE = 6


def encode(members: Numbers) -> bytes:
    """The bytes of ascending numbers, all in one part."""
    if len(members) >= _DENSE * len(group_starts(members >> 16)):
        return _roaring(to_set(members))
    steps = np.diff(members, prepend=np.uint32(0)).astype(np.uint64)
    return _VARINTS + varints.encode(steps)[0].tobytes()


def encode_set(members: BitMap) -> bytes:
    """The bytes of a set within one part; the set may be packed tighter by it."""
    if len(members) >= _DENSE << (BITS - 16):
        return _roaring(members)
    return encode(to_numbers(members))


def _roaring(members: BitMap) -> bytes:
    members.run_optimize()
    return _ROARING + bytes(members.serialize())


def decode(value: bytes) -> BitMap:
    """The set. The caller owns it."""
    if value[:1] == _ROARING:
        return BitMap.deserialize(value[1:])
    return to_set(np.cumsum(varints.decode(np.frombuffer(value, np.uint8, offset=1))[0]).astype(np.uint32))
