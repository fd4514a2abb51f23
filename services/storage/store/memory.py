"""The key-value store in memory: for tests and simulation, with nothing durable and everything else the same.

With ``manual`` set nothing becomes durable until :meth:`MemoryKv.sync`.
"""

import asyncio
import bisect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from libs.embedded.family import bounds
from libs.errors.errors import WellspringError
from services.storage.store import layout
from services.storage.store.local import LocalOptions, LocalStore


class MemoryFamily:
    """A sorted list of keys and a dictionary."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    def scan(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        values = self.values
        return ((key, values[key]) for key in self.scan_keys(prefix, start=start, end=end, reverse=reverse))

    def scan_keys(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[bytes]:
        low, high = bounds(prefix, start, end)
        first = bisect.bisect_left(self.keys, low)
        last = len(self.keys) if high is None else bisect.bisect_left(self.keys, high)
        found = self.keys[first : max(first, last)]
        return iter(found[::-1] if reverse else found)

    def first(
        self, prefix: bytes | None = None, *, start: bytes | None = None, end: bytes | None = None
    ) -> tuple[bytes, bytes] | None:
        return next(self.scan(prefix, start=start, end=end), None)

    def last(
        self, prefix: bytes | None = None, *, start: bytes | None = None, end: bytes | None = None
    ) -> tuple[bytes, bytes] | None:
        return next(self.scan(prefix, start=start, end=end, reverse=True), None)

    def put(self, key: bytes, value: bytes) -> None:
        """Sets one key."""
        if key not in self.values:
            bisect.insort(self.keys, key)
        self.values[key] = value

    def delete(self, key: bytes) -> None:
        """Removes one key, whether it is there or not."""
        if self.values.pop(key, None) is not None:
            del self.keys[bisect.bisect_left(self.keys, key)]

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Removes the keys in [start, end)."""
        for key in self.scan_keys(start=start, end=end):
            self.delete(key)


class MemorySnapshot:
    """Copies of families."""

    def __init__(self, families: dict[int, list[tuple[bytes, bytes]]]) -> None:
        """``families`` by ``id``."""
        self._families = families

    def get(self, family: MemoryFamily, key: bytes) -> bytes | None:
        return dict(self._families[id(family)]).get(key)

    def scan(self, family: MemoryFamily, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        return (row for row in self._families[id(family)] if row[0].startswith(prefix or b""))

    def close(self) -> None:
        self._families.clear()


class MemoryBatch:
    """Changes in order."""

    def __init__(self) -> None:
        self.frees = False
        self.changes: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self.changes)

    def put(self, family: MemoryFamily, key: bytes, value: bytes) -> None:
        self.changes.append(lambda: family.put(key, value))

    def put_many(self, family: MemoryFamily, items: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in items:
            self.put(family, key, value)

    def delete(self, family: MemoryFamily, key: bytes) -> None:
        self.changes.append(lambda: family.delete(key))

    def delete_range(self, family: MemoryFamily, start: bytes, end: bytes) -> None:
        self.changes.append(lambda: family.delete_range(start, end))


class MemoryKv:
    """A ``Kv``. With ``manual`` a batch is durable only after the next :meth:`sync`. ``failure``, when set, is raised
    by every write."""

    def __init__(self, *, manual: bool = False) -> None:
        self.failure: WellspringError | None = None
        self.closed = False
        self._families = {name: MemoryFamily() for name in layout.FAMILIES}
        self._manual = manual
        self._pending: list[asyncio.Future[None]] = []

    def family(self, name: str) -> MemoryFamily:
        return self._families[name]

    def batch(self) -> MemoryBatch:
        return MemoryBatch()

    def submit(self, batch: MemoryBatch) -> Awaitable[None]:
        if self.failure is not None:
            raise self.failure
        for change in batch.changes:
            change()
        return self._enter()

    async def durable(self) -> None:
        if self._pending:
            await self._enter()

    def snapshot(self, *names: str) -> MemorySnapshot:
        families = [self._families[name] for name in names]
        return MemorySnapshot({id(family): list(family.scan()) for family in families})

    def sync(self) -> None:
        """Makes durable all that was applied."""
        waiting, self._pending = self._pending, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        self.closed = True

    def _enter(self) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append(future)
        if not self._manual:
            asyncio.get_running_loop().call_soon(self.sync)
        return future


def memory_store(clock_us: Callable[[], int], options: LocalOptions | None = None) -> LocalStore:
    """A store in memory."""
    return LocalStore(MemoryKv(), clock_us, options)
