"""Leases: items lent to an executor until a deadline, under a fencing number; never two valid ones for one item.

A lease is in memory only. A restart forgets it, and what it lent is pending again because nothing was committed; the
epoch in the fencing number then refuses its late completion.

`dirty` is what makes a completion tell the truth: when an input changes while an item is lent, the item is noted there
for the root and level that now want it, and the completion of this lease (which began before the change) does not count
for them.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field

from pyroaring import BitMap

from services.propagation.domain.errors import Fenced, LeaseExpired
from services.propagation.domain.roots import Root
from services.propagation.store.interface import Bytes16, Numbers

_COUNTER_BITS = 40
_STANDSTILL_S = 3.0
"""An engine that was not at work for so long stood still, or its machine did."""
_ANSWERS = 4096
"""Completions remembered for a retry whose first answer was lost: some minutes of work at full speed."""


@dataclass(slots=True)
class Lease:
    """Items of one view, lent together. `parts` says for which roots; `deadline_s` is on the monotonic clock.

    `settled`: what changed after this number may be unseen by a render of the lease unless it is told how new its
    inputs must be. That is the lease's own number or, where the view cannot tell, an older one by its settle delay.
    """

    id: int
    fencing: int
    view: int
    sequence: int
    settled: int
    revision: int
    executor: str
    deadline_s: float
    ids: Numbers
    items: BitMap
    remaining: BitMap
    hashes: Bytes16
    parts: list[tuple[Root, BitMap]]
    suspected: bool = False
    dirty: dict[tuple[int, int], BitMap] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a completion was answered."""

    accepted: int
    unchanged: int


class Leases:
    """The valid leases of a shard."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._counter = 0
        self._by_id: dict[int, Lease] = {}
        self._by_view: dict[int, dict[int, Lease]] = {}
        self._lent: dict[int, BitMap] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._answers: OrderedDict[tuple[int, int, int], Answer] = OrderedDict()
        self._awake_s: float | None = None

    def awake(self, now_s: float) -> None:
        """To be told every second or so. Deadlines move by as long as the engine stood still: meanwhile nobody could
        move them, and to end them all at once would make every item lent a suspect (suspects.py)."""
        before_s, self._awake_s = self._awake_s, now_s
        if before_s is not None and now_s - before_s > _STANDSTILL_S:
            for lease in self._by_id.values():
                self.extend(lease, lease.deadline_s + now_s - before_s)

    def drop_all(self) -> None:
        """Ends every lease; their fencing numbers are never valid again."""
        self._by_id.clear()
        self._by_view.clear()
        self._lent.clear()
        self._deadlines.clear()
        self._answers.clear()

    def identity(self) -> tuple[int, int]:
        """(lease id, fencing number) for a new lease."""
        self._counter += 1
        return self._counter, (self._epoch << _COUNTER_BITS) | self._counter

    def add(self, lease: Lease) -> None:
        """Makes the lease valid."""
        self._by_id[lease.id] = lease
        self._by_view.setdefault(lease.view, {})[lease.id] = lease
        self.lent(lease.view).update(lease.items)
        heapq.heappush(self._deadlines, (lease.deadline_s, lease.id))

    def lent(self, view: int) -> BitMap:
        """What is lent of the view; not the caller's."""
        found = self._lent.get(view)
        if found is None:
            found = self._lent[view] = BitMap()
        return found

    def of_view(self, view: int) -> list[Lease]:
        """The view's valid leases."""
        return list(self._by_view.get(view, {}).values())

    @property
    def count(self) -> int:
        """Items lent, all views together."""
        return sum(map(len, self._lent.values()))

    def get(self, lease_id: int, fencing: int, now_s: float) -> Lease:
        """The valid lease. Raises Fenced for another's or an earlier life's, LeaseExpired for one that has ended."""
        if self._awake_s is not None:
            self.awake(now_s)  # who calls may be quicker than the engine's own work
        lease = self._by_id.get(lease_id)
        if lease is not None and lease.fencing == fencing and now_s < lease.deadline_s:
            return lease
        about = {"lease_id": str(lease_id), "fencing": str(fencing)}
        stale = fencing >> _COUNTER_BITS != self._epoch or (lease is not None and lease.fencing != fencing)
        if stale or fencing & ((1 << _COUNTER_BITS) - 1) != lease_id:
            raise Fenced(f"lease {lease_id} is not held under fencing number {fencing}", metadata=about)
        raise LeaseExpired(f"lease {lease_id} has ended; its items were given back", metadata=about)

    def give_back(self, lease: Lease, items: BitMap) -> None:
        """Ends the loan of these items, and the lease with the last of them."""
        lease.remaining -= items
        self.lent(lease.view).difference_update(items)
        if not lease.remaining:
            self._by_id.pop(lease.id, None)
            self._by_view[lease.view].pop(lease.id, None)

    def extend(self, lease: Lease, deadline_s: float) -> None:
        """Moves the deadline."""
        lease.deadline_s = deadline_s
        heapq.heappush(self._deadlines, (deadline_s, lease.id))

    def expired(self, now_s: float) -> list[Lease]:
        """Takes the leases whose deadline has passed out of the table."""
        over: list[Lease] = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, lease_id = heapq.heappop(self._deadlines)
            lease = self._by_id.get(lease_id)
            if lease is not None and lease.deadline_s <= now_s:
                over.append(lease)
        return over

    @property
    def next_deadline_s(self) -> float | None:
        """When the next lease may end."""
        return self._deadlines[0][0] if self._deadlines else None

    def remember(self, lease_id: int, fencing: int, fingerprint: int, answer: Answer) -> None:
        """Keeps the answer for a retry of the same completion."""
        self._answers[lease_id, fencing, fingerprint] = answer
        if len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)

    def answered(self, lease_id: int, fencing: int, fingerprint: int) -> Answer | None:
        """The answer that the same completion got before."""
        return self._answers.get((lease_id, fencing, fingerprint))

    def mark_dirty(self, view: int, root: int, level: int, items: BitMap) -> None:
        """Notes that lent items are wanted anew by a root at a level."""
        for lease in self.of_view(view):
            hit = lease.remaining & items
            if hit:
                lease.dirty[root, level] = lease.dirty.get((root, level), BitMap()) | hit

    def clean(self, view: int, root: int, items: BitMap) -> BitMap:
        """Those of `items` whose loan does not know of the root's newest want: lent, and not dirty for this root."""
        clean = items & self.lent(view)
        if clean:
            for lease in self.of_view(view):
                for (owner, _), dirty in lease.dirty.items():
                    if owner == root:
                        clean -= dirty
        return clean
