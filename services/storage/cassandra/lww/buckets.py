"""Where the items of a wide LWW record lie once it was spread.

Items *land* in the record's own partition, in the batch of their mutation, under a kind of row of their own. When the
record is spread, that kind is frozen and another one takes its place; once nobody can still write it, what is frozen is
copied into a *run*: partitions by key, each the items from its first key on. A run is never changed but for removals at
the times of its cells, and read as long as the note names it.

The note is a cell of the record's own row:

    stamp 8 · agreed 8 · landing 1 · (count 1 · kinds) frozen, leaving
    · (there 1 · name 16 · count 2 · (length 2 · key)…) the run, that which is built, that before
"""

import bisect
import struct
from typing import Final, NamedTuple

from services.storage.cassandra.partition import ITEMS

NOTE: Final = b"where its items are"
"""The note's name among the cells of the record's own row; those of range tombstones have 16 bytes."""
LAST_LANDING: Final = 127
_HEAD: Final = struct.Struct(">QQB")
_U16: Final = struct.Struct(">H")
_NAME: Final = 16


class Run(NamedTuple):
    """``starts``: the first key of each bucket, in order; that of the first is empty."""

    name: bytes
    starts: tuple[bytes, ...]

    def of(self, key: bytes) -> bytes:
        """The bucket of a key."""
        return self.starts[bisect.bisect_right(self.starts, key) - 1]

    def end(self, bucket: bytes) -> bytes | None:
        """The first key behind a bucket."""
        at = bisect.bisect_right(self.starts, bucket)
        return self.starts[at] if at < len(self.starts) else None

    def piece(self, start: bytes, end: bytes | None, *, reverse: bool) -> tuple[bytes, bytes, bytes | None]:
        """(bucket, the part of [start, end) in it): the first one's, in reverse the last one's."""
        if reverse:
            at = len(self.starts) if end is None else bisect.bisect_left(self.starts, end)
            bucket = self.starts[max(at - 1, 0)]
            return bucket, max(start, bucket), end
        bucket = self.of(start)
        high = self.end(bucket)
        return bucket, start, high if end is None or (high is not None and high < end) else end


class Note(NamedTuple):
    """``agreed_us``: since when all data centres have it; 0 while that is not known. ``landing``: the kind of rows
    where items are written. ``frozen``: kinds with items that are written no more. ``run``: where the others are.
    ``building``: what the frozen ones and those of ``run`` are being copied into. ``leaving``, ``before``: kinds and
    run that nothing is read of any more."""

    stamp: int
    agreed_us: int
    landing: int
    frozen: tuple[int, ...] = ()
    leaving: tuple[int, ...] = ()
    run: Run | None = None
    building: Run | None = None
    before: Run | None = None

    @property
    def kinds(self) -> tuple[int, ...]:
        """Of rows with items in the record's own partition."""
        return (self.landing, *self.frozen)

    @property
    def buckets(self) -> int:
        """Partitions that have items."""
        return len(self.run.starts) if self.run is not None else 1

    @property
    def runs(self) -> tuple[Run, ...]:
        """Those that may have a cell that is removed."""
        return tuple(one for one in (self.run, self.building) if one is not None)


def kinds_of(note: Note | None) -> tuple[int, ...]:
    """The kinds of rows with items in a record's own partition."""
    return (ITEMS,) if note is None else note.kinds


def landing_of(note: Note | None) -> int:
    """The kind of rows where items of a record are written."""
    return ITEMS if note is None else note.landing


def encode_note(note: Note) -> bytes:
    """The cell."""
    parts = [_HEAD.pack(note.stamp, note.agreed_us, note.landing)]
    parts += [bytes((len(kinds), *kinds)) for kinds in (note.frozen, note.leaving)]
    for run in (note.run, note.building, note.before):
        parts.append(bytes([run is not None]))
        if run is not None:
            parts.append(run.name + _U16.pack(len(run.starts)) + encode_starts(run))
    return b"".join(parts)


def decode_note(cell: bytes) -> Note:
    """What :func:`encode_note` made."""
    stamp, agreed_us, landing = _HEAD.unpack_from(cell)
    at = _HEAD.size
    kinds: list[tuple[int, ...]] = []
    for _ in range(2):
        kinds.append(tuple(cell[at + 1 : at + 1 + cell[at]]))
        at += 1 + cell[at]
    runs: list[Run | None] = []
    for _ in range(3):
        run, at = _run(cell, at)
        runs.append(run)
    return Note(stamp, agreed_us, landing, kinds[0], kinds[1], *runs)


def encode_starts(run: Run) -> bytes:
    """The first keys of a run's buckets."""
    return b"".join(_U16.pack(len(start)) + start for start in run.starts)


def decode_starts(name: bytes, value: bytes) -> Run:
    """What :func:`encode_starts` made."""
    at, starts = 0, []
    while at < len(value):
        start, at = _start(value, at)
        starts.append(start)
    return Run(name, tuple(starts))


def _run(cell: bytes, at: int) -> tuple[Run | None, int]:
    if not cell[at]:
        return None, at + 1
    name = cell[at + 1 : at + 1 + _NAME]
    (count,) = _U16.unpack_from(cell, at + 1 + _NAME)
    at += 1 + _NAME + _U16.size
    starts = []
    for _ in range(count):
        start, at = _start(cell, at)
        starts.append(start)
    return Run(name, tuple(starts)), at


def _start(value: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _U16.unpack_from(value, at)
    at += _U16.size
    return value[at : at + length], at + length
