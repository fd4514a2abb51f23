"""Steps of work on LWW records: read, decided, written, without anybody having to agree.

1. The record is read by a quorum of this data centre, and the engine decides on what was read.
2. What may be there for nothing is written first: the sweeper's entries, the key in the index, the intent in the feed.
3. The record's cells, the remembered token and the word that the change happened are one batch in one partition. It may
   be sent again as often as one likes; so it is, once, when its answer does not come.
4. The intent is settled later. A crash before it leaves that to readers.

Two that write one record at once both succeed; cell by cell the higher version stays.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from libs.cassandra.errors import OutcomeUnknown
from libs.cassandra.limits import BatchLimits
from libs.cassandra.session import LOCAL_QUORUM, Session
from libs.errors.errors import WellspringError
from services.storage.cassandra.accounts import Standing
from services.storage.cassandra.checking import Replicas
from services.storage.cassandra.commit import Change, Committer, late
from services.storage.cassandra.dues import Dues
from services.storage.cassandra.lanes import Intent, Lane
from services.storage.cassandra.layout import index_shard
from services.storage.cassandra.lww.burial import Burial
from services.storage.cassandra.lww.glance import glanced
from services.storage.cassandra.lww.reading import LwwLoader
from services.storage.cassandra.lww.record import LwwPartition
from services.storage.cassandra.lww.settling import Settling
from services.storage.cassandra.lww.spreading import BucketSize, Spreading
from services.storage.cassandra.lww.writing import Writes, Writing
from services.storage.cassandra.partition import Loaded, NotLoaded, Place, Rows
from services.storage.cassandra.statements import Statements
from services.storage.cassandra.view import View
from services.storage.domain.model import NO_VERSION
from services.storage.domain.namespace import Namespace
from services.storage.store.families import Families
from services.storage.store.interface import Page, Read
from services.storage.store.ledger import Account, Ledger
from services.storage.store.tasks import Tasks

T = TypeVar("T")
_TOGETHER: Final = 500
"""Cells removed by one batch."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tools:
    """What steps of LWW records share with the others. ``patience_s``: how long readers of the feed wait for an intent;
    ``token_ttl_s``: after which a remembered token is gone; ``limits``: of batches of several records."""

    session: Session
    statements: Statements
    replicas: Replicas
    committer: Committer
    dues: Dues
    tasks: Tasks
    clock_us: Callable[[], int]
    monotonic_s: Callable[[], float]
    patience_s: float
    token_ttl_s: int
    grace_us: int
    limits: BatchLimits
    bucket_size: BucketSize


