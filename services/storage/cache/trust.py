"""Whether this server may believe the entries: a breaker around the exchanges, and what it owes after one was lost.

A namespace is *trusted* once this process has begun a generation of its own for it. Trust ends, for all namespaces,
when the exchanges failed in a row: others may have written meanwhile and been unable to mark it. It ends for one
namespace when a write of this process could be neither marked nor undone in the cache; that namespace is *owed* a
generation, begun by the next look or by the care that runs beside. A process that was killed owing is started again
trusting nothing.
"""

from collections.abc import Callable, Iterable, Set
from typing import Final

_FAILURES: Final = 3
_PAUSE_S: Final = 1.0


class Trust:
    """Of one process. ``monotonic_s`` is its clock."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._failures = 0
        self._closed_until_s = 0.0
        self._trusted: set[int] = set()
        self._owed: dict[int, int] = {}
        self._debts = 0
        self._broken = 0

    # The breaker

    def allows(self) -> bool:
        """Whether an exchange may be tried: always, but for one a second after a row of failures."""
        if self._failures < _FAILURES:
            return True
        now_s = self._monotonic_s()
        if now_s < self._closed_until_s:
            return False
        self._closed_until_s = now_s + _PAUSE_S
        return True

    def answered(self) -> None:
        """An exchange was answered."""
        self._failures = 0

    def failed(self) -> None:
        """An exchange failed."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self._closed_until_s = self._monotonic_s() + _PAUSE_S
            self._trusted.clear()
            self._debts += 1
            self._broken = self._debts

    # Trust and debts

    def trusts(self, number: int) -> bool:
        """Whether entries of the namespace may be believed without beginning a generation first."""
        return number in self._trusted

    @property
    def debts(self) -> int:
        """A number that grows with each debt: take it before a generation is begun, and give it to :meth:`renewed`."""
        return self._debts

    @property
    def owed(self) -> Set[int]:
        """Namespaces that must have a new generation."""
        return frozenset(self._owed)

    def owe(self, numbers: Iterable[int]) -> None:
        """Writes of these namespaces have happened, and entries may not know."""
        for number in numbers:
            self._debts += 1
            self._owed[number] = self._debts
            self._trusted.discard(number)

    def renewed(self, numbers: Iterable[int], debts: int) -> None:
        """Generations were begun after :attr:`debts` was ``debts``: later debts remain, and later doubts."""
        if debts < self._broken:
            return
        for number in numbers:
            if self._owed.get(number, 0) <= debts:
                self._owed.pop(number, None)
                self._trusted.add(number)

    def distrust(self, number: int) -> None:
        """The namespace is written without marks: its cache is off."""
        self._trusted.discard(number)

    def forget(self, number: int) -> None:
        """The namespace is gone."""
        self._trusted.discard(number)
        self._owed.pop(number, None)
