"""The items of a record that was spread, read from all the places where they may be: cell by cell as in one.

Nothing is taken out of a place as long as a note names it, so the places are read side by side.
"""

import asyncio
import functools
from collections.abc import Sequence
from typing import Any, Final, Protocol

from services.storage.cassandra.lww.buckets import Note
from services.storage.cassandra.lww.cells import NO_CELLS, Cells, decode_cells, merged
from services.storage.cassandra.lww.record import LwwPartition
from services.storage.cassandra.partition import Place, Range

_TOGETHER: Final = 50
"""Keys asked for by one statement, of each kind."""


class Reading(Protocol):
    """The statements, as ``LwwLoader`` has them."""

    async def own_rows(self, place: Place, wanted: list[tuple[int, bytes]], consistency: int) -> Sequence[Any]: ...

    async def slice_rows(self, need: Range, limit: int, consistency: int) -> Sequence[Any]: ...

    async def bucket_rows(
        self, place: Place, run: bytes, bucket: bytes, keys: Sequence[bytes], consistency: int
    ) -> Sequence[Any]: ...

    async def bucket_slice(
        self, need: Range, run: bytes, bucket: bytes, limit: int, consistency: int
    ) -> Sequence[Any]: ...


class Places:
    """Reads of one loader."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def keys(self, partition: LwwPartition, note: Note, keys: Sequence[bytes], consistency: int) -> None:
        """Reads the items with these keys."""
        for first in range(0, len(keys), _TOGETHER):
            await self._keys(partition, note, keys[first : first + _TOGETHER], consistency)

    async def _keys(self, partition: LwwPartition, note: Note, keys: Sequence[bytes], consistency: int) -> None:
        place = partition.place
        own = self._reading.own_rows(place, [(kind, key) for kind in note.kinds for key in keys], consistency)
        by_bucket: dict[bytes, list[bytes]] = {}
        if note.run is not None:
            for key in keys:
                by_bucket.setdefault(note.run.of(key), []).append(key)
        name = b"" if note.run is None else note.run.name
        reads = [self._reading.bucket_rows(place, name, *some, consistency) for some in by_bucket.items()]
        rows, *buckets = await asyncio.gather(own, *reads)
        found: dict[bytes, list[Cells]] = {key: [] for key in keys}
        for _, key, value, more in rows:
            found[key].append(decode_cells(value, more))
        for bucket in buckets:
            for key, value in bucket:
                found[key].append(decode_cells(value, None))
        _put(partition, found)

    async def range(self, partition: LwwPartition, note: Note, need: Range, limit: int, consistency: int) -> None:
        """Reads the first items of a range, or the last ones in reverse: of one bucket at most, and of each place at
        most ``limit``."""
        bucket = b""
        if note.run is not None:
            bucket, start, end = note.run.piece(need.start, need.end, reverse=need.reverse)
            need = need._replace(start=start, end=end)
        reads: list[Any] = [
            self._reading.slice_rows(need._replace(kind=kind), limit, consistency) for kind in note.kinds
        ]
        if note.run is not None:
            reads.append(self._reading.bucket_slice(need, note.run.name, bucket, limit, consistency))
        answers = await asyncio.gather(*reads)
        start, end = need.start, need.end
        for answer in answers:
            low, high = reached(need, answer, limit)
            start = max(start, low)
            end = high if end is None or (high is not None and high < end) else end
        found: dict[bytes, list[Cells]] = {}
        for answer in answers:
            for key, value, *more in answer:
                if start <= key and (end is None or key < end):
                    found.setdefault(key, []).append(decode_cells(value, more[0] if more else None))
        _put(partition, found)
        partition.known.cover(start, end)


def _put(partition: LwwPartition, found: dict[bytes, list[Cells]]) -> None:
    for key, some in found.items():
        partition.put(key, functools.reduce(merged, some, NO_CELLS))


def reached(need: Range, found: Sequence[Any], limit: int) -> tuple[bytes, bytes | None]:
    """The part of a range that was read."""
    if len(found) < limit:
        return need.start, need.end
    return (found[-1][0], need.end) if need.reverse else (need.start, found[-1][0] + b"\0")
