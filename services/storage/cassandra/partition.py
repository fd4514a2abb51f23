"""What has been read of the store for one step of work: records' partitions in pieces, and what is still missing.

A piece that is asked for and was not read raises :class:`NotLoaded`; the step is then read further and run anew.
"""

import bisect
import dataclasses
from collections.abc import Iterator
from typing import Final, NamedTuple

HEAD: Final = 0
ITEMS: Final = 1
TOMBS: Final = 2
HISTORY: Final = 3
TOKENS: Final = 4
FIRST_LANDING: Final = 16
"""From this kind on: rows with items of an LWW record that was spread."""

Place = tuple[int, bytes]
"""A namespace's number and a record's key: one partition."""


class Rows(NamedTuple):
    """Single rows of a partition, by kind and key."""

    place: Place
    rows: tuple[tuple[int, bytes], ...]


class Range(NamedTuple):
    """The rows of one kind in [start, end), at least the first few from the side where the reading begins."""

    place: Place
    kind: int
    start: bytes
    end: bytes | None
    reverse: bool


class Index(NamedTuple):
    """The keys of a namespace's records from ``start`` on; ``heads``: with the heads of these records."""

    number: int
    start: bytes
    end: bytes | None
    heads: bool


class Samples(NamedTuple):
    """The sampled record keys of a namespace."""

    number: int


class FeedRow(NamedTuple):
    """One change of the feed."""

    number: int
    lane: int
    sequence: int


class ChunkNumbers(NamedTuple):
    """Which chunks an upload has."""

    number: int
    upload: bytes


class Chunk(NamedTuple):
    """One chunk; the number of the mark of a finished upload is 0xFFFFFFFF."""

    number: int
    upload: bytes
    place: int


Need = Rows | Range | Index | Samples | FeedRow | ChunkNumbers | Chunk


class NotLoaded(Exception):
    """A piece that was not read; ``need`` says which."""

    def __init__(self, need: Need) -> None:
        super().__init__(type(need).__name__)
        self.need = need


class Span:
    """Rows of one kind in key order: those known, and the intervals in which all are known."""

    __slots__ = ("absent", "covered", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.absent: set[bytes] = set()
        self.covered: list[tuple[bytes, bytes | None]] = []

    def fork(self) -> "Span":
        """A copy to be changed."""
        copy = Span.__new__(Span)
        copy.rows, copy.absent, copy.covered = dict(self.rows), set(self.absent), self.covered
        return copy

    def cover(self, start: bytes, end: bytes | None) -> None:
        """All rows in [start, end) are known from now on."""
        merged: list[tuple[bytes, bytes | None]] = []
        for low, high in sorted([*self.covered, (start, end)], key=lambda one: one[0]):
            if merged and (merged[-1][1] is None or low <= merged[-1][1]):
                before, upto = merged[-1]
                merged[-1] = (before, None if upto is None or high is None else max(upto, high))
            else:
                merged.append((low, high))
        self.covered = merged

    def known(self, key: bytes) -> bool:
        """Whether it is known if there is a row at ``key``."""
        return key in self.rows or key in self.absent or self._around(key) is not None

    def put(self, key: bytes, value: bytes | None) -> None:
        """Sets a row; None: there is none."""
        if value is None:
            self.rows.pop(key, None)
            self.absent.add(key)
        else:
            self.rows[key] = value
            self.absent.discard(key)

    def scan(self, start: bytes, end: bytes | None, reverse: bool) -> "Iterator[bytes | Missing]":
        """The keys in [start, end) in order; ends with a ``Missing`` where what is known ends."""
        keys = sorted(self.rows)
        while end is None or start < end:
            found = self._before(end) if reverse else self._around(start)
            if found is None:
                yield Missing(start, end)
                return
            low, high = found
            if reverse:
                low = max(low, start)
                first, last = bisect.bisect_left(keys, low), _index(keys, end)
                yield from keys[first:last][::-1]
                if low == start:
                    return
                end = low
            else:
                high = end if high is None or (end is not None and end < high) else high
                yield from keys[bisect.bisect_left(keys, start) : _index(keys, high)]
                if high == end or high is None:
                    return
                start = high

    def _around(self, key: bytes) -> tuple[bytes, bytes | None] | None:
        at = bisect.bisect_right(self.covered, key, key=lambda one: one[0]) - 1
        if at < 0:
            return None
        found = self.covered[at]
        return found if found[1] is None or key < found[1] else None

    def _before(self, end: bytes | None) -> tuple[bytes, bytes | None] | None:
        """The interval that holds what comes right before ``end``."""
        if not self.covered:
            return None
        if end is None:
            return self.covered[-1] if self.covered[-1][1] is None else None
        at = bisect.bisect_left(self.covered, end, key=lambda one: one[0]) - 1
        if at < 0:
            return None
        found = self.covered[at]
        return found if found[1] is None or end <= found[1] else None


class Missing(NamedTuple):
    """Where the known part of a scan ends: what is left of its range."""

    start: bytes
    end: bytes | None


def _index(keys: list[bytes], end: bytes | None) -> int:
    return len(keys) if end is None else bisect.bisect_left(keys, end)


class Spans(dict[int, Span]):
    """The spans of a partition by kind, each made when it is first asked for."""

    def __missing__(self, kind: int) -> Span:
        found = self[kind] = Span()
        return found


class Partition:
    """What is known of a record's partition. ``rev`` names its state; ``lanes`` the lane of each remembered change."""

    __slots__ = ("head", "lanes", "loaded", "outbox", "own", "rev", "spans")

    def __init__(self) -> None:
        self.loaded = False
        self.head: bytes | None = None
        self.rev: bytes | None = None
        self.outbox: bytes | None = None
        self.spans = Spans()
        self.lanes: dict[int, int] = {}
        self.own: tuple[int, ...] = ()  # kinds whose spans are this copy's

    def fork(self) -> "Partition":
        """A copy to be changed: its head as one likes, its spans by :meth:`span`."""
        copy = Partition.__new__(Partition)
        copy.loaded, copy.head, copy.rev, copy.outbox = self.loaded, self.head, self.rev, self.outbox
        copy.lanes, copy.spans, copy.own = self.lanes, self.spans, ()
        return copy

    def span(self, kind: int) -> Span:
        """The rows of one kind, to be changed: most steps change few of what they read."""
        if kind not in self.own:
            self.spans = Spans({**self.spans, kind: self.spans[kind].fork()})
            self.own = (*self.own, kind)
        return self.spans[kind]


@dataclasses.dataclass(slots=True)
class Loaded:
    """All that was read for one step of work. ``most_heads``: records that it will want to see, at most."""

    most_heads: int = 64
    partitions: dict[Place, Partition] = dataclasses.field(default_factory=dict)
    index: dict[int, Span] = dataclasses.field(default_factory=dict)
    samples: dict[int, list[bytes]] = dataclasses.field(default_factory=dict)
    feed: dict[tuple[int, int], bytes | None] = dataclasses.field(default_factory=dict)
    chunk_numbers: dict[tuple[int, bytes], list[int]] = dataclasses.field(default_factory=dict)
    chunks: dict[tuple[int, bytes, int], bytes | None] = dataclasses.field(default_factory=dict)

    def partition(self, place: Place) -> Partition:
        """The partition, empty as long as nothing of it was read."""
        found = self.partitions.get(place)
        if found is None:
            found = self.partitions[place] = Partition()
        return found
