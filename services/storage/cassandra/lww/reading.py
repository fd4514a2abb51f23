"""Reads what a step of work on an LWW record found missing: its cells, as the engine's rows afterwards."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from libs.cassandra.gathering import Gathered, Kind
from libs.cassandra.session import Session
from services.storage.cassandra.checking import Replicas
from services.storage.cassandra.layout import record_key
from services.storage.cassandra.loader import Loader
from services.storage.cassandra.lww import own
from services.storage.cassandra.lww.buckets import NOTE, decode_note
from services.storage.cassandra.lww.cells import decode_cells, decode_head, decode_range
from services.storage.cassandra.lww.places import Places, reached
from services.storage.cassandra.lww.record import LwwPartition
from services.storage.cassandra.partition import HEAD, ITEMS, TOMBS, Loaded, Place, Range
from services.storage.cassandra.statements import Statements

_FIRST: Final = 16
"""Items that the first reading of a record brings with its own cells."""
_FEW: Final = 16
"""Rows that are asked for together with the record's own cells."""
_TOGETHER: Final = 100
_RANGE_BYTES: Final = 1 << 20
_RANGE_ROWS: Final = 4096
_PROFILED: Final = 20_000
"""Items of a record that are counted; of a wider one it is known that it is wide."""
_OWN: Final = ((HEAD, b""), (ITEMS, b""))