class LwwSteps:
    """Runs them."""

    def __init__(self, tools: Tools) -> None:
        given = (tools.session, tools.statements, tools.replicas, tools.clock_us, tools.grace_us)
        self.loader = LwwLoader(*given)
        self.whole = LwwLoader(*given, whole=True)
        self._tools = tools
        self._write = tools.statements.write
        self._burial = Burial(tools.session, tools.statements, tools.dues, tools.clock_us)
        self.spreading = Spreading(tools.session, tools.statements, tools.dues, tools.clock_us, tools.bucket_size)
        self._settling: dict[int, Settling] = {}

    async def glance(self, read: Read, loaded: Loaded, level: int) -> Page | None:
        """The page of ``read`` when it can be told from the record's first rows; else these are in ``loaded``. Raises
        Unavailable."""
        place = (read.namespace.number, read.record)
        found = await self.loader.begin(place, level)
        page = glanced(read, found, self._tools.clock_us())
        if page is None:
            self.loader.begun(place, found, loaded)
        return page

    def settling(self, lane: Lane) -> Settling:
        """The changes of this process's lane of a namespace that are on their way into the feed."""
        found = self._settling.get(lane.number)
        if found is None:
            found = self._settling[lane.number] = Settling(lane, self._tools.tasks)
        return found

    def forget(self, number: int) -> None:
        """Drops what is kept of a namespace that is gone."""
        self._settling.pop(number, None)

    async def change(
        self,
        space: Namespace,
        place: Place,
        wanted: Rows,
        work: Callable[[View], Awaitable[T]],
        view_of: Callable[[Loaded, Sequence[tuple[Namespace, Account]]], View],
        standing: Standing,
        lane: Lane,
    ) -> T:
        """The result of ``work`` on the record at ``place``, once what it wrote is durable. One at a time for a record.
        Raises what it raises, Unavailable (nothing was written) and OutcomeUnknown."""
        loaded = Loaded()
        begun_s, now_us = self._tools.monotonic_s(), self._tools.clock_us()
        await self.loader.rows(place, wanted.rows, loaded, LOCAL_QUORUM)
        partition = self.loader.partition(place, loaded)
        while True:
            before = standing.account(partition.stamp, self._tools.clock_us(), NO_VERSION)
            view = view_of(loaded, [(space, before)])
            try:
                result = await work(view)
                break
            except NotLoaded as missing:
                await self.loader.load(missing.need, loaded, LOCAL_QUORUM)
        change = Change(view.ops, before.sequence + 1)
        if change.worked and partition.note is not None:
            await self.spreading.step(partition, now_us)
        if change.place is None:
            await self._tools.committer.plain(change)
            await self._burial.look(partition)
            return result
        change.check_size()
        after = Ledger(Families(view)).account(space.number)
        announced = None
        if change.event is not None:
            announced = lane.announce(
                change.sequence,
                place[1],
                self.found_by(change, partition),
                b"" if change.token is None else change.token[0],
            )
        await self._commit(change, partition, lane, announced)
        standing.add(before, after)
        if announced is not None and change.event is not None:
            intent = announced.result()
            if self._tools.monotonic_s() - begun_s > self._tools.patience_s / 2:
                # A reader may have told of it in doubt before it happened. If this fails, the sweeper finds it.
                await late(self.tell(standing, lane, place[1], change.event))
            self.settling(lane).add([(intent, change.event)])
        standing.wake()
        return result

    async def spread(self, place: Place) -> tuple[int, int] | None:
        """As ``Store.rebucket``."""
        loaded, now_us = Loaded(), self._tools.clock_us()
        await self.loader.rows(place, (), loaded, LOCAL_QUORUM)
        partition = self.loader.partition(place, loaded)
        return None if partition.head is None else await self.spreading.begin(partition, now_us)

    async def tell(self, standing: Standing, lane: Lane, record: bytes, event: bytes) -> None:
        """Puts a change that happened into the feed (again), as one of now. Raises Unavailable."""
        sequence = standing.account(0, self._tools.clock_us(), NO_VERSION).sequence + 1
        announced = lane.announce(sequence, record)
        intent = await lane.write(announced)
        await lane.settle(intent, event)
        lane.forget(intent)

    async def _commit(
        self, change: Change, partition: LwwPartition, lane: Lane, announced: "asyncio.Future[Intent] | None"
    ) -> None:
        tools = self._tools
        writing = Writing(change, partition, self._write, tools.clock_us(), tools.token_ttl_s)
        writing.cells()
        intent: Intent | None = None
        try:
            intent = await self._prepare(change, writing, partition, lane, announced)
            if partition.ranges:
                await self._uncover(writing, partition)
            await self.spreading.apart(writing.before)
            await self.send(writing.batch(intent), lane, intent)
            await self.spreading.apart_late(writing.after)
        finally:
            if intent is not None:
                lane.done(intent)
        if change.worked or change.dropped:
            done = [tools.dues.drop(change.worked), tools.committer.drop_chunks(change.dropped)]
            await asyncio.gather(*(late(one) for one in done))
        if change.has_head and change.head is None:
            await late(self._burial.look(partition, emptied=True))

    async def _prepare(
        self,
        change: Change,
        writing: Writing,
        partition: LwwPartition,
        lane: Lane,
        announced: "asyncio.Future[Intent] | None",
    ) -> Intent | None:
        """What may be there for nothing. Raises Unavailable; then the intent is void."""
        tools = self._tools
        dues = [*change.dues, *writing.dues]
        work: list[Any] = [tools.dues.enter(dues)] if dues else []
        work += [tools.committer.put_chunk(key, value) for key, value in change.chunks]
        if announced is not None:
            work.append(lane.write(announced))
        else:
            found_by = self.found_by(change, partition)
            work += [tools.session.execute(write, values, LOCAL_QUORUM) for write, values in found_by]
        if len(work) == 1:
            await work.pop()  # most often the intent, which needs no task of its own
        failed = [one for one in await asyncio.gather(*work, return_exceptions=True) if isinstance(one, BaseException)]
        intent = None if announced is None or announced.exception() is not None else announced.result()
        if failed:
            if intent is not None:
                await late(lane.void(intent))
                lane.forget(intent)
            raise failed[0]
        return intent

    async def send(self, writes: Writes, lane: Lane, intent: Intent | None) -> None:
        """Writes the cells of one record; ``intent`` is void when they were not written. Raises Unavailable (nothing
        was) and OutcomeUnknown."""
        session = self._tools.session
        try:
            await session.batch(writes, LOCAL_QUORUM)
        except OutcomeUnknown as unknown:
            try:
                await session.batch(writes, LOCAL_QUORUM)
            except WellspringError:
                raise unknown from None
        except WellspringError:
            if intent is not None:
                await late(lane.void(intent))
            raise

    async def _uncover(self, writing: Writing, partition: LwwPartition) -> None:
        """Before range tombstones are forgotten: removes what lies under them."""
        ended = writing.ended()
        for tomb in ended:
            await self.loader.items(partition, tomb.start, tomb.end, LOCAL_QUORUM)
        writes = writing.covered(ended) if ended else []
        for first in range(0, len(writes), _TOGETHER):
            await self._tools.session.batch(writes[first : first + _TOGETHER], LOCAL_QUORUM)

    def found_by(self, change: Change, partition: LwwPartition) -> Writes:
        """The rows by which a scan finds the record, when it may be new. One that was spread has them for ever."""
        if change.head is None or partition.items or partition.note is not None:
            return []
        number, record = partition.place
        found: Writes = [(self._write["index"], (number, index_shard(record), record, change.sequence))]
        if change.sampled:
            found.append((self._write["sample"], (number, record, change.sequence)))
        return found
