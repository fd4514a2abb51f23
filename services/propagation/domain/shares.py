"""Which share of an edit's renders turns out unchanged: learned by resource, so that the next edit of it is foreseen.

A root counts, by view, how many of the items that depend on its own inputs its leases changed. Items are leased in
the order of their numbers, and pages made at one time resemble one another; so a small sample drawn evenly from a big
set is leased first (as if it were hot), and until much more than the sample is done the sample alone is asked: the
share is unbiased from the first renders on. What a finished root found is kept with its resource, mixed half and half
with what was known.
"""

from dataclasses import dataclass
from random import Random
from struct import Struct

from pyroaring import BitMap

from services.propagation.store.interface import Commit, Store

SHARE = "share"
ENOUGH = 32
"""Renders before a share is believed: below it, one page more or less moves it by more than 3 points."""
_SAMPLE = 200
"""Renders of a sample: its share is within 7 points of the whole's, 19 times of 20."""
_SAMPLED_FROM = 20 * _SAMPLE
"""Items of a set that is worth a sample."""
_RECORD = Struct(">d")
_KEY = Struct(">IH")


@dataclass(slots=True)
class Counted:
    """Renders of one view under a root."""

    changed: int = 0
    unchanged: int = 0

    def share(self) -> float | None:
        """Unchanged of all; None before there are enough."""
        rendered = self.changed + self.unchanged
        return self.unchanged / rendered if rendered >= ENOUGH else None


class Shares:
    """What one root has found so far. In memory: a restart begins to count anew."""

    def __init__(self) -> None:
        self._counted: dict[int, Counted] = {}
        self._sampled: dict[int, tuple[BitMap, Counted]] = {}

    def sample(self, rng: Random, view: int, items: BitMap) -> BitMap:
        """Items drawn evenly to be leased first; none when there are too few to be worth it."""
        if len(items) < _SAMPLED_FROM or view in self._sampled:
            return BitMap()
        drawn = BitMap([items[at] for at in rng.sample(range(len(items)), _SAMPLE)])
        self._sampled[view] = drawn.copy(), Counted()
        return drawn

    def count(self, view: int, rendered: BitMap, changed: BitMap) -> None:
        """Takes in renders by the root's own leases."""
        hits = rendered.intersection_cardinality(changed)
        _add(self._counted.setdefault(view, Counted()), len(rendered), hits)
        sampled = self._sampled.get(view)
        if sampled is not None:
            mine = sampled[0] & rendered
            if mine:
                _add(sampled[1], len(mine), mine.intersection_cardinality(changed))

    def of(self, view: int) -> float | None:
        """The share found so far, None before it can be believed."""
        sampled = self._sampled.get(view)
        counted = self._counted.get(view, Counted())
        if sampled is not None and counted.changed + counted.unchanged < _SAMPLED_FROM:
            return sampled[1].share()
        return counted.share()

    @property
    def learned(self) -> bool:
        """Whether there is anything to keep."""
        return any(self.of(view) is not None for view in self._counted)

    def keep(self, store: Store, commit: Commit, resource: int) -> None:
        """Puts what was found into the commit, mixed with what is known of the resource."""
        for view in self._counted:
            share = self.of(view)
            if share is not None:
                known = learned(store, resource, view)
                mixed = share if known is None else (share + known) / 2
                commit.put_record(SHARE, _KEY.pack(resource, view), _RECORD.pack(mixed))


def learned(store: Store, resource: int, view: int) -> float | None:
    """The share of unchanged renders that past edits of the resource had in the view; None when none was big enough."""
    kept = store.get_record(SHARE, _KEY.pack(resource, view))
    return float(_RECORD.unpack(kept)[0]) if kept is not None else None


def _add(counted: Counted, rendered: int, changed: int) -> None:
    counted.changed += changed
    counted.unchanged += rendered - changed
