"""What is kept from leasing: retries that are not yet due, and dead letters.

Retries and dead letters are durable records (`held`, `dead`, keyed by view and resource); their sets are in memory.
What became of dead letters that were given up, `discarded`, is for a restart alone: without it they would be derived as
pending again. It is keyed by the sequence of the discard and the view, and holds resource numbers of 4 bytes.
Due times are kept in slots of a tenth of a second, so that a million failures cost a few sets and no million timers.
"""

import heapq
from collections.abc import Iterator
from random import Random
from struct import Struct

import numpy as np
from pyroaring import BitMap

from services.propagation.domain.change import dump, load
from services.propagation.domain.sequence import decode, encode
from services.propagation.domain.views import RetryPolicy
from services.propagation.store.interface import Commit, Held, Store
from services.propagation.store.numbers import to_numbers, to_set

HELD = "held"
DEAD = "dead"
DISCARDED = "discarded"
MAX_DETAIL = 1024

_KEY = Struct(">HI")
_SLOT_S = 0.1
_LONGEST_WAIT_S = 86_400.0
"""Whatever a renderer asks for, a retry comes within a day."""


def key(view: int, resource: int) -> bytes:
    """The key of an item's record."""
    return _KEY.pack(view, resource)


def view_key(view: int) -> bytes:
    """What the keys of a view's records begin with."""
    return view.to_bytes(2, "big")


def pack(held: Held) -> bytes:
    """A record's value."""
    return dump({name: getattr(held, name) for name in Held.__slots__ if name not in ("view", "resource")})


def unpack(record_key: bytes, value: bytes) -> Held:
    """Of a record."""
    view, resource = _KEY.unpack(record_key)
    return Held(view=view, resource=resource, **load(value))


def backoff_s(policy: RetryPolicy, attempts: int, asked_s: float, jitter: float, rng: Random) -> float:
    """Seconds until the next attempt: doubling, less a random share up to `jitter`, and no sooner than asked for."""
    full = min(policy.max_s, policy.initial_s * 2.0 ** min(attempts - 1, 40))
    return min(max(full * (1.0 - jitter * rng.random()), asked_s), _LONGEST_WAIT_S)


