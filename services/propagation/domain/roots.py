"""Unfinished roots in memory: what is pending for each, by causal level and view.

All of it is derived: from the root's record and fan-outs, the edges and the `rendered_at` columns (recovery.py). The
sets are roaring bitmaps of resource numbers; a root of five million dependents holds about 1.3 MB.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from pyroaring import BitMap

from services.propagation.domain.records import RootRecord, State, Tally
from services.propagation.domain.shares import Shares

MAX_LEVEL = 64
"""Levels told apart; deeper ones share the last. A cycle goes round through levels until it settles or is stopped."""

MOST_LEVEL_INPUTS = 64
"""Inputs of a deeper level that a lease names with their versions; beyond, the root's own stand for them."""


class Group:
    """The items of one causal level and view of a root.

    `pending` includes what is leased or waits for a retry, and nothing of `failed` (dead letters). `cursor` is the
    number at which the next lease begins; it goes round, so that what a newer change makes pending again behind it
    never keeps what lies before it waiting. `hot` are pending items to be served first in this pass.
    """

    __slots__ = ("cursor", "failed", "hot", "level", "pending", "view")

    def __init__(self, level: int, view: int) -> None:
        self.level = level
        self.view = view
        self.pending = BitMap()
        self.failed = BitMap()
        self.hot = BitMap()
        self.cursor = 0

    def next(self, limit: int, *excluded: BitMap) -> BitMap:
        """At most `limit` pending items from the cursor on, without the excluded ones; moves the cursor behind them."""
        if self.hot:
            picked = self._of(self.hot & self.pending, limit, excluded)
            self.hot -= picked
            if picked:
                return picked
            self.hot = BitMap()
        picked = BitMap()
        size = len(self.pending)
        at = self.pending.rank(self.cursor - 1) if self.cursor else 0
        seen = 0
        while len(picked) < limit and seen < size:
            at = at if at < size else 0
            window = self.pending[at : min(at + max(limit, 1024), size, at + size - seen)]
            at += len(window)
            seen += len(window)
            free = self._of(window, limit - len(picked), excluded)
            if free:
                picked |= free
                self.cursor = free.max() + 1
        return picked

    @staticmethod
    def _of(window: BitMap, limit: int, excluded: tuple[BitMap, ...]) -> BitMap:
        for others in excluded:
            if others:
                window = window - others
        return window if len(window) <= limit else window[:limit]


class Root:
    """One unfinished root. Its record is durable; the rest is derived or counted."""

    def __init__(self, record: RootRecord, tally: Tally, now_s: float) -> None:
        # `buried` counts dead letters of a root that had finished and was opened again. No fan-out of the root was
        # noted before `since`; one that was superseded may have handed over some that are older than the root.
        self.record = record
        self.sequence = record.sequence
        self.since = record.sequence
        self.groups: dict[tuple[int, int], Group] = {}
        self.total = tally.total
        self.changed = tally.changed
        self.unchanged = tally.unchanged
        self.buried = tally.failed
        self.levels = tally.levels
        self.seconds = tally.seconds
        self.successor: Root | None = None
        self.settling = 0
        self.untold = 0
        self.deficit_s = 0.0
        self.served = False
        self.parked = False
        self.flips: dict[int, list[BitMap]] = {}
        self.meter = Meter(now_s)
        self.inputs_at: dict[int, dict[int, bytes]] = {}
        self.reads_before = (0, 0)
        self.shares = Shares()

    @property
    def id(self) -> str:
        """The change's id."""
        return self.record.change.id

    @property
    def runnable(self) -> bool:
        """Whether leases may be given for the root."""
        return self.record.state is State.ACTIVE

    def group(self, level: int, view: int) -> Group:
        """The group, made when there is none."""
        level = min(level, MAX_LEVEL)
        found = self.groups.get((level, view))
        if found is None:
            found = self.groups[level, view] = Group(level, view)
            self.groups = dict(sorted(self.groups.items()))
            self.levels = max(self.levels, level)
        return found

    def of_view(self, view: int) -> Iterator[Group]:
        """The view's groups, lowest level first."""
        return (group for group in self.groups.values() if group.view == view)

    def learn_inputs(self, level: int, inputs: list[int], version: bytes) -> None:
        """Inputs that items of a level must see, at this version: kept while they are few enough to be told."""
        if len(inputs) <= MOST_LEVEL_INPUTS:
            known = self.inputs_at.setdefault(level, {})
            known.update(dict.fromkeys(inputs, version))
            if len(known) > MOST_LEVEL_INPUTS:
                known.clear()

    @property
    def pending(self) -> int:
        """Items not yet rendered, dead letters apart."""
        return sum(len(group.pending) for group in self.groups.values())

    @property
    def failed(self) -> int:
        """Items in dead letters."""
        return self.buried + sum(len(group.failed) for group in self.groups.values())

    @property
    def done(self) -> int:
        """Items rendered since the change."""
        return self.total - self.pending - self.failed

    @property
    def finished(self) -> bool:
        """Whether nothing is left to lease, now or later, nor to tell other shards."""
        return not self.settling and not self.untold and not any(group.pending for group in self.groups.values())

    def tally(self) -> Tally:
        """The counters as they are."""
        pending, failed = self.pending, self.failed
        done = self.total - pending - failed
        return Tally(self.total, done, self.changed, self.unchanged, failed, self.levels, self.seconds)

    def set_state(self, state: State, reason: str = "") -> None:
        """Changes the state in the record (which the caller writes)."""
        self.record = replace(self.record, state=state, reason=reason)


class Meter:
    """Items done in a second, over the last half minute or so of work: from the first lease on."""

    _STEP_S = 0.25
    _SAMPLES = 120

    def __init__(self, now_s: float) -> None:
        self._samples: deque[tuple[float, int]] = deque([(now_s, 0)], maxlen=self._SAMPLES)
        self._done = 0
        self._begun = False

    def begin(self, now_s: float) -> None:
        """The first items are leased: what passed before, waiting for a turn or a pause's end, tells nothing."""
        if not self._begun:
            self._begun = True
            self._samples[-1] = (now_s, self._done)

    def add(self, count: int, now_s: float) -> None:
        """Counts items done now."""
        self._done += count
        if now_s - self._samples[-1][0] >= self._STEP_S:
            self._samples.append((now_s, self._done))

    def rate_per_s(self, now_s: float) -> float:
        """0 while nothing was done."""
        start_s, start = self._samples[0]
        return (self._done - start) / (now_s - start_s) if now_s > start_s else 0.0
