"""Columns: fixed-width values by number, kept in blocks that are read, changed and written as a whole.

Reads and writes take whole batches: one lookup a block, then one numpy gather or scatter. A value never set is zero.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from libs.embedded.family import Family
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_layout import u32
from services.propagation.store.interface import Numbers
from services.propagation.store.numbers import group_starts

Values = npt.NDArray[Any]


class Column:
    """One column: its values have numpy's `dtype`, its blocks 2 ** `bits` of them, its keys begin with `prefix`."""

    def __init__(self, family: Family, prefix: bytes, dtype: npt.DTypeLike, bits: int = 7) -> None:
        self._family = family
        self._prefix = prefix
        self._dtype = np.dtype(dtype)
        self._bits = bits
        self._empty = bytes(self._dtype.itemsize << bits)

    def gather(self, numbers: Numbers, draft: Draft | None = None) -> Values:
        """The values of `numbers`, in any order."""
        keys, places = self._locate(numbers)
        values = draft.get_many(self._family, keys) if draft else self._family.get_many(keys)
        empty = self._empty
        return np.frombuffer(b"".join([value or empty for value in values]), self._dtype)[places]

    def scatter(self, draft: Draft, numbers: Numbers, values: Any) -> None:
        """Sets the values of `numbers`: one for all, or an array of as many."""
        if not len(numbers):
            return
        keys, places = self._locate(numbers)
        empty = self._empty
        held = bytearray(b"".join([value or empty for value in draft.get_many(self._family, keys)]))
        np.frombuffer(held, self._dtype)[places] = values
        size, raw = len(empty), bytes(held)
        draft.put_many(self._family, [(key, raw[at * size : at * size + size]) for at, key in enumerate(keys)])

    def blocks(self, first: int = 0, last: int = (1 << 32) - 1) -> Iterator[tuple[int, Values]]:
        """(first number, values) of each block that holds any of the numbers from `first` to `last`."""
        start, end = self._prefix + u32(first >> self._bits), self._prefix + u32(last >> self._bits) + b"\0"
        for key, value in self._family.scan(start=start, end=end):
            yield int.from_bytes(key[-4:], "big") << self._bits, np.frombuffer(value, self._dtype)

    def _locate(self, numbers: Numbers) -> tuple[list[bytes], npt.NDArray[np.int64]]:
        blocks = numbers >> self._bits
        within = (numbers & ((1 << self._bits) - 1)).astype(np.int64)
        if len(blocks) > 1 and bool((blocks[1:] < blocks[:-1]).any()):
            ordered = np.sort(blocks)
            distinct = ordered[group_starts(ordered)]
            rank = np.searchsorted(distinct, blocks)
        else:
            starts = group_starts(blocks)
            distinct = blocks[starts]
            rank = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(blocks)))
        raw, prefix = distinct.astype(">u4").tobytes(), self._prefix
        return [prefix + raw[at : at + 4] for at in range(0, len(raw), 4)], (rank << self._bits) + within
