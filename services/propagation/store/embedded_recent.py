"""Edges that came or went lately: in memory, sorted, and on disk as one record a commit; later spilled by input.

A commit of a few thousand edges touches thousands of inputs. Its toggles (embedded_arrivals.py) are therefore written
as they are, one record, and kept in memory for reads. When a million have gathered, or in an idle moment, they are
spilled: in slices by ascending input, each one write, they become arrivals of their inputs, in records a hundred times
as large. How far a spill has come is written with each slice, so that a restart counts every toggle once.

Runs are merged sixteen to one while that is quick, so that a read looks into a few dozen, a hundred at most.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from libs.embedded.family import Family
from services.propagation.store import embedded_arrivals as arrivals
from services.propagation.store.edges import Keys
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_layout import MOST_INPUTS, u16, u32, u64
from services.propagation.store.interface import Numbers

LOG = b"a"
LARGE = 16_384
"""A commit with so many edges of one view may have arrivals of its own at once, where these are not small."""

_DUE = 1 << 20
_MOST = 4 << 20
# A slice holds the event loop for a millisecond or two, and so does a merge.
_SLICE = 4_096
_WAYS = 16
_MERGED = 1 << 17
_MARK = b"spilled"
_SHIFT = np.uint64(32)
_EVERY_INPUT = MOST_INPUTS


class Runs:
    """Sorted toggles of one view, in runs of a few sizes."""

    def __init__(self) -> None:
        self._levels: list[list[Keys]] = [[]]
        self.size = 0

    def add(self, run: Keys) -> None:
        """Takes in a sorted run."""
        self.size += len(run)
        self._levels[0].append(run)
        for level, runs in enumerate(self._levels):
            if len(runs) < _WAYS or sum(map(len, runs)) > _MERGED:
                return
            merged = np.concatenate(runs)
            merged.sort()
            runs.clear()
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(merged)

    def __iter__(self) -> Iterator[Keys]:
        return (run for runs in self._levels for run in runs)

    def between(self, first: int, end: int) -> Keys:
        """What the inputs first..end - 1 have, ascending."""
        found = []
        for run in self:
            low, high = np.searchsorted(run, np.array([first, end], np.uint64) << _SHIFT).tolist()
            if low < high:
                found.append(run[low:high])
        keys = np.concatenate(found) if found else np.empty(0, np.uint64)
        keys.sort()
        return keys

    def of_many(self, inputs: Numbers) -> Iterator[Keys]:
        """What ascending inputs have, from each run that has any of it."""
        lows, highs = inputs.astype(np.uint64) << _SHIFT, (inputs.astype(np.uint64) + np.uint64(1)) << _SHIFT
        for run in self:
            starts = np.searchsorted(run, lows)
            counts = np.searchsorted(run, highs) - starts
            ends = np.cumsum(counts)
            if len(ends) and ends[-1]:
                yield run[np.arange(int(ends[-1])) + np.repeat(starts - (ends - counts), counts)]

    def bound(self, first: int, edges: int) -> int:
        """An input so far above `first` that about `edges` toggles lie before it, at least one input."""
        longest = max(self, key=len)
        step = max(1, edges * len(longest) // max(1, self.size))
        at = int(np.searchsorted(longest, np.uint64(first) << _SHIFT)) + step
        return max(first + 1, int(longest[at] >> _SHIFT)) if at < len(longest) else _EVERY_INPUT


@dataclass(slots=True)
class _Spill:
    """What is being spilled: commits up to `last`, with their records, done below the input `bound`."""

    last: int
    bound: int
    views: dict[int, Runs]
    records: list[bytes]


class Recent:
    """The recent toggles of one store. `draft` and `slice` fill writes; `written` and `sliced` tell that they did."""

    def __init__(self, meta: Family, family: Family) -> None:
        self._meta = meta
        self._family = family
        self._views: dict[int, Runs] = {}
        # Keys of the records on disk, which go when all of them is spilled: known, because a scan reads their values.
        self._records: list[bytes] = []
        self._last = 0
        self._spill: _Spill | None = None
        self._load()

    @property
    def edges(self) -> int:
        """Toggles that wait."""
        return sum(runs.size for _, runs, _ in self._by_view())

    @property
    def due(self) -> bool:
        """Whether to go on spilling, or to begin."""
        return self._spill is not None or sum(runs.size for runs in self._views.values()) >= _DUE

    @property
    def overdue(self) -> bool:
        """Whether memory is at its bound: nothing more may come in before some is spilled."""
        return self.edges >= _MOST

    # -- what commits bring -------------------------------------------------------------------------------------------

    def draft(self, draft: Draft, view: int, commit: int, toggles: Keys) -> None:
        """Puts sorted toggles into a write."""
        draft.put(self._family, _record(view, commit), toggles.astype("<u8").tobytes())

    def written(self, view: int, commit: int, toggles: Keys) -> None:
        """The write with these toggles was applied."""
        self._views.setdefault(view, Runs()).add(toggles)
        self._records.append(_record(view, commit))
        self._last = max(self._last, commit)

    # -- reads --------------------------------------------------------------------------------------------------------

    def of(self, input_number: int) -> Iterator[tuple[int, Numbers]]:
        """(view, dependents toggled) for one input, ascending."""
        for view, runs, bound in self._by_view():
            if input_number >= bound:
                keys = arrivals.odd(runs.between(input_number, input_number + 1))
                if len(keys):
                    yield view, keys.astype(np.uint32)

    def of_many(self, view: int, inputs: Numbers) -> Keys:
        """The toggles of ascending inputs, in any order."""
        found = [np.empty(0, np.uint64)]
        for of, runs, bound in self._by_view():
            if of == view:
                found += runs.of_many(inputs[np.searchsorted(inputs, bound) :])
        return np.concatenate(found)

    # -- spilling -----------------------------------------------------------------------------------------------------

    def slice(self, draft: Draft, commit: int) -> tuple[list[tuple[bytes, int]], int]:
        """Puts the next slice into a write; answers (arrived keys and edges as arrivals.draft gives them, next bound).

        There is something to spill: `edges` is above 0.
        """
        if self._spill is None:
            self._spill = _Spill(self._last, 0, self._views, self._records)
            self._views, self._records = {}, []
        spill = self._spill
        bound = max(
            (runs.bound(spill.bound, _SLICE) for runs in spill.views.values() if runs.size), default=_EVERY_INPUT
        )
        arrived: list[tuple[bytes, int]] = []
        for view, runs in spill.views.items():
            toggles = arrivals.odd(runs.between(spill.bound, bound))
            arrived += arrivals.draft(draft, self._family, view, commit, toggles)
        if bound < _EVERY_INPUT:
            draft.put(self._meta, _MARK, u64(spill.last) + u32(bound))
        else:
            draft.delete(self._meta, _MARK)
            draft.put_many(self._family, dict.fromkeys(spill.records).items())
        return arrived, bound

    def sliced(self, bound: int) -> None:
        """The write with the slice up to `bound` was applied."""
        assert self._spill is not None
        self._spill.bound = bound
        if bound >= _EVERY_INPUT:
            self._spill = None

    def _by_view(self) -> Iterator[tuple[int, Runs, int]]:
        """(view, runs, the input from which on they count): below it they are among the arrivals already."""
        for view, runs in self._views.items():
            yield view, runs, 0
        if self._spill is not None:
            for view, runs in self._spill.views.items():
                yield view, runs, self._spill.bound

    def _load(self) -> None:
        mark = self._meta.get(_MARK)
        last, bound = (int.from_bytes(mark[:8], "big"), int.from_bytes(mark[8:], "big")) if mark else (0, 0)
        if mark:
            self._spill = _Spill(last, bound, {}, [])
        for key, value in self._family.scan(LOG):
            commit = int.from_bytes(key[1:9], "big")
            of, records = self._views, self._records
            if self._spill is not None and commit <= last:
                of, records = self._spill.views, self._spill.records
            of.setdefault(int.from_bytes(key[9:], "big"), Runs()).add(np.frombuffer(value, "<u8"))
            records.append(key)
            self._last = max(self._last, commit)


def _record(view: int, commit: int) -> bytes:
    return LOG + u64(commit) + u16(view)