class Holds:
    """Sets by view: `waiting` for a due time, `attempted` before, `dead`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[int, BitMap] = {}
        self._attempted: dict[int, BitMap] = {}
        self._dead: dict[int, BitMap] = {}
        self._slots: dict[tuple[int, int], BitMap] = {}
        self._due: list[tuple[int, int]] = []

    def load(self, now_ns: int, now_s: float) -> None:
        """Reads the records: after a restart, or after the sets were lost."""
        for sets in (self._waiting, self._attempted, self._dead, self._slots):
            sets.clear()
        self._due.clear()
        for record_key, value in self._store.records(HELD):
            held = unpack(record_key, value)
            self.attempted(held.view).add(held.resource)
            # No longer than it was to be: the wall clock may have been set back meanwhile.
            wait_s = min(held.due_ns - now_ns, held.due_ns - held.last_ns) / 1e9
            if wait_s > 0:
                self.postpone(held.view, BitMap([held.resource]), now_s + wait_s)
        for record_key, _ in self._store.records(DEAD):
            view, resource = _KEY.unpack(record_key)
            self.dead(view).add(resource)

    def waiting(self, view: int) -> BitMap:
        """Not the caller's."""
        return self._waiting.setdefault(view, BitMap())

    def attempted(self, view: int) -> BitMap:
        """Items that failed since they were last rendered; not the caller's."""
        return self._attempted.setdefault(view, BitMap())

    def dead(self, view: int) -> BitMap:
        """Not the caller's."""
        return self._dead.setdefault(view, BitMap())

    @property
    def waiting_count(self) -> int:
        """All views together."""
        return sum(map(len, self._waiting.values()))

    @property
    def dead_count(self) -> int:
        """All views together."""
        return sum(map(len, self._dead.values()))

    def postpone(self, view: int, items: BitMap, due_s: float) -> None:
        """Keeps the items from leasing until `due_s` of the monotonic clock."""
        slot = int(due_s / _SLOT_S) + 1
        if (slot, view) not in self._slots:
            self._slots[slot, view] = BitMap()
            heapq.heappush(self._due, (slot, view))
        self._slots[slot, view] |= items
        self.waiting(view).update(items)

    def wake(self, now_s: float) -> bool:
        """Ends the waiting of what is due; whether there was any."""
        any_due = False
        while self._due and self._due[0][0] * _SLOT_S <= now_s:
            slot, view = heapq.heappop(self._due)
            items = self._slots.pop((slot, view))
            self.waiting(view).difference_update(items)
            any_due = True
        return any_due

    @property
    def next_due_s(self) -> float | None:
        """When something is due next, on the monotonic clock."""
        return self._due[0][0] * _SLOT_S if self._due else None

    def get(self, view: int, resource: int) -> Held | None:
        """The item's failures since it was last rendered."""
        if resource not in self.attempted(view):
            return None
        record_key = key(view, resource)
        value = self._store.get_record(HELD, record_key)
        return unpack(record_key, value) if value is not None else None

    def get_dead(self, view: int, resource: int) -> Held | None:
        """The item's dead letter."""
        if resource not in self.dead(view):
            return None
        record_key = key(view, resource)
        value = self._store.get_record(DEAD, record_key)
        return unpack(record_key, value) if value is not None else None

    def hold(self, commit: Commit, held: Held, due_s: float) -> None:
        """Keeps the item from leasing until due, durably."""
        commit.put_record(HELD, key(held.view, held.resource), pack(held))
        self.attempted(held.view).add(held.resource)
        self.postpone(held.view, BitMap([held.resource]), due_s)

    def bury(self, commit: Commit, held: Held) -> None:
        """Makes the item a dead letter."""
        record_key = key(held.view, held.resource)
        commit.put_record(DEAD, record_key, pack(held))
        self.dead(held.view).add(held.resource)
        if held.resource in self.attempted(held.view):
            commit.delete_record(HELD, record_key)
            self.attempted(held.view).discard(held.resource)

    def forgive(self, commit: Commit, view: int, items: BitMap) -> None:
        """Forgets the failures of items that were rendered."""
        failed_before = items & self.attempted(view)
        for resource in failed_before:
            commit.delete_record(HELD, key(view, resource))
        self.attempted(view).difference_update(failed_before)

    def release(self, commit: Commit, view: int, items: BitMap) -> BitMap:
        """Ends the dead letters among the items; answers which they were."""
        released = items & self.dead(view)
        for resource in released:
            commit.delete_record(DEAD, key(view, resource))
        self.dead(view).difference_update(released)
        return released

    def discard(self, commit: Commit, at: int, view: int, items: BitMap) -> None:
        """Gives dead letters up: what made them pending until the sequence `at` does so no more."""
        self.release(commit, view, items)
        commit.put_record(DISCARDED, encode(at) + view_key(view), to_numbers(items).astype("<u4").tobytes())

    def discarded(self) -> dict[int, list[tuple[int, BitMap]]]:
        """By view, (sequence of the discard, items), oldest first."""
        found: dict[int, list[tuple[int, BitMap]]] = {}
        for record_key, value in self._store.records(DISCARDED):
            items = to_set(np.frombuffer(value, "<u4"))
            found.setdefault(int.from_bytes(record_key[8:], "big"), []).append((decode(record_key), items))
        return found

    def forget_discarded(self, commit: Commit, before: int, limit: int) -> int:
        """Forgets discards at sequences below `before`, at most so many; answers how many."""
        forgotten = 0
        for record_key, _ in self._store.records(DISCARDED, end=encode(before), limit=limit):
            commit.delete_record(DISCARDED, record_key)
            forgotten += 1
        return forgotten

    def dead_letters(self, view: int | None, after: bytes = b"") -> Iterator[Held]:
        """Dead letters in order of (view, resource number), those after the key `after`."""
        start = max(after + b"\0" if after else b"", b"" if view is None else view_key(view))
        end = None if view is None or view == 0xFFFF else view_key(view + 1)
        for record_key, value in self._store.records(DEAD, start=start, end=end):
            yield unpack(record_key, value)
