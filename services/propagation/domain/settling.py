"""The second pass of views whose renderer cannot tell how new its inputs are.

Each fan-out that reaches such a view is noted, durably, with a due time; when it is due, the same inputs are taken as
changed once more, for that view alone. A root is not finished before its second passes are.
"""

import heapq
from collections.abc import Mapping
from struct import Struct

from services.propagation.domain.sequence import decode, encode
from services.propagation.store.interface import Commit, Store

SETTLE = "settle"
_KEY_TAIL = Struct(">QH")
_VALUE = Struct(">Q")

Due = tuple[int, int, int]
"""(root, noted_at of the fan-out, view)"""


class Settling:
    """Second passes to come."""

    def __init__(self) -> None:
        self._due: list[tuple[float, Due]] = []

    def load(self, store: Store, delays_s: Mapping[int, float], now_ns: int, now_s: float) -> dict[int, int]:
        """Reads the notes; answers how many each root has.

        None comes later than its view's delay from now (`delays_s`): the wall clock may have been set back meanwhile.
        """
        self._due.clear()
        counts: dict[int, int] = {}
        for key, value in store.records(SETTLE):
            root = decode(key)
            noted_at, view = _KEY_TAIL.unpack(key[8:])
            wait_s = max(0.0, (_VALUE.unpack(value)[0] - now_ns) / 1e9)
            heapq.heappush(self._due, (now_s + min(wait_s, delays_s.get(view, 0.0)), (root, noted_at, view)))
            counts[root] = counts.get(root, 0) + 1
        return counts

    def note(self, commit: Commit, due: Due, wait_s: float, now_ns: int, now_s: float) -> None:
        """A second pass in `wait_s` seconds."""
        root, noted_at, view = due
        key = encode(root) + _KEY_TAIL.pack(noted_at, view)
        commit.put_record(SETTLE, key, _VALUE.pack(now_ns + int(wait_s * 1e9)))
        heapq.heappush(self._due, (now_s + wait_s, due))

    def clear(self, commit: Commit, due: Due) -> None:
        """The second pass has begun."""
        root, noted_at, view = due
        commit.delete_record(SETTLE, encode(root) + _KEY_TAIL.pack(noted_at, view))

    def hand_over(self, commit: Commit, older: int, newer: int, noted: set[int], now_ns: int, now_s: float) -> int:
        """Second passes of the fan-outs `noted` of one root become those of another; answers how many."""
        mine = [(at_s, due) for at_s, due in self._due if due[0] == older and due[1] in noted]
        for at_s, (_, noted_at, view) in mine:
            self.note(commit, (newer, noted_at, view), max(0.0, at_s - now_s), now_ns, now_s)
        return len(mine)

    def drop(self, root: int) -> None:
        """Forgets the second passes of a finished root."""
        self._due = [entry for entry in self._due if entry[1][0] != root]
        heapq.heapify(self._due)

    def due(self, now_s: float) -> list[Due]:
        """Takes those whose time has come."""
        taken: list[Due] = []
        while self._due and self._due[0][0] <= now_s:
            taken.append(heapq.heappop(self._due)[1])
        return taken

    @property
    def to_come(self) -> list[Due]:
        """All of them, in no order."""
        return [due for _, due in self._due]

    @property
    def next_due_s(self) -> float | None:
        """When the next one is due."""
        return self._due[0][0] if self._due else None
