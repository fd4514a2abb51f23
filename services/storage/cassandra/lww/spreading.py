"""Wide LWW records are spread over buckets while they are read and written (``buckets.py`` says how they then lie).

1. The record is looked through, a run is planned, and the note says: items land elsewhere from now on, what is frozen
   is going into this run. Writers that have not seen it go on where they were; they remove nothing in the run.
2. After ``WAIT_US`` nobody is left who has not seen it. What is frozen is copied, with the run before, each cell at its
   time, to all replicas; then the note says that the run is where they are. Should somebody else do the same at the
   same time, it comes out the same.
3. After ``WAIT_US`` nobody reads from where they were, and that is removed as a whole.

Each step is taken by a sweeper, and each can be taken again: the note says which one is next.
"""

import dataclasses
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from libs.cassandra.session import ALL, EACH_QUORUM, LOCAL_QUORUM, Session, Statement
from libs.errors.errors import Unavailable, WellspringError
from services.storage.cassandra.dues import Dues
from services.storage.cassandra.lww.buckets import (
    LAST_LANDING,
    NOTE,
    Note,
    Run,
    encode_note,
    encode_starts,
    landing_of,
)
from services.storage.cassandra.lww.record import LwwPartition
from services.storage.cassandra.partition import FIRST_LANDING, HEAD, ITEMS, Place
from services.storage.cassandra.statements import Statements
from services.storage.store import layout as keys

_log = logging.getLogger(__name__)
WAIT_US: Final = 4 * 3600 * 1_000_000
"""Longer than any write is on its way, and than nodes keep what others missed (3 hours by default)."""
_AGAIN_US: Final = 10 * 60 * 1_000_000
"""When a step that a node was missing for is tried again."""
_MOST_BUCKETS: Final = 64
_PAGES: Final = (16, 1000)
"""Rows read at once, which may be of 1 MiB each: at first, and at most later."""
_BATCH_BYTES: Final = 1 << 20
_BATCH_ROWS: Final = 200
_MARKS: Final = 4096
_GONE: Final = 1 << 62
"""Above every time that a cell can have been stamped with."""


@dataclasses.dataclass(frozen=True, slots=True)
class BucketSize:
    """A record is spread when it has items for two buckets: this many, or so many bytes."""

    items: int = 5_000
    size_bytes: int = 8 << 20


