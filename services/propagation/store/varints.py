"""Unsigned numbers in 7 bits a byte, the last byte below 128: whole arrays at once. Numbers are below 2^35."""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

_LONGEST = 5


def encode(values: npt.NDArray[np.uint64]) -> tuple[Bytes, Places]:
    """(bytes, ends): where the bytes of each number end."""
    if not len(values) or int(values.max()) < 128:
        return values.astype(np.uint8), np.arange(1, len(values) + 1)
    lengths = np.ones(len(values), np.int64)
    for more in range(1, _LONGEST):
        lengths += values >= np.uint64(1 << (7 * more))
    ends = np.cumsum(lengths)
    starts = ends - lengths
    packed = np.empty(int(ends[-1]), np.uint8)
    packed[starts] = (values & np.uint64(127)) | (np.uint64(128) * (lengths > 1))
    for place in range(1, _LONGEST):
        here = (lengths > place).nonzero()[0]
        if not len(here):
            break
        digit = (values[here] >> np.uint64(7 * place)) & np.uint64(127)
        packed[starts[here] + place] = digit | (np.uint64(128) * (lengths[here] > place + 1))
    return packed, ends


def decode(packed: Bytes) -> tuple[npt.NDArray[np.uint64], Places]:
    """(numbers, ends). Bytes behind the last complete number are not read."""
    last = packed < 128
    if last.all():
        return packed.astype(np.uint64), np.arange(1, len(packed) + 1)
    ends = last.nonzero()[0] + 1
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1]
    lengths = ends - starts
    values = (packed[starts] & 127).astype(np.uint64)
    for place in range(1, int(lengths.max())):
        here = (lengths > place).nonzero()[0]
        digit = (packed[starts[here] + place] & 127).astype(np.uint64)
        values[here] |= digit << np.uint64(7 * place)
    return values, ends
