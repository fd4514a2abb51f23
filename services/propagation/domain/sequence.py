"""The engine's clock: one number that orders changes, leases and completions of a shard, across restarts.

Numbers are taken from memory. Ahead of them lies a durable high-water mark: before a number above it is used, a higher
mark goes into the commit at hand, so that whatever a crash leaves behind lies below the mark that the next life begins
at. Marks are raised by 2**20 at a time. `Ticks` say, to about a second, when a number was taken; `Epochs` which life of
the engine took it, and so the rendered version (epoch, sequence) of what was leased then.
"""

from bisect import bisect_right
from struct import Struct

from services.propagation.store.interface import Commit, Store

RESERVE = 1 << 20
"""Numbers set aside by one mark: a billion marks last through 2**50 leases and changes."""

_META = "meta"
_HIGH_WATER = b"high_water"
_EPOCH = "epoch"
_TICK = "tick"
_NUMBER = Struct(">Q")
_TICK_NS = 1_000_000_000


def encode(number: int) -> bytes:
    """A number as the key of a record: 8 bytes, in order."""
    return _NUMBER.pack(number)


def decode(key: bytes) -> int:
    """The number at the head of a key."""
    number: int = _NUMBER.unpack_from(key)[0]
    return number


class SequenceClock:
    """Gives the numbers. One at a shard; `begin` opens a commit that carries what the clock must make durable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        kept = store.get_record(_META, _HIGH_WATER)
        self._last = decode(kept) if kept else 0
        self._mark = self._last
        self._epochs = [(decode(key), decode(value)) for key, value in store.records(_EPOCH)]
        self._tick_ns = 0
        self._owed: dict[tuple[str, bytes], bytes] = {}
        self._epochs.append((self._last + 1, store.epoch))
        self._owed[_EPOCH, encode(self._last + 1)] = encode(store.epoch)

    @property
    def last(self) -> int:
        """The newest number given."""
        return self._last

    def next(self, now_ns: int) -> int:
        """A number above all before; `now_ns` is the wall clock."""
        self._last += 1
        if self._last >= self._mark:
            self._mark = self._last + RESERVE
            self._owed[_META, _HIGH_WATER] = encode(self._mark)
        if abs(now_ns - self._tick_ns) >= _TICK_NS:
            self._tick_ns = now_ns
            self._owed[_TICK, encode(self._last)] = encode(now_ns)
        return self._last

    def settle(self, commit: Commit) -> None:
        """Puts what is owed into the commit: before a number is used, the mark above it is written."""
        for (kind, key), value in self._owed.items():
            commit.put_record(kind, key, value)

    def settled(self) -> None:
        """The store took the commit. What it refused is owed still: no life may begin below numbers in use."""
        self._owed.clear()

    def version(self, sequence: int) -> bytes:
        """The rendered version of a lease: 16 bytes, (epoch, sequence)."""
        at = bisect_right(self._epochs, (sequence, 1 << 64)) - 1
        epoch = self._epochs[at][1] if at >= 0 else 0
        return _NUMBER.pack(epoch) + _NUMBER.pack(sequence)

    def time_ns(self, sequence: int) -> int:
        """Wall time at which the number was taken, to about a second; 0 when that is not known any more."""
        for _, value in self._store.records(_TICK, end=encode(sequence + 1), reverse=True, limit=1):
            return decode(value)
        return 0

    def ticks(self, most: int) -> list[tuple[int, int]]:
        """(number, wall time) of the newest ticks, at most so many, in the order of their numbers."""
        newest = self._store.records(_TICK, reverse=True, limit=most)
        return [(decode(key), decode(value)) for key, value in newest][::-1]

    def forget_ticks(self, before: int, commit: Commit, limit: int) -> None:
        """Drops ticks of numbers below `before`, at most `limit` of them."""
        for key, _ in self._store.records(_TICK, end=encode(before), limit=limit):
            commit.delete_record(_TICK, key)


def raise_clock(store: Store, commit: Commit, first: int) -> None:
    """The next engine over the store gives numbers above `first`, and above all that were given."""
    kept = store.get_record(_META, _HIGH_WATER)
    commit.put_record(_META, _HIGH_WATER, encode(max(first, decode(kept) if kept else 0)))
