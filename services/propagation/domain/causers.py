"""What rendering cost, by causer, since the engine's store was made.

A root is charged to the causer of its change when it finishes, in the commit that finishes it; a root that is opened
again is refunded until it finishes anew. Unfinished roots are counted as they are when somebody asks. Of more causers
than are told apart the cheapest are folded into one, OTHERS.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct

from services.propagation.domain.records import Tally
from services.propagation.store.interface import Commit, Store

OTHERS = "others"
KIND = "causer"
_RECORD = Struct(">qQQd")
_FOLDED_SHARE = 10
"""One in so many is folded at a time, so that folding is rare."""


@dataclass(frozen=True, slots=True)
class CauserCost:
    """Roots, items that they rendered, how many of these turned out unchanged, and renderer-seconds."""

    roots: int = 0
    rendered: int = 0
    unchanged: int = 0
    seconds: float = 0.0

    def plus(self, other: "CauserCost", sign: int = 1) -> "CauserCost":
        """The sum, or with a sign of -1 the difference, never below nothing."""
        return CauserCost(
            max(0, self.roots + sign * other.roots),
            max(0, self.rendered + sign * other.rendered),
            max(0, self.unchanged + sign * other.unchanged),
            max(0.0, self.seconds + sign * other.seconds),
        )

    @classmethod
    def of(cls, tally: Tally) -> "CauserCost":
        """Of one root."""
        return cls(1, tally.changed + tally.unchanged, tally.unchanged, tally.seconds)


class Causers:
    """Costs of finished roots by causer; the empty name stands for changes without one."""

    def __init__(self, store: Store, most: int) -> None:
        self._store = store
        self._most = most
        self._costs: dict[str, CauserCost] = {}
        self.load()

    def load(self) -> None:
        """Reads them."""
        self._costs = {key.decode(): CauserCost(*_RECORD.unpack(value)) for key, value in self._store.records(KIND)}

    def charge(self, commit: Commit, causer: str, tally: Tally) -> None:
        """A root has finished."""
        self._put(commit, causer, self._costs.get(causer, CauserCost()).plus(CauserCost.of(tally)))
        if len(self._costs) - (OTHERS in self._costs) > self._most:
            self._fold(commit)

    def refund(self, commit: Commit, causer: str, tally: Tally) -> None:
        """A finished root is unfinished again."""
        known = causer if causer in self._costs else OTHERS
        if known in self._costs:
            self._put(commit, known, self._costs[known].plus(CauserCost.of(tally), -1))

    def totals(self, unfinished: Iterable[tuple[str, Tally]]) -> list[tuple[str, CauserCost]]:
        """All causers with these unfinished roots added, the most expensive first."""
        summed = dict(self._costs)
        for causer, tally in unfinished:
            summed[causer] = summed.get(causer, CauserCost()).plus(CauserCost.of(tally))
        return sorted(summed.items(), key=lambda one: (-one[1].seconds, -one[1].rendered, one[0]))

    def _fold(self, commit: Commit) -> None:
        named = [(cost.seconds, cost.rendered, causer) for causer, cost in self._costs.items() if causer != OTHERS]
        others = self._costs.get(OTHERS, CauserCost())
        for _, _, causer in sorted(named)[: max(1, self._most // _FOLDED_SHARE)]:
            others = others.plus(self._costs.pop(causer))
            commit.delete_record(KIND, causer.encode())
        self._put(commit, OTHERS, others)

    def _put(self, commit: Commit, causer: str, cost: CauserCost) -> None:
        self._costs[causer] = cost
        value = _RECORD.pack(cost.roots, cost.rendered, cost.unchanged, cost.seconds)
        commit.put_record(KIND, causer.encode(), value)
