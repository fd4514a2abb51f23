"""One step's writes made durable: first what may be there for nothing, then the record in one conditional batch, then
what may come late.

1. The sweeper's entries, the record's key in the index, marks of finished uploads and the intent in the feed. None of
   them does harm when the record is not written after all.
2. The record's rows, its head, its remembered token and its outbox, all or nothing, if ``rev`` is still the one read.
3. The intent is settled, what the step did away with goes. A crash before it leaves work to readers and the sweeper.
"""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Any, Final

from libs.cassandra.errors import OutcomeUnknown, unknown
from libs.cassandra.session import LOCAL_QUORUM, Session
from libs.errors.errors import FailedPrecondition, Unavailable, WellspringError
from services.storage.cassandra import outbox
from services.storage.cassandra.dues import Dues
from services.storage.cassandra.family import Op
from services.storage.cassandra.lanes import Intent, Lane
from services.storage.cassandra.layout import chunk_part, index_shard
from services.storage.cassandra.loader import Loader
from services.storage.cassandra.outbox import Outbox
from services.storage.cassandra.partition import HEAD, HISTORY, ITEMS, TOKENS, TOMBS, Loaded, Partition, Place
from services.storage.cassandra.scope import COMMIT, Scope
from services.storage.cassandra.statements import Statements
from services.storage.cassandra.sums import HEAD_AT, ROW_AT, Sums
from services.storage.cassandra.view import split
from services.storage.store import layout as keys

_log = logging.getLogger(__name__)
MAX_ROWS: Final = 20_000
"""Rows of one conditional batch; the protocol has 65,535 statements at most."""
MAX_BYTES: Final = 12 << 20
"""Bytes of one conditional batch; a node takes a mutation of 16 MiB at most."""
DEAD_TTL_S: Final = 30 * 86_400
"""After which nothing is left of a record that has nothing any more: its last change has long been settled."""
_KINDS: Final = {"items": ITEMS, "tombs": TOMBS, "history": HISTORY}


class Change:
    """What a step wrote, by table. ``sequence`` is the step's own, whether it is a change or not."""

    def __init__(self, ops: Sequence[Op], sequence: int) -> None:
        self.sequence = sequence
        self.place: Place | None = None
        self.head: bytes | None = None
        self.has_head = False
        self.event: bytes | None = None
        self.rows: dict[tuple[int, bytes], bytes | None] = {}
        self.token: tuple[bytes, bytes] | None = None
        self.dues: list[bytes] = []
        self.worked: list[bytes] = []
        self.chunks: list[tuple[bytes, bytes]] = []
        self.dropped: list[bytes] = []
        self.sampled: bool | None = None
        for op in ops:
            self._take(op)

    def _take(self, op: Op) -> None:
        family, key, value = op
        if family in _KINDS:
            place, rest = split(key)
            self._at(place)
            self.rows[_KINDS[family], rest] = value
        elif family == "records":
            self._at((int.from_bytes(key[:4], "big"), key[4:]))
            self.head, self.has_head = value, True
        elif family == "tokens":
            self._at((int.from_bytes(key[:4], "big"), key[28:]))
            if value is not None:
                self.token = (key[4:28], value)
        elif family == "feed" and value is not None:
            assert self.event is None, "a step is one change of one record"
            assert keys.feed_sequence(key) == self.sequence
            self.event = value
        elif family == "due":
            (self.worked if value is None else self.dues).append(key)
        elif family == "chunks":
            if value is None:
                self.dropped.append(key)
            else:
                self.chunks.append((key, value))
        elif family == "samples":
            self.sampled = value is not None

    def check_size(self) -> None:
        """Raises MutationTooLarge."""
        size = len(self.head or b"") + sum(len(key) + len(value or b"") for (_, key), value in self.rows.items())
        if len(self.rows) > MAX_ROWS or size > MAX_BYTES:
            raise MutationTooLarge(
                f"the mutation changes {len(self.rows)} rows of {size} bytes, what it keeps of the past included; at"
                f" most {MAX_ROWS} rows and {MAX_BYTES} bytes are written as one: take it in parts"
            )

    def _at(self, place: Place) -> None:
        assert self.place in (None, place), "a step writes one record"
        self.place = place


class MutationTooLarge(FailedPrecondition):
    """A mutation changes more, its past included, than the store takes as one."""

    default_reason = "MUTATION_TOO_LARGE"


