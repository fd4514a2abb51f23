"""How often readers ask for which page, in bounded memory, until it is told to whoever orders the rendering by it.

Names are counted by the space-saving rule, in rounds: when there are twice as many as may be kept, the less read half
is let go, and from then on a new name ranks as if it had been read as often as the most read one that went. So a page
that is read often is never lost behind many that are read once. What is told are the reads that were counted, never
that head start; the reads of names let go are counted apart.
"""

from dataclasses import dataclass, field

MAX_NAME_BYTES = 1024
"""As propagation knows resources; longer names are none."""


@dataclass(slots=True, eq=False)
class Tally:
    """Reads of one page: `fresh` of `reads` were at or above the minimum version that the gateway was told."""

    reads: int = 0
    fresh: int = 0
    head_start: int = 0

    @property
    def rank(self) -> int:
        """At least as many reads as there were."""
        return self.reads + self.head_start


@dataclass(slots=True)
class _Names:
    tallies: dict[str, Tally] = field(default_factory=dict)
    floor: int = 0


@dataclass(slots=True)
class ReadCounts:
    """Reads by view and resource, at most `capacity` resources a view for long and twice as many at any time."""

    capacity: int = 10_000
    let_go: int = 0
    _views: dict[str, _Names] = field(default_factory=dict)

    def count(self, view: str, resource: str, fresh: bool) -> None:
        """One read. `view` is one of those that the routes name, so there are few."""
        names = self._views.get(view)
        if names is None:
            names = self._views[view] = _Names()
        tally = names.tallies.get(resource)
        if tally is None:
            if len(names.tallies) >= 2 * self.capacity:
                self._halve(names)
            tally = names.tallies[resource] = Tally(head_start=names.floor)
        tally.reads += 1
        tally.fresh += fresh

    def take(self) -> dict[str, dict[str, Tally]]:
        """What was counted since the last time, by view and resource: the most read of each view."""
        taken = {}
        for view, names in self._views.items():
            if len(names.tallies) > self.capacity:
                self._halve(names)
            taken[view] = names.tallies
        self._views = {}
        return taken

    def _halve(self, names: _Names) -> None:
        ranked = sorted(names.tallies.items(), key=lambda item: item[1].rank, reverse=True)
        names.tallies = dict(ranked[: self.capacity])
        gone = ranked[self.capacity :]
        self.let_go += sum(tally.reads for _, tally in gone)
        names.floor = max(names.floor, gone[0][1].rank)