class Spreading:
    """Spreads the records of one session."""

    def __init__(
        self, session: Session, statements: Statements, dues: Dues, clock_us: Callable[[], int], size: BucketSize
    ) -> None:
        self._session = session
        self._read = statements.read
        self._write = statements.write
        self._dues = dues
        self._clock_us = clock_us
        self._size = size

    async def begin(self, partition: LwwPartition, now_us: int) -> tuple[int, int]:
        """How many buckets a record has, and will have. It is left as it is when it has not enough for two, when some
        of its items are ordered (by ``older_than``), or while it is being spread. ``now_us``: from before it was read.
        Raises Unavailable."""
        note = partition.note
        has = 1 if note is None else note.buckets
        landing = landing_of(note)
        if note is not None and (note.frozen or note.leaving):
            await self.step(partition, now_us)
            return has, has if note.building is None else len(note.building.starts)
        early = note is not None and now_us < note.agreed_us + WAIT_US  # somebody may still end what was before
        if early or landing >= LAST_LANDING:
            return has, has
        run = await self._planned(partition.place, note)
        if run is None:
            return has, has
        stamp = now_us if note is None else max(now_us, note.stamp + 1)
        following = FIRST_LANDING if note is None else landing + 1
        next_note = Note(stamp, 0, following, (landing,), (), None if note is None else note.run, run)
        await self._enter(partition.place, self._clock_us() + _AGAIN_US)  # by then the note is there, or never will be
        values = (*partition.place, run.name, encode_starts(run))
        await self._session.execute(self._write["run"], values, EACH_QUORUM)
        await self._agree(partition.place, next_note)
        return has, len(run.starts)

    async def step(self, partition: LwwPartition, now_us: int) -> None:
        """Takes the next step of a record that is being spread, if its time has come. ``now_us`` is from before it was
        read: so who stands still half way writes a note that is older than those of others since."""
        note = partition.note
        if note is None or not (note.frozen or note.leaving):
            return
        following = max(now_us, note.stamp + 1)
        try:
            if note.agreed_us and now_us < note.agreed_us + WAIT_US:
                await self._enter(partition.place, note.agreed_us + WAIT_US)
                return
            await self._enter(partition.place, now_us + WAIT_US)
            if not note.agreed_us:
                await self._agree(partition.place, note)
            elif note.building is None:
                await self._leave(partition.place, note, following)
            elif await self._copied(partition.place, note, note.building) and await self._is(partition.place, note):
                moved = Note(following, 0, note.landing, (), note.frozen, note.building, None, note.run)
                await self._agree(partition.place, moved)
        except Unavailable as error:
            _log.warning("a record is spread later: not all replicas answer", extra={"reason": error.reason})
            await self._enter(partition.place, now_us + _AGAIN_US)

    # 1

    async def _planned(self, place: Place, note: Note | None) -> Run | None:
        """The run for all items of a record; None when it shall stay as it is."""
        size, marks = self._size, Marks()
        async for key, value, _, more in self._kind(place, landing_of(note), LOCAL_QUORUM):
            if more:
                return None
            marks.add(key, len(key) + len(value or b""))
        if note is not None and note.run is not None:
            if marks.items < size.items and marks.size < size.size_bytes:
                return None
            async for key, value, _ in self._run(place, note.run, LOCAL_QUORUM):
                marks.add(key, len(key) + len(value))
        count = min(max(marks.items // size.items, marks.size // size.size_bytes), _MOST_BUCKETS)
        return Run(secrets.token_bytes(16), marks.cuts(count)) if count > 1 else None

    # 2

    async def _copied(self, place: Place, note: Note, run: Run) -> bool:
        """Copies all items that are frozen or in the run before; False when one cannot be, for it is ordered. Of two
        that differ the later one stays, as everywhere."""
        copy = _Copy(self._session, self._write["spread_put"], place, run)
        for kind in note.frozen:
            async for key, value, stamp, more in self._kind(place, kind, ALL):
                if more:
                    return False
                if value is not None:
                    await copy.add(key, value, stamp)
        if note.run is not None:
            async for key, value, stamp in self._run(place, note.run, ALL):
                await copy.add(key, value, stamp)
        await copy.flush()
        return True

    # 3

    async def _leave(self, place: Place, note: Note, stamp: int) -> None:
        # A replica that has an older note would read from what is removed here.
        await self._note(place, note, ALL)
        for kind in note.leaving:
            await self._session.execute(self._write["lww_drop_kind"], (_GONE, *place, kind), LOCAL_QUORUM)
        if note.before is not None:
            await self.drop(place, note.before)
        await self._agree(place, note._replace(stamp=stamp, agreed_us=0, leaving=(), before=None))

    async def drop(self, place: Place, run: Run) -> None:
        """Removes a run. Raises Unavailable."""
        for bucket in run.starts:
            values = (_GONE, *place, run.name, bucket)
            await self._session.execute(self._write["spread_drop_bucket"], values, LOCAL_QUORUM)
        await self._session.execute(self._write["drop_run"], (*place, run.name), LOCAL_QUORUM)

    async def apart(self, writes: Sequence[tuple[Statement, Sequence[Any]]]) -> None:
        """Removals in buckets. Raises Unavailable."""
        by_bucket: dict[Any, list[Any]] = {}
        for write, values in writes:
            _, _, _, run, bucket, *_ = values
            by_bucket.setdefault((run, bucket), []).append((write, values))
        for some in by_bucket.values():
            for first in range(0, len(some), _BATCH_ROWS):
                await self._session.batch(some[first : first + _BATCH_ROWS], LOCAL_QUORUM)

    async def apart_late(self, writes: Sequence[tuple[Statement, Sequence[Any]]]) -> None:
        """The same, where those that fail are made up for."""
        try:
            await self.apart(writes)
        except WellspringError as error:
            _log.warning("removals in buckets are left to others", extra={"reason": error.reason})

    # The note

    async def _agree(self, place: Place, note: Note) -> None:
        """Writes it to a quorum of every data centre, then that it is there."""
        await self._note(place, note, EACH_QUORUM)
        await self._note(place, note._replace(stamp=note.stamp + 1, agreed_us=self._clock_us()), EACH_QUORUM)

    async def _is(self, place: Place, note: Note) -> bool:
        """Whether the note is still this one."""
        found = await self._session.execute(self._read["lww_rows"], (*place, [(HEAD, b"")]), EACH_QUORUM)
        return [row[3][NOTE] for row in found] == [encode_note(note)]

    async def _note(self, place: Place, note: Note, consistency: int) -> None:
        values = (note.stamp, NOTE, encode_note(note), *place, HEAD, b"")
        await self._session.execute(self._write["lww_put_more"], values, consistency)

    async def _enter(self, place: Place, due_us: int) -> None:
        number, record = place
        await self._dues.enter([keys.due_key(due_us, number, keys.RANGE_TOMB, record)])

    # Rows

    def _kind(self, place: Place, kind: int, consistency: int) -> AsyncIterator[Any]:
        return self._rows("lww_kind", (*place, kind, b"", kind + 1, b""), consistency)

    async def _run(self, place: Place, run: Run, consistency: int) -> AsyncIterator[Any]:
        for bucket in run.starts:
            async for row in self._rows("spread_bucket", (*place, run.name, bucket), consistency):
                yield row

    async def _rows(self, name: str, values: Sequence[Any], consistency: int) -> AsyncIterator[Any]:
        """Rows that begin with key and value: few at first, and as many later as are about 1 MiB."""
        state, size, seen, many = None, _PAGES[0], 0, 0
        while True:
            page = await self._session.page(self._read[name], values, consistency, size=size, state=state)
            for row in page.rows:
                seen += len(row[0]) + len(row[1] or b"")
                many += 1
                yield row
            if page.state is None:
                return
            state = page.state
            size = max(_PAGES[0], min(_PAGES[1], _BATCH_BYTES * many // max(seen, 1)))


class Marks:
    """About where in a record's keys how much lies, in memory that does not grow with it."""

    def __init__(self) -> None:
        self.items = 0
        self.size = 0
        self._marks: list[tuple[bytes, int]] = []
        self._step = 0

    def add(self, key: bytes, size: int) -> None:
        """Counts an item."""
        self.items += 1
        self.size += size
        if self._marks and self._marks[-1][0] <= key and self._marks[-1][1] + size <= self._step:
            self._marks[-1] = (self._marks[-1][0], self._marks[-1][1] + size)
            return
        self._marks.append((key, size))
        if len(self._marks) > _MARKS:
            self._marks.sort()
            pairs = zip(self._marks[::2], [*self._marks[1::2], (b"", 0)], strict=False)
            self._marks = [(first[0], first[1] + second[1]) for first, second in pairs]
            self._step = 2 * self.size // _MARKS

    def cuts(self, count: int) -> tuple[bytes, ...]:
        """The first keys of ``count`` pieces about equal in size, fewer when single items are larger; the first one's
        is empty."""
        found, filled = [b""], 0
        for key, size in sorted(self._marks):
            if filled * count >= self.size * len(found) and key > found[-1]:
                found.append(key)
            filled += size
        return tuple(found)


class _Copy:
    """Cells on their way into a run."""

    def __init__(self, session: Session, write: Statement, place: Place, run: Run) -> None:
        self._session = session
        self._write = write
        self._place = place
        self._run = run
        self._bucket = b""
        self._size = 0
        self._batch: list[Any] = []

    async def add(self, key: bytes, value: bytes, stamp: int) -> None:
        """One more."""
        bucket = self._run.of(key)
        if bucket != self._bucket or self._size >= _BATCH_BYTES or len(self._batch) >= _BATCH_ROWS:
            await self.flush()
        self._bucket = bucket
        self._size += len(value)
        self._batch.append((self._write, (stamp, value, *self._place, self._run.name, bucket, ITEMS, key)))

    async def flush(self) -> None:
        """Writes what is left, to all replicas. Raises Unavailable."""
        if self._batch:
            await self._session.batch(self._batch, ALL)
        self._batch, self._size = [], 0
