"""Which root is served next: lanes share by weight, roots within a lane take turns of equal renderer time.

Within a lane it is deficit round robin: a root's turn gives it a quantum of renderer-seconds (times its weight), and it
is served while the quantum lasts. A root that has just come takes its first turn at once, so that a one-page edit never
waits behind a giant; when first turns have taken a quantum together, an older root has its turn, so that a flood of
small roots never stops the giant. While an executor's call waits for first turns, no other call gets them: in one
batch with pages of a giant, a page is rendered and told with those. A root whose items are all lent is parked: it has
no turns until one comes back, so that thousands of small roots cost nothing meanwhile. Lanes take turns by virtual
time: the lane that had least, by weight, is next.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto

from services.propagation.domain.roots import Root

QUANTUM_S = 2.0
"""Renderer-seconds of a turn: at 2 ms an item a thousand items, at 1 s an item two."""
CHEAPEST_S = QUANTUM_S / 16_384
"""An item is never counted as cheaper, so that a turn is at most one big batch."""

MOST_CREDIT_S = 4 * QUANTUM_S
"""What a lane without work saves up at most for the time when it has some."""

Take = Callable[[Root, int], int | None]
"""How many items were taken; None: the root has none at all of this view, and keeps its turn."""


class Turns(Enum):
    """Whose turns are meant: all, those of roots that had none yet, or those of the others."""

    ALL = auto()
    FIRST = auto()
    LATER = auto()


class Lane:
    """The runnable roots of one lane: those that wait for their first turn, and the ring."""

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.virtual_s = 0.0
        self.fresh: deque[Root] = deque()
        self.ring: deque[Root] = deque()
        self.fresh_spent_s = 0.0

    def __len__(self) -> int:
        return len(self.fresh) + len(self.ring)

    @property
    def first_due(self) -> bool:
        """Whether a first turn may come before an older root's."""
        return bool(self.fresh) and (self.fresh_spent_s < QUANTUM_S or not self.ring)

    def turns(self, whose: Turns = Turns.ALL) -> Iterator[Root]:
        """Roots in the order of their turns, each once. The caller says with `end_turn` what became of it."""
        fresh: deque[Root] = deque() if whose is Turns.LATER else self.fresh.copy()
        for _ in range(len(fresh) if whose is Turns.FIRST else len(self)):
            if fresh and self.first_due:
                yield fresh.popleft()
            elif self.ring and whose is not Turns.FIRST:
                yield self.ring[0]

    def end_turn(self, root: Root) -> None:
        """Puts the root at the end of the ring."""
        if root in self.fresh:
            self.fresh.remove(root)
        elif self.ring and self.ring[0] is root:
            self.ring.popleft()
            self.fresh_spent_s = 0.0
        else:
            return
        root.deficit_s = min(root.deficit_s, 0.0)
        root.served = True
        if not root.parked:
            self.ring.append(root)


class Scheduler:
    """The lanes of a shard."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = dict(weights)
        self.lanes: dict[str, Lane] = {name: Lane(weight) for name, weight in self._weights.items()}
        self._awaited: Counter[int] = Counter()

    def add(self, root: Root) -> None:
        """Takes in a root; one that has been served before waits for its turn in the ring."""
        name = root.record.lane
        lane = self.lanes.get(name)
        if lane is None:
            lane = self.lanes[name] = Lane(self._weights.get(name, 1))
        if not len(lane):
            lane.virtual_s = max(lane.virtual_s, self._least_virtual_s())
        (lane.ring if root.served else lane.fresh).append(root)

    def remove(self, root: Root) -> None:
        """Takes the root out, if it is in."""
        lane = self.lanes.get(root.record.lane)
        if lane is not None:
            for queue in () if root.parked else (lane.fresh, lane.ring):
                if root in queue:
                    queue.remove(root)
            if not len(lane) and root.record.lane not in self._weights:
                del self.lanes[root.record.lane]
        root.parked = False

    def unpark(self, root: Root) -> None:
        """A root that had all its items lent may have some to lend again."""
        if root.parked:
            root.parked = False
            self.add(root)

    def weight(self, lane: str) -> int:
        """The weight of a lane."""
        return self._weights.get(lane, 1)

    @contextmanager
    def awaiting(self, views: Collection[int]) -> Iterator[None]:
        """While a call waits for first turns of these views."""
        self._awaited.update(views)
        try:
            yield
        finally:
            self._awaited.subtract(views)

    def left_to(self, view: int) -> Turns:
        """The turns that a call gets which does not ask for first ones: not those that another one waits for."""
        return Turns.LATER if self._awaited[view] > 0 else Turns.ALL

    @property
    def first_due(self) -> bool:
        """Whether a root may have its first turn now."""
        return any(lane.first_due for lane in self.lanes.values())

    @property
    def later_due(self) -> bool:
        """Whether a root may have another turn."""
        return any(lane.ring for lane in self.lanes.values())

    def fill(self, capacity: int, cost_s: float, take: Take, turns: Turns = Turns.ALL) -> None:
        """Hands out up to `capacity` items of one view: `take(root, limit)` takes some and says how many."""
        cost_s = max(cost_s, CHEAPEST_S)
        lanes = [lane for lane in self.lanes.values() if len(lane)]
        newest_s = max((lane.virtual_s for lane in lanes), default=0.0)
        for lane in lanes:
            lane.virtual_s = max(lane.virtual_s, newest_s - MOST_CREDIT_S)
        while capacity > 0 and lanes:
            lane = min(lanes, key=lambda lane: lane.virtual_s)
            share = capacity if len(lanes) == 1 else min(capacity, max(1, int(QUANTUM_S * lane.weight / cost_s)))
            taken = self._fill_lane(lane, share, cost_s, take, turns)
            lane.virtual_s += taken * cost_s / lane.weight
            capacity -= taken
            if taken < share:
                lanes.remove(lane)

    def _fill_lane(self, lane: Lane, capacity: int, cost_s: float, take: Take, turns: Turns) -> int:
        taken = 0
        progressed = True
        while progressed and taken < capacity:
            progressed = False
            for root in lane.turns(turns):
                if root.deficit_s <= 0:
                    root.deficit_s += QUANTUM_S * root.record.weight
                if root.deficit_s <= 0:
                    lane.end_turn(root)
                    progressed = True
                    continue
                limit = capacity - taken
                if len(lane) > 1:
                    limit = min(limit, max(1, int(root.deficit_s / cost_s)))
                got = take(root, limit)
                if got is None and not root.served:
                    continue
                got = got or 0
                taken += got
                progressed = progressed or got > 0
                root.deficit_s -= got * cost_s if len(lane) > 1 else 0.0
                if not root.served:
                    lane.fresh_spent_s += got * cost_s
                if not root.served or got < limit or root.deficit_s <= 0 or taken < capacity:
                    lane.end_turn(root)
                if taken >= capacity:
                    break
        return taken

    def _least_virtual_s(self) -> float:
        return min((lane.virtual_s for lane in self.lanes.values() if len(lane)), default=0.0)