class LwwLoader(Loader):
    """Reads of one session. ``whole``: always all items of a record."""

    def __init__(
        self,
        session: Session,
        statements: Statements,
        replicas: Replicas,
        clock_us: Callable[[], int],
        grace_us: int,
        *,
        whole: bool = False,
    ) -> None:
        super().__init__(session, statements, replicas)
        self._replicas = replicas
        self._clock_us = clock_us
        self._grace_us = grace_us
        self._whole = whole
        self._places = Places(self)
        first = Kind(statements.read["lww_begin"], statements.read["lww_begin_many"], _key)
        self._first = Gathered(session, first)

    async def rows(self, place: Place, rows: Sequence[tuple[int, bytes]], loaded: Loaded, consistency: int) -> None:
        partition = self.partition(place, loaded)
        wanted = list(dict.fromkeys((ITEMS, key) if kind == TOMBS else (kind, key) for kind, key in rows))
        if not wanted and not partition.head_known:
            self._begun(partition, await self.begin(place, consistency))
        else:
            if not partition.head_known:
                wanted = [*_OWN, *(one for one in wanted if one not in _OWN)]
                if len(wanted) > _FEW:
                    # Of a record that is not there, nothing of what comes after its own cells needs to be looked for.
                    wanted.sort(key=lambda one: one[0] == ITEMS and one[1] != b"")
                    own = sum(one[0] != ITEMS or one[1] == b"" for one in wanted)
                    await self._some(partition, wanted[:own], consistency)
                    wanted = [one for one in wanted[own:] if not partition.known.known(one[1])]
            if partition.note is not None:
                wanted = [one for one in wanted if one[0] != ITEMS]
            await self._some(partition, wanted, consistency)
        if partition.note is not None:
            keys = [b"", *(key for kind, key in rows if kind in (ITEMS, TOMBS))]
            missing = [key for key in dict.fromkeys(keys) if not partition.known.known(key)]
            await self._places.keys(partition, partition.note, missing, consistency)
        if self._whole:
            await self.items(partition, b"", None, consistency)
        partition.derive(self._clock_us())

    async def _some(self, partition: LwwPartition, wanted: Sequence[tuple[int, bytes]], consistency: int) -> None:
        for first in range(0, len(wanted), _TOGETHER):
            piece = list(wanted[first : first + _TOGETHER])
            found = await self._ask("lww_rows", (*partition.place, piece), consistency)
            self.take(partition, await self.checked(partition.place, found), piece)

    async def items(self, partition: LwwPartition, start: bytes, end: bytes | None, consistency: int) -> None:
        """Reads all cells of the items in [start, end), of the first 20,000 of the record."""
        while len(partition.cells) < _PROFILED:
            missing = next((key for key in partition.known.scan(start, end, False) if not isinstance(key, bytes)), None)
            if missing is None:
                return
            await self._slice(partition, Range(partition.place, ITEMS, missing.start, end, False), consistency)

    async def _range(self, need: Range, loaded: Loaded, consistency: int) -> None:
        partition = self.partition(need.place, loaded)
        if need.kind in (ITEMS, TOMBS):
            await self._slice(partition, need, consistency)
            partition.derive(self._clock_us())
            return
        span = partition.spans[need.kind]
        limit = max(_FIRST, min(4 * len(span.rows), _RANGE_ROWS))
        found = await self.slice_rows(need, limit, consistency)
        for key, value, _ in found:
            span.put(key, value)
        span.cover(*reached(need, found, limit))

    async def begin(self, place: Place, consistency: int) -> Sequence[Any]:
        """The record's own cells and its first items, by one statement for all records that are asked for at once."""
        number, record = place
        return await self.checked(place, await self._first.read(record, consistency, (number,), (_FIRST + 1,)))

    async def checked(self, place: Place, found: Sequence[Any]) -> Sequence[Any]:
        """Rows as :meth:`take` wants them."""
        return await own.checked(self._replicas, place, await self._checking.lww(place, found))

    def begun(self, place: Place, found: Sequence[Any], loaded: Loaded) -> None:
        """Takes in what :meth:`begin` brought."""
        partition = self.partition(place, loaded)
        self._begun(partition, found)
        partition.derive(self._clock_us())

    @classmethod
    def _begun(cls, partition: LwwPartition, found: Sequence[Any]) -> None:
        cls.take(partition, found, _OWN)
        if partition.note is not None:
            return
        keys = [key for kind, key, _, _ in found if kind == ITEMS]
        partition.known.cover(b"", keys[-1] + b"\0" if len(found) > _FIRST and keys else None)

    async def _slice(self, partition: LwwPartition, need: Range, consistency: int) -> None:
        many = len(partition.cells)
        limit = _FIRST
        if many and partition.known.covered:
            limit = max(_FIRST, min(4 * many, _RANGE_ROWS, _RANGE_BYTES // (partition.size // many + 1)))
        need = need._replace(kind=ITEMS)
        if partition.note is not None:
            await self._places.range(partition, partition.note, need, limit, consistency)
            return
        found = await self.slice_rows(need, limit, consistency)
        for key, value, more in found:
            partition.put(key, decode_cells(value, more))
        partition.known.cover(*reached(need, found, limit))

    async def slice_rows(self, need: Range, limit: int, consistency: int) -> list[Any]:
        """(key, value, more) of the rows."""
        last = (need.kind + 1, b"") if need.end is None else (need.kind, need.end)
        name = "lww_slice_back" if need.reverse else "lww_slice"
        found = await self._ask(name, (*need.place, need.kind, need.start, *last, limit), consistency)
        return [row[1:] for row in await self.checked(need.place, [(need.kind, *row) for row in found])]

    async def own_rows(self, place: Place, wanted: list[tuple[int, bytes]], consistency: int) -> Sequence[Any]:
        """(kind, key, value, more) of rows of the record's own partition."""
        return await self.checked(place, await self._ask("lww_rows", (*place, wanted), consistency))

    async def bucket_rows(
        self, place: Place, run: bytes, bucket: bytes, keys: Sequence[bytes], consistency: int
    ) -> Any:
        """(key, value) of items in a bucket."""
        wanted = [(ITEMS, key) for key in keys]
        found = await self._ask("spread_rows", (*place, run, bucket, wanted), consistency)
        return await self._checking.spread(place, run, bucket, [row[1:] for row in found])

    async def bucket_slice(self, need: Range, run: bytes, bucket: bytes, limit: int, consistency: int) -> Any:
        """The same of a range."""
        last = (ITEMS + 1, b"") if need.end is None else (ITEMS, need.end)
        name = "spread_slice_back" if need.reverse else "spread_slice"
        values = (*need.place, run, bucket, ITEMS, need.start, *last, limit)
        return await self._checking.spread(need.place, run, bucket, await self._ask(name, values, consistency))

    def partition(self, place: Place, loaded: Loaded) -> LwwPartition:
        """What was read of a record, empty as long as nothing was."""
        found = loaded.partitions.get(place)
        if not isinstance(found, LwwPartition):
            found = loaded.partitions[place] = LwwPartition(place, self._grace_us)
        return found

    @staticmethod
    def take(partition: LwwPartition, found: Sequence[Any], wanted: Sequence[tuple[int, bytes]]) -> None:
        """Notes the rows found, and of the others that they are not there."""
        there: Mapping[tuple[int, bytes], tuple[bytes | None, Mapping[bytes, bytes] | None]] = {
            (kind, key): (value, more) for kind, key, value, more in found
        }
        for kind, key in dict.fromkeys((*there, *wanted)):
            value, more = there.get((kind, key), (None, None))
            if kind == HEAD:
                ranges = {name: decode_range(cell) for name, cell in (more or {}).items() if name != NOTE}
                note = more.get(NOTE) if more else None
                head = None if value is None else decode_head(value)
                partition.set_head(head, ranges, None if note is None else decode_note(note))
            elif kind == ITEMS:
                if partition.note is None:  # else they are in other places
                    partition.put(key, decode_cells(value, more))
            else:
                partition.spans[kind].put(key, value)


def _key(before: tuple[int], record: bytes) -> bytes:
    return record_key(*before, record)
