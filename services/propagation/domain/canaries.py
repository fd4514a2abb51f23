"""Canaries: changes without effect that a source sends now and then, so that its silence is noticed.

A change whose cause is of the kind `canary` begins no root; its attribute `source` names the source whose sign of life
it is. A source is overdue when two of its periods went by without one: since its last canary, or since it was first
watched.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.propagation.domain.change import Change
from services.propagation.domain.sequence import decode, encode
from services.propagation.store.interface import Commit, Store

CANARY = "canary"
"""The kind of cause."""
SOURCE = "source"
"""The attribute that names the source."""
PERIODS = 2
_KIND = "canary"
_SINCE = b"since/"


@dataclass(frozen=True, slots=True)
class SourceState:
    """`last_ns` is 0 before the first canary; times are wall-clock nanoseconds."""

    name: str
    last_ns: int
    overdue: bool


class Canaries:
    """The watched sources of a shard. `periods_s` says how often each sends a canary."""

    def __init__(self, store: Store, periods_s: Mapping[str, float]) -> None:
        self._store = store
        self._periods_s = dict(periods_s)
        self._last_ns = {name: _read(store, name.encode()) for name in periods_s}
        self._since_ns = {name: _read(store, _SINCE + name.encode()) for name in periods_s}
        self.unwatched = 0
        """Canaries of sources that nobody watches, since the start."""

    @property
    def watched(self) -> frozenset[str]:
        """Names of the sources."""
        return frozenset(self._periods_s)

    def begin(self, commit: Commit, now_ns: int) -> None:
        """Notes since when sources are watched that were not before."""
        for name, since_ns in self._since_ns.items():
            if not since_ns:
                self._since_ns[name] = now_ns
                commit.put_record(_KIND, _SINCE + name.encode(), encode(now_ns))

    def note(self, commit: Commit, now_ns: int, change: Change) -> bool:
        """Takes a canary in; False when its source is not watched."""
        name = dict(change.attributes).get(SOURCE, "")
        if name not in self._periods_s:
            self.unwatched += 1
            return False
        self._last_ns[name] = max(now_ns, self._last_ns[name])
        commit.put_record(_KIND, name.encode(), encode(self._last_ns[name]))
        return True

    def states(self, now_ns: int) -> list[SourceState]:
        """Of each watched source, by name."""
        return [
            SourceState(name, self._last_ns[name], self._is_overdue(name, now_ns)) for name in sorted(self._periods_s)
        ]

    def _is_overdue(self, name: str, now_ns: int) -> bool:
        since_ns = max(self._last_ns[name], self._since_ns[name]) or now_ns
        return now_ns - since_ns > PERIODS * self._periods_s[name] * 1e9


def _read(store: Store, key: bytes) -> int:
    kept = store.get_record(_KIND, key)
    return decode(kept) if kept is not None else 0
