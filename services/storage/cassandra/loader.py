"""Reads what a step of work found missing."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Final

from libs.cassandra.joining import Joined
from libs.cassandra.session import EACH_QUORUM, LOCAL_ONE, Session
from services.storage.cassandra import layout
from services.storage.cassandra.announced import change_at
from services.storage.cassandra.checking import Checking, Replicas
from services.storage.cassandra.partition import (
    HEAD,
    Chunk,
    ChunkNumbers,
    FeedRow,
    Index,
    Loaded,
    Need,
    Partition,
    Place,
    Range,
    Rows,
    Samples,
    Span,
)
from services.storage.cassandra.statements import Statements

_TOGETHER: Final = 100
"""Rows asked for by one statement."""
_FIRST: Final = 16
"""Rows of the first reading of a range; those that follow are longer, as long as they stay below ``_RANGE_BYTES``."""
_RANGE_BYTES: Final = 1 << 20
_RANGE_ROWS: Final = 4096
_HEADS: Final = (8, 64)
"""Records that a scan reads with their heads at once: at first, and at most later."""
_KEYS: Final = 1024
_HEAD: Final = ((HEAD, b""),)


class Loader:
    """Reads of one session."""

    def __init__(self, session: Session, statements: Statements, replicas: Replicas) -> None:
        self._session = session
        self._checking = Checking(replicas)
        self._read = statements.read
        self._joined = Joined(session)

    async def load(self, need: Need, loaded: Loaded, consistency: int) -> None:
        """Adds to ``loaded`` what ``need`` says. Raises Unavailable and ChecksumMismatch."""
        match need:
            case Rows():
                await self.rows(need.place, need.rows, loaded, consistency)
            case Range():
                await self._range(need, loaded, consistency)
            case Index():
                await self._index(need, loaded, consistency)
            case Samples():
                found = await self._all("sampled", (need.number,), consistency)
                loaded.samples[need.number] = [row[0] for row in found]
            case FeedRow():
                slot = layout.feed_slot(need.sequence)
                found = await self._ask("change", (need.number, need.lane, slot, need.sequence), consistency)
                change = change_at(found, need.sequence)
                loaded.feed[need.number, need.sequence] = None if change is None else change.event
            case ChunkNumbers():
                await self._chunk_numbers(need, loaded, consistency)
            case Chunk():
                place = (need.number, need.upload, layout.chunk_part(need.place), need.place)
                # It is written once, so one replica that has it is enough; and of those that differ because one is
                # damaged the wrong one may win. What names it may have come from another data centre before it did.
                piece: list[Any] = []
                for level in (LOCAL_ONE, consistency, EACH_QUORUM):
                    piece = piece or await self._ask("chunk", place, level)
                loaded.chunks[need.number, need.upload, need.place] = piece[0][0] if piece else None

    async def rows(self, place: Place, rows: Sequence[tuple[int, bytes]], loaded: Loaded, consistency: int) -> None:
        """Reads single rows of a partition; with them its head when that is not known yet."""
        partition = loaded.partition(place)
        wanted = list(rows if partition.loaded else (*_HEAD, *rows))
        pieces = [wanted[first : first + _TOGETHER] for first in range(0, len(wanted), _TOGETHER)]
        answers = await asyncio.gather(*(self._ask("rows", (*place, piece), consistency) for piece in pieces))
        found = await self._checking.record(place, [row for answer in answers for row in answer])
        _take(partition, found, wanted)

    async def _range(self, need: Range, loaded: Loaded, consistency: int) -> None:
        partition = loaded.partition(need.place)
        span = partition.spans[need.kind]
        last = (need.kind + 1, b"") if need.end is None else (need.kind, need.end)
        limit = _next_limit(span)
        name = "slice_back" if need.reverse else "slice"
        found = await self._ask(name, (*need.place, need.kind, need.start, *last, limit), consistency)
        for _, key, value in await self._checking.record(need.place, [(need.kind, *row) for row in found]):
            if value is not None:
                span.put(key, value)
        start, end = need.start, need.end
        if len(found) == limit:
            start, end = (found[-1][0], end) if need.reverse else (start, found[-1][0] + b"\0")
        span.cover(start, end)

    async def _index(self, need: Index, loaded: Loaded, consistency: int) -> None:
        limit = min(loaded.most_heads, _HEADS[0] + 4 * len(loaded.partitions), _HEADS[1]) if need.heads else _KEYS
        shards = await asyncio.gather(
            *(
                self._ask("indexed", (need.number, shard, need.start, limit), consistency)
                for shard in range(layout.INDEX_SHARDS)
            )
        )
        full = [rows[-1][0] for rows in shards if len(rows) == limit]
        upto = min(full) if full else None
        keys = sorted(row[0] for rows in shards for row in rows if upto is None or row[0] <= upto)
        if need.heads and len(keys) > limit:
            keys, upto = keys[:limit], keys[limit - 1]
        end = None if upto is None else upto + b"\0"
        if need.end is not None and (end is None or need.end < end):
            end, keys = need.end, [key for key in keys if key < need.end]
        span = loaded.index.setdefault(need.number, Span())
        for key in keys:
            span.put(key, b"")
        span.cover(need.start, end)
        if need.heads:
            places = [(need.number, key) for key in keys]
            await asyncio.gather(
                *(self.rows(place, (), loaded, consistency) for place in places if not loaded.partition(place).loaded)
            )

    async def _chunk_numbers(self, need: ChunkNumbers, loaded: Loaded, consistency: int) -> None:
        numbers: list[int] = []
        for part in itertools.count(layout.FINISHED_PART):
            found = await self._all("chunk_numbers", (need.number, need.upload, part), consistency)
            numbers += [row[0] for row in found]
            if part >= 0 and not found:
                break
        loaded.chunk_numbers[need.number, need.upload] = sorted(numbers)

    async def _ask(self, name: str, values: Sequence[Any], consistency: int) -> list[Any]:
        alike = (name, *(tuple(value) if isinstance(value, list) else value for value in values))
        return await self._joined.execute(alike, self._read[name], values, consistency)

    async def _all(self, name: str, values: Sequence[Any], consistency: int) -> list[Any]:
        return [row async for page in self._session.pages(self._read[name], values, consistency) for row in page]


def _take(partition: Partition, rows: Sequence[Any], wanted: Sequence[tuple[int, bytes]]) -> None:
    """Notes the rows found, and of the others that they are not there."""
    found: set[tuple[int, bytes]] = set()
    for kind, key, value, rev, outbox in rows:
        if kind == HEAD:
            partition.head, partition.rev, partition.outbox = value, rev, outbox
        elif value is not None:
            partition.spans[kind].put(key, value)
            found.add((kind, key))
    for kind, key in wanted:
        if kind == HEAD:
            partition.loaded = True
        elif (kind, key) not in found:
            partition.spans[kind].put(key, None)


def _next_limit(span: Span) -> int:
    if not span.covered or not span.rows:
        return _FIRST
    size = sum(map(len, span.rows.values())) // len(span.rows) + 1
    return max(_FIRST, min(4 * len(span.rows), _RANGE_ROWS, _RANGE_BYTES // size))
