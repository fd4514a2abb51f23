"""What renders cost and how often they turn out unchanged, by view, measured as completions come in.

Moving averages: a batch of n items counts as n observations, with a memory of about ten thousand. Kept in a small
record, written at most every few seconds, because an estimate that is a little old after a crash does no harm.
"""

from dataclasses import dataclass
from struct import Struct

from services.propagation.store.interface import Commit, Store

_KIND = "cost"
_RECORD = Struct(">dddQ")
_MEMORY = 10_000.0
_WRITE_EVERY_S = 5.0
INITIAL_COST_S = 0.002
"""Assumed of a view never rendered; a wrong guess is corrected by the first batches."""


@dataclass(slots=True)
class Cost:
    """`seconds` of renderer time an item; `unchanged` share, 0..1; `rate_per_s` of completions; items `seen`."""

    seconds: float = INITIAL_COST_S
    unchanged: float = 0.0
    rate_per_s: float = 0.0
    seen: int = 0
    rate_since_s: float = 0.0
    rate_count: int = 0


class Costs:
    """The measures of all views; `totals` counts (completed, unchanged) by view since the start."""

    def __init__(self, store: Store) -> None:
        self._by_view: dict[int, Cost] = {}
        self._written_s = 0.0
        self.totals: dict[int, tuple[int, int]] = {}
        for key, value in store.records(_KIND):
            seconds, unchanged, rate, seen = _RECORD.unpack(value)
            self._by_view[int.from_bytes(key, "big")] = Cost(seconds, unchanged, rate, seen)

    def of(self, view: int) -> Cost:
        """The view's measures."""
        return self._by_view.setdefault(view, Cost())

    def observe(self, view: int, items: int, unchanged: int, seconds: float, now_s: float) -> None:
        """Takes in one completion; `seconds` of renderer time for all its items, 0 when it is not known."""
        completed, cut = self.totals.get(view, (0, 0))
        self.totals[view] = (completed + items, cut + unchanged)
        cost = self.of(view)
        share = items / (min(_MEMORY, cost.seen) + items)
        if seconds > 0:
            cost.seconds += share * (seconds / items - cost.seconds)
        elif cost.seen == 0:
            cost.seconds = 0.0
        cost.unchanged += share * (unchanged / items - cost.unchanged)
        cost.seen += items
        if now_s - cost.rate_since_s > 10.0:
            cost.rate_since_s, cost.rate_count = now_s, 0
        cost.rate_count += items
        if now_s - cost.rate_since_s >= 1.0:
            cost.rate_per_s = cost.rate_count / (now_s - cost.rate_since_s)
            cost.rate_since_s, cost.rate_count = now_s, 0

    def save(self, commit: Commit, now_s: float) -> None:
        """Puts the measures into the commit, now and then."""
        if now_s - self._written_s >= _WRITE_EVERY_S:
            self._written_s = now_s
            for view, cost in self._by_view.items():
                value = _RECORD.pack(cost.seconds, cost.unchanged, cost.rate_per_s, cost.seen)
                commit.put_record(_KIND, view.to_bytes(2, "big"), value)