class Committer:
    """Writes of one session."""

    def __init__(self, session: Session, statements: Statements, loader: Loader, dues: Dues, token_ttl_s: int) -> None:
        """``token_ttl_s``: after which a remembered token is gone."""
        self._session = session
        self._write = statements.write
        self._loader = loader
        self._dues = dues
        self._token_ttl_s = token_ttl_s

    async def plain(self, change: Change) -> None:
        """A step without a record: each of its writes for itself."""
        await self._dues.enter(change.dues)
        for key, value in change.chunks:
            await self.put_chunk(key, value)
        await self.drop_chunks(change.dropped)
        await self._dues.drop(change.worked)

    async def record(
        self, change: Change, loaded: Loaded, lane: Lane, announced: "asyncio.Future[Intent] | None", scope: Scope
    ) -> bool:
        """A step that writes a record; False when another one came before it and nothing was written. Raises
        Unavailable (nothing was written) and OutcomeUnknown."""
        assert change.place is not None
        partition = loaded.partition(change.place)
        intent = await self._prepare(change, partition, lane, announced, scope)
        try:
            applied = await self._take(change, partition, lane, intent, scope)
            if applied:
                await self._finish(change, partition, lane, intent)
            elif intent is not None:
                await late(lane.void(intent))
            return applied
        finally:
            if intent is not None:
                lane.done(intent)

    async def _prepare(
        self,
        change: Change,
        partition: Partition,
        lane: Lane,
        announced: "asyncio.Future[Intent] | None",
        scope: Scope,
    ) -> Intent | None:
        number, record = change.place or (0, b"")
        work: list[Any] = [self._dues.enter(change.dues)]
        work += [self.put_chunk(key, value) for key, value in change.chunks]
        if change.head is not None and partition.head is None:
            key = (number, index_shard(record), record, change.sequence)
            work.append(self._session.execute(self._write["index"], key, scope.plain))
            if change.sampled:
                work.append(self._plain("sample", (number, record, change.sequence)))
        before = outbox.decode(partition.outbox)
        if announced is not None and before is not None and not lane.settled(before.lane, before.sequence):
            # Whoever announced it may not have come to settle it, and the outbox will be gone.
            work.append(lane.settle(Intent(number, before.lane, before.sequence), before.event))
        if announced is None:
            await asyncio.gather(*work)
            return None
        writing = lane.write(announced)
        await asyncio.gather(writing, *work)
        return announced.result()

    async def _take(
        self, change: Change, partition: Partition, lane: Lane, intent: Intent | None, scope: Scope
    ) -> bool:
        """The conditional batch."""
        place = change.place or (0, b"")
        rev = change.sequence.to_bytes(8, "big") + secrets.token_bytes(8)
        box = partition.outbox
        if intent is not None and change.event is not None:
            box = outbox.encode(Outbox(change.sequence, intent.lane, change.event))
        head = change.head if change.has_head else partition.head
        sums = Sums(place)
        own = None if head is None else sums.seal(HEAD, b"", head, HEAD_AT)
        values = (own, rev, box, *place, partition.rev)
        writes: list[tuple[Any, Sequence[Any]]] = [(self._write["take"], values)]
        if head is None:
            writes = [(self._write["take_dead"], (DEAD_TTL_S, *values))]
        for (kind, row_key), value in change.rows.items():
            if value is not None:
                sealed = sums.seal(kind, row_key, value, ROW_AT)
                writes.append((self._write["put_row"], (sealed, *place, kind, row_key)))
            else:
                writes.append((self._write["drop_row"], (*place, kind, row_key)))
        if change.token is not None:
            token, row = change.token
            remembered = row + (intent.lane if intent is not None else 0).to_bytes(8, "big")
            writes.append((self._write["put_token"], (self._token_ttl_s, remembered, *place, TOKENS, token)))
        try:
            rows = await self._session.batch(writes, COMMIT, serial=scope.serial)
        except OutcomeUnknown:
            return await self._resolve(place, rev, change, scope)
        return bool(rows[0][0])

    async def _resolve(self, place: Place, rev: bytes, change: Change, scope: Scope) -> bool:
        """What became of a batch whose answer was lost. Raises OutcomeUnknown when it may still happen."""
        loaded = Loaded()
        wanted = ((TOKENS, change.token[0]),) if change.token is not None else ()
        try:
            await self._loader.rows(place, wanted, loaded, scope.serial)
        except Unavailable:
            raise unknown() from None
        partition = loaded.partition(place)
        if partition.rev == rev:
            return True
        if change.token is not None:
            row = partition.spans[TOKENS].rows.get(change.token[0])
            if row is not None:
                return row[:-8] == change.token[1]
        raise unknown()

    async def _finish(self, change: Change, partition: Partition, lane: Lane, intent: Intent | None) -> None:
        number, record = change.place or (0, b"")
        work: list[Any] = [self._dues.drop(change.worked), self.drop_chunks(change.dropped)]
        if intent is not None and change.event is not None:
            work.append(lane.settle(intent, change.event))
        if change.has_head and change.head is None:
            work.append(self._plain("unindex", (change.sequence, number, index_shard(record), record)))
            if change.sampled is False:
                work.append(self._plain("unsample", (change.sequence, number, record)))
        await asyncio.gather(*(late(one) for one in work))

    async def put_chunk(self, key: bytes, value: bytes) -> None:
        """Writes a piece of a big value, or the mark that it is finished. Raises Unavailable."""
        number, upload, index = int.from_bytes(key[:4], "big"), key[4:20], int.from_bytes(key[20:], "big")
        await self._plain("put_chunk", (number, upload, chunk_part(index), index, value))

    async def drop_chunks(self, dropped: Sequence[bytes]) -> None:
        """Removes whole uploads, their last part first: what is left of one can always be found from its beginning."""
        parts: dict[tuple[int, bytes], set[int]] = {}
        for key in dropped:
            whole = (int.from_bytes(key[:4], "big"), key[4:20])
            parts.setdefault(whole, set()).add(chunk_part(int.from_bytes(key[20:], "big")))
        for (number, upload), some in parts.items():
            for part in sorted(some, reverse=True):
                await self._plain("drop_chunks", (number, upload, part))
            await self._plain("drop_upload", (number, upload))

    async def _plain(self, name: str, values: Sequence[Any]) -> None:
        await self._session.execute(self._write[name], values, LOCAL_QUORUM)


async def late(work: Any) -> None:
    """What readers and the sweeper make up for when it fails."""
    try:
        await work
    except WellspringError as error:
        _log.warning("what follows a write is left to others", extra={"reason": error.reason})
