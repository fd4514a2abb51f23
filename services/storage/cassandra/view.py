"""A key-value store that is what was read for one step of work; what the step writes is kept aside, to be committed.

The engine of the one-machine backend (``store/local.py``) runs on it unchanged: so both backends decide alike. A read
of what was not loaded raises ``NotLoaded``; the step is then loaded further and run again on a fresh view.
"""

from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Final

from libs.embedded.family import bounds
from libs.errors.errors import WellspringError
from services.storage.cassandra.family import Family, Op
from services.storage.cassandra.partition import (
    HISTORY,
    ITEMS,
    TOKENS,
    TOMBS,
    Chunk,
    ChunkNumbers,
    FeedRow,
    Index,
    Loaded,
    Missing,
    NotLoaded,
    Partition,
    Place,
    Range,
    Rows,
    Samples,
)
from services.storage.cassandra.wanted import remembered
from services.storage.domain.namespace import Namespace
from services.storage.store import catalog, layout
from services.storage.store.ledger import Account, usage_key

_FINISHED = 0xFFFFFFFF
_KINDS: Final = {"items": ITEMS, "tombs": TOMBS, "history": HISTORY}
_KEPT = 10_000
"""Namespaces whose rows are kept."""


class Records(Family):
    """The heads of records, by namespace and key; scanned along the index."""

    def get(self, key: bytes) -> bytes | None:
        place = (_number(key), key[4:])
        partition = self.view.partition(place)
        if not partition.loaded:
            raise NotLoaded(Rows(place, ()))
        return partition.head

    def scan(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        low, high = bounds(prefix, start, end)
        for key in self._indexed(low, high, heads=True):
            head = self.get(key)
            if head is not None:
                yield key, head

    def keys(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[bytes]:
        return self._indexed(low, high, heads=False)

    def _indexed(self, low: bytes, high: bytes | None, *, heads: bool) -> Iterator[bytes]:
        number = _number(low)
        end = high[4:] if high is not None and _number(high) == number else None
        span = self.view.loaded.index.get(number)
        if span is None:
            raise NotLoaded(Index(number, low[4:], end, heads))
        for key in span.scan(low[4:], end, False):
            if isinstance(key, Missing):
                raise NotLoaded(Index(number, key.start, end, heads))
            yield low[:4] + key

    def apply(self, key: bytes, value: bytes | None) -> None:
        self.view.partition((_number(key), key[4:])).head = value


class PartRows(Family):
    """Rows that lie in their record's partition: items, tombstones, earlier versions."""

    def __init__(self, view: "View", name: str) -> None:
        super().__init__(view, name)
        self.kind = _KINDS[name]

    def get(self, key: bytes) -> bytes | None:
        place, rest = split(key)
        span = self.view.partition(place).spans[self.kind]
        if not span.known(rest):
            raise NotLoaded(Rows(place, ((self.kind, rest),)))
        return span.rows.get(rest)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        place, _ = split(keys[0])
        span = self.view.partition(place).spans[self.kind]
        rests = [split(key)[1] for key in keys]
        missing = tuple((self.kind, rest) for rest in rests if not span.known(rest))
        if missing:
            raise NotLoaded(Rows(place, missing))
        return [span.rows.get(rest) for rest in rests]

    def keys(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[bytes]:
        place, start = split(low)
        prefix = low[: len(low) - len(start)]
        end = high[len(prefix) :] if high is not None and high.startswith(prefix) else None
        for key in self.view.partition(place).spans[self.kind].scan(start, end, reverse):
            if isinstance(key, Missing):
                raise NotLoaded(Range(place, self.kind, key.start, key.end, reverse))
            yield prefix + key

    def apply(self, key: bytes, value: bytes | None) -> None:
        place, rest = split(key)
        self.view.partition(place).span(self.kind).put(rest, value)


class Tokens(Family):
    """Remembered mutations; those older than the window are forgotten, whether they are still there or not."""

    def get(self, key: bytes) -> bytes | None:
        if len(key) == layout.TOKEN_HEAD:
            return None  # of puts that share a row: none do here
        place, rest = (_number(key), key[28:]), key[4:28]
        span = self.view.partition(place).spans[TOKENS]
        if not span.known(rest):
            raise NotLoaded(Rows(place, ((TOKENS, rest),)))
        row = span.rows.get(rest)
        if row is None or int.from_bytes(rest[:8], "big") < self.view.forgotten_us:
            return None
        row, sequence, lane = remembered(place, row)
        self.view.lanes[sequence] = lane
        return row

    def last(
        self, prefix: bytes | None = None, *, start: bytes | None = None, end: bytes | None = None
    ) -> tuple[bytes, bytes] | None:
        # Another server may have seen any token: none is so new that it need not be looked up.
        return layout.token_key(_number(prefix or bytes(4)), (1 << 64) - 1, b"\xff" * 16, b""), b""


class Feed(Family):
    """Single changes, for what became of a token."""

    def get(self, key: bytes) -> bytes | None:
        number, sequence = _number(key), layout.feed_sequence(key)
        lane = self.view.lanes.get(sequence)
        if lane is None:
            return None
        if (number, sequence) not in self.view.loaded.feed:
            raise NotLoaded(FeedRow(number, lane, sequence))
        return self.view.loaded.feed[number, sequence]

    def keys(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[bytes]:
        # Of what lies at or behind a change no more than the change is asked for: each has a row of its own here.
        return iter((low,) if len(low) > len(layout.prefix(0)) and not reverse else ())


class SampleKeys(Family):
    """The sampled record keys."""

    def keys(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[bytes]:
        number = _number(low)
        found = self.view.loaded.samples.get(number)
        if found is None:
            raise NotLoaded(Samples(number))
        return iter([low[:4] + key for key in found])


class Due(Family):
    """The entries that the sweeper works on in this step."""

    def keys(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[bytes]:
        return iter([key for key in self.view.due if low <= key and (high is None or key < high)])

    def apply(self, key: bytes, value: bytes | None) -> None:
        if value is None and key in self.view.due:
            self.view.due.remove(key)


class Chunks(Family):
    """Pieces of big values."""

    def get(self, key: bytes) -> bytes | None:
        place = (_number(key), key[4:20], int.from_bytes(key[20:], "big"))
        if place not in self.view.loaded.chunks:
            raise NotLoaded(Chunk(*place))
        return self.view.loaded.chunks[place]

    def keys(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[bytes]:
        number, upload = _number(low), low[4:20]
        found = self.view.loaded.chunk_numbers.get((number, upload))
        if found is None:
            raise NotLoaded(ChunkNumbers(number, upload))
        return iter([layout.chunk_key(number, upload, index) for index in found])


class Meta(Family):
    """The namespaces of this step, and what they hold."""

    def get(self, key: bytes) -> bytes | None:
        return self.view.meta.get(key)

    def keys(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[bytes]:
        return iter([key for key in sorted(self.view.meta) if low <= key and (high is None or key < high)])

    def apply(self, key: bytes, value: bytes | None) -> None:
        if value is not None:
            self.view.meta[key] = value


_FAMILIES: Final[dict[str, Callable[["View", str], Family]]] = {
    "records": Records,
    **dict.fromkeys(_KINDS, PartRows),
    "tokens": Tokens,
    "feed": Feed,
    "samples": SampleKeys,
    "due": Due,
    "chunks": Chunks,
    "meta": Meta,
}


class Batch:
    """Changes in order."""

    def __init__(self) -> None:
        self.frees = False
        self.ops: list[tuple[Family, bytes, bytes | None]] = []

    def __len__(self) -> int:
        return len(self.ops)

    def put(self, family: Family, key: bytes, value: bytes) -> None:
        self.ops.append((family, key, value))

    def put_many(self, family: Family, items: Iterable[tuple[bytes, bytes]]) -> None:
        self.ops += [(family, key, value) for key, value in items]

    def delete(self, family: Family, key: bytes) -> None:
        self.ops.append((family, key, None))

    def delete_range(self, family: Family, start: bytes, end: bytes) -> None:
        raise AssertionError("no step deletes a range of a family")


class _Done:
    """What ends at once when it is awaited: nothing happens between a step's parts."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


class View:
    """A ``Kv`` over what was loaded. ``ops`` are what the step wrote."""

    failure: WellspringError | None = None

    def __init__(
        self,
        loaded: Loaded,
        spaces: Sequence[tuple[Namespace, Account]],
        forgotten_us: int,
        due: Iterable[bytes] = (),
        *,
        reads_only: bool = False,
    ) -> None:
        """``spaces``: the namespaces that the step works on, with what they hold. Tokens from before ``forgotten_us``
        are not remembered. ``due``: entries for the sweeper. ``reads_only``: the step writes nothing, and sees what was
        loaded itself instead of a copy."""
        self._reads_only = reads_only
        self.loaded = loaded
        self.forgotten_us = forgotten_us
        self.due = sorted(due)
        self.lanes: dict[int, int] = {}
        self.ops: list[Op] = []
        self.meta: dict[bytes, bytes] = {}
        self._partitions: dict[Place, Partition] = {}
        for space, account in spaces:
            self.meta[layout.META_NAMESPACE + space.name.encode()] = _row(space)
            self.meta[usage_key(space.number)] = account.usage_row()

    def partition(self, place: Place) -> Partition:
        """A partition, of a step that writes its own copy."""
        found = self._partitions.get(place)
        if found is None:
            loaded = self.loaded.partition(place)
            found = self._partitions[place] = loaded if self._reads_only else loaded.fork()
        return found

    def family(self, name: str) -> Family:
        return _FAMILIES[name](self, name)  # not kept: two that hold each other wait for the collector

    def batch(self) -> Batch:
        return Batch()

    def submit(self, batch: Batch) -> Awaitable[None]:
        assert not self._reads_only, "a step that only reads"
        for family, key, value in batch.ops:
            family.apply(key, value)
            self.ops.append(Op(family.name, key, value))
        return _Done()

    async def durable(self) -> None:
        """What was loaded is durable."""

    def snapshot(self, *names: str) -> Any:
        """Families as of one moment: this backend has none."""
        raise AssertionError("no step takes a snapshot")

    def close(self) -> None:
        """Nothing to close."""


_rows: dict[int, tuple[Namespace, bytes]] = {}


def _row(space: Namespace) -> bytes:
    """The row of a namespace, made once for each of its states."""
    found = _rows.get(space.number)
    if found is None or found[0] is not space:
        if len(_rows) >= _KEPT:
            _rows.clear()
        found = _rows[space.number] = (space, catalog.encode(space))
    return found[1]


def split(key: bytes) -> tuple[Place, bytes]:
    """The partition of a row, and its key in there."""
    record, at = layout.unescaped(key, 4)
    return (_number(key), record), key[at:]


def _number(key: bytes) -> int:
    return int.from_bytes(key[:4], "big")
