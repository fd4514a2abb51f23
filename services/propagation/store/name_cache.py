"""A bounded cache of the numbers of names, asked for thousands of names at once: one numpy pass, 16 bytes a name.

A name is known by 96 bits: Python's hash of it, which is keyed by a secret of the process (PEP 456), and its CRC-32.
That two of a thousand million names share all of them has a chance of one in 10^11. What the cache does not know is
looked up on disk, so it may forget anything.

Eight names share a bucket, a line of the processor's cache. There is room for three times the names, until
the bound is reached; buckets are added a few at a time, by linear hashing (Litwin 1980), so that no call has to wait
for all names to be moved. In a full bucket a newer name takes the place of another.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.propagation.store.interface import Numbers
from services.propagation.store.numbers import group_starts

Tags = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

_WAYS = 8
_BUCKET_BYTES = 16 * _WAYS
# Places for each name: with fewer, crowded buckets lose names while others are empty.
_ROOM = 3
_FIRST = 64
_AT_ONCE = 512
_EMPTY = np.uint64(0)


class NameCache:
    """Numbers by name; at most `most_bytes` of memory, and no more than three times what the names take."""

    def __init__(self, most_bytes: int) -> None:
        self._most = max(_FIRST, most_bytes // _BUCKET_BYTES)
        # All that it may ever use; the system gives pages only as they are first written.
        self._tags = np.zeros((self._most, _WAYS), np.uint64)
        self._checks = np.zeros(self._most * _WAYS, np.uint32)
        self._numbers = np.zeros(self._most * _WAYS, np.uint32)
        # Buckets in use: from the `level`-th power of two up to the next one, those above it split off from below.
        self._buckets = _FIRST
        self._level = _FIRST.bit_length() - 1
        self._held = 0
        self._turn = 0
        # Put lately, to be taken in together: a pass for a few names costs as much as one for hundreds.
        self._newest: dict[bytes, int] = {}

    def __len__(self) -> int:
        return self._held + len(self._newest)

    def find(self, names: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Numbers in order, -1 for those not kept."""
        tags, checks = _prints(names)
        buckets = self._buckets_of(tags)
        places = buckets * _WAYS + (self._tags[buckets] == tags[:, np.newaxis]).argmax(axis=1)
        known = (self._tags.reshape(-1)[places] == tags) & (self._checks[places] == checks)
        found = np.where(known, self._numbers[places].astype(np.int64), -1)
        if self._newest:
            newest = self._newest
            missing = (~known).nonzero()[0].tolist()
            found[missing] = [newest.get(names[at], -1) for at in missing]
        return found

    def put(self, numbers: dict[bytes, int]) -> None:
        """Keeps the numbers of names that `find` did not know."""
        self._newest.update(numbers)
        if len(self._newest) >= _AT_ONCE:
            newest, self._newest = self._newest, {}
            self._take_in(list(newest), np.fromiter(newest.values(), np.uint32, len(newest)))

    def _take_in(self, names: Sequence[bytes], numbers: Numbers) -> None:
        self._grow(len(names))
        tags, checks = _prints(names)
        buckets = self._buckets_of(tags)
        order = np.argsort(buckets, kind="stable")
        tags, checks, buckets = tags[order], checks[order], buckets[order]
        starts = group_starts(buckets)
        rank = np.arange(len(buckets)) - np.repeat(starts, np.diff(starts, append=len(buckets)))
        empty = self._tags[buckets] == _EMPTY
        free = empty.sum(axis=1)
        in_order = np.argsort(~empty, axis=1, kind="stable")
        self._turn += 1
        ways = np.where(
            rank < free, in_order[np.arange(len(rank)), rank & (_WAYS - 1)], (rank + self._turn) & (_WAYS - 1)
        )
        places = buckets * _WAYS + ways
        # Where two take one place, the later one has it in all three.
        self._tags.reshape(-1)[places] = tags
        self._checks[places] = checks
        self._numbers[places] = numbers[order]
        self._held += int((rank < free).sum())

    def _buckets_of(self, tags: Tags) -> Places:
        wide = (tags & np.uint64((2 << self._level) - 1)).astype(np.int64)
        return np.where(wide < self._buckets, wide, wide & ((1 << self._level) - 1))

    def _grow(self, more: int) -> None:
        """Splits as many buckets as so many more names need."""
        wanted = min(self._most, _ROOM * (self._held + more) // _WAYS)
        while self._buckets < wanted:
            half = 1 << self._level
            new = slice(self._buckets, min(wanted, 2 * half))
            old = slice(new.start - half, new.stop - half)
            moves = (self._tags[old] >> np.uint64(self._level)) & np.uint64(1) == 1
            for column in (self._checks, self._numbers):
                rows = column.reshape(-1, _WAYS)
                rows[new] = rows[old]
            self._tags[new] = np.where(moves, self._tags[old], _EMPTY)
            self._tags[old] = np.where(moves, _EMPTY, self._tags[old])
            self._buckets = new.stop
            if self._buckets == 2 * half:
                self._level += 1


def _prints(names: Sequence[bytes]) -> tuple[Tags, Numbers]:
    tags = np.fromiter(map(hash, names), np.int64, len(names)).view(np.uint64)
    tags[tags == _EMPTY] = 1
    return tags, np.fromiter(map(zlib.crc32, names), np.uint32, len(names))
