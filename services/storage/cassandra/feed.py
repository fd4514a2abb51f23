"""The feed as read: the lanes of all writers merged by sequence, intents resolved, and the wait for what comes.

A cursor is where one is in each lane. An intent without an outcome is looked up in its record: the outbox says whether
the change happened. When it cannot be said yet, the page ends before it; when nobody has said for ``patience_s``, the
record's state is renamed, so that whoever still means to write it has to begin anew, and the intent is void.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from libs.cassandra.errors import OutcomeUnknown
from libs.cassandra.session import Session
from libs.errors.errors import Unavailable
from services.storage.cassandra import outbox
from services.storage.cassandra.accounts import Accounts
from services.storage.cassandra.announced import change_at, changes
from services.storage.cassandra.commit import DEAD_TTL_S
from services.storage.cassandra.cursor import Cursor, digest, expired
from services.storage.cassandra.lanes import Intent
from services.storage.cassandra.layout import feed_slot
from services.storage.cassandra.loader import Loader
from services.storage.cassandra.lww.far import Datacentres, Place
from services.storage.cassandra.lww.resolving import Resolver
from services.storage.cassandra.partition import Loaded, Partition
from services.storage.cassandra.scope import COMMIT, check_home
from services.storage.cassandra.statements import Statements
from services.storage.cassandra.steps import Steps
from services.storage.cassandra.telling import told
from services.storage.domain.feed import ChangeEvent
from services.storage.domain.namespace import Namespace
from services.storage.store.interface import FeedPage

_POLL_S: Final = 0.5
"""How often a watcher looks for changes of other processes."""
_LOOKED_BACK: Final = 1000
"""Changes at the end of a lane among which one that is open is looked for when a watch begins."""
_KEPT: Final = 100_000


class Change(NamedTuple):
    """A change of the feed; ``row`` and ``token`` as those of an ``Announced``."""

    sequence: int
    lane: int
    record: bytes
    event: bytes | None
    void: bool
    datacentre: str
    row: int
    token: bytes


class LaneRow(NamedTuple):
    """A lane: the sequence up to which it was trimmed, and the other data centre in which it is read, if it is."""

    lane: int
    trimmed: int
    datacentre: str


class Feed:
    """Reads the feeds."""

    def __init__(
        self,
        session: Session,
        statements: Statements,
        loader: Loader,
        steps: Steps,
        accounts: Accounts,
        monotonic_s: Callable[[], float],
        patience_s: float,
        datacentres: Datacentres,
        resolver: Resolver,
    ) -> None:
        self._session = session
        self._read = statements.read
        self._write = statements.write
        self._loader = loader
        self._steps = steps
        self._accounts = accounts
        self._monotonic_s = monotonic_s
        self._patience_s = patience_s
        self._first_seen: dict[tuple[int, int, int], float] = {}
        self._datacentres = datacentres
        self._resolver = resolver

    async def start(self, space: Namespace, *, from_beginning: bool) -> bytes:
        """As ``Store.feed_start``."""
        self._check(space)
        lanes = await self._lanes(space)
        ends = [0] * len(lanes)
        if not from_beginning:
            ends = await asyncio.gather(*(self._end(space, lane.lane) for lane in lanes))
        at = {lane.lane: max(end, lane.trimmed) for lane, end in zip(lanes, ends, strict=True)}
        return Cursor(space.number, digest(self._datacentre), 0, at).encode()

    async def page(self, space: Namespace, cursor: bytes, max_events: int) -> FeedPage:
        """As ``Store.feed``."""
        self._check(space)
        at = Cursor.decode(space, cursor)
        lanes = await self._lanes(space)
        for lane in lanes:
            if at.position(lane.lane) < lane.trimmed:
                raise expired(space)
        merged, more = await self._merged(space, at, lanes, max_events)
        found: list[ChangeEvent] = []
        away: set[int] = set()
        for change in merged:
            event = change.event
            if change.lane in away:
                continue
            if event is None and not change.void:
                try:
                    event, void = await self._resolve(space, change)
                except Unavailable:
                    if not change.datacentre:
                        raise
                    self._datacentres.failed(change.datacentre)
                    away.add(change.lane)
                    more = False
                    continue
                if event is None and not void:
                    more = False
                    break
            at = at.moved(change.lane, change.sequence)
            if event is not None:
                values = (space.number, change.lane, change.sequence, change.record, event)
                found.append(await told(self._datacentres, *values))
        return FeedPage(found, at.encode(), more)

    async def grown(self, space: Namespace, cursor: bytes, timeout_s: float) -> bool:
        """As ``Store.feed_grown``."""
        standing = await self._accounts.standing(space.number)
        end_s = self._monotonic_s() + timeout_s
        while True:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            standing.waiting.add(future)
            try:
                page = await self.page(space, cursor, 1)
                if page.events or page.cursor != cursor:
                    return True
                left_s = end_s - self._monotonic_s()
                if left_s <= 0:
                    return False
                await asyncio.wait((future,), timeout=min(left_s, _POLL_S))
            finally:
                standing.waiting.discard(future)

    async def _lanes(self, space: Namespace) -> list[LaneRow]:
        """The lanes. Those of LWW namespaces are written with no regard to other data centres, so they are looked for
        and read where they were written: what was to come here of one may have been lost on its way. ``datacentre`` is
        empty for all others."""
        lanes = {row.lane: row for row in await self._lanes_at(self._datacentres.here, space)}
        if space.stamped:
            others = sorted(self._session.replicated() - {self._datacentre})
            for rows in await asyncio.gather(*(self._far_lanes(space, datacentre) for datacentre in others)):
                for row in rows:
                    trimmed = max(row.trimmed, lanes.get(row.lane, row).trimmed)
                    lanes[row.lane] = row._replace(trimmed=trimmed)
        return list(lanes.values())

    async def _far_lanes(self, space: Namespace, datacentre: str) -> list[LaneRow]:
        """The lanes that another data centre made; none while it cannot be asked."""
        try:
            lanes = await self._lanes_at(self._datacentres.place(datacentre), space)
            return [lane for lane in lanes if lane.datacentre == datacentre]
        except Unavailable:
            self._datacentres.failed(datacentre)
            return []

    async def _lanes_at(self, place: Place, space: Namespace) -> list[LaneRow]:
        plain = self._steps.scope(space).plain
        pages = place.session.pages(place.statements.read["lane_places"], (space.number,), plain)
        return [
            LaneRow(lane, trimmed or 0, (where or "") if space.stamped and where != self._datacentre else "")
            async for page in pages
            for lane, trimmed, where in page
        ]

    async def _merged(
        self, space: Namespace, at: Cursor, lanes: list[LaneRow], limit: int
    ) -> tuple[list[Change], bool]:
        """The changes behind ``at``, in order, and whether there are more.

        With several lanes they are read twice: what comes before a change that was seen at first, and is in another
        lane, had arrived before it, and is seen at the second reading.
        """
        first = await self._tails(space, at, lanes, limit)
        upto = max((rows[-1].sequence for rows, _ in first if rows), default=0)
        if sum(1 for rows, _ in first if rows) > 1 or len(lanes) > 1 and upto:
            lanes = await self._lanes(space)
            first = await self._tails(space, at, lanes, limit)
        bound = min([upto, *(rows[-1].sequence for rows, full in first if full)])
        merged = sorted(change for rows, _ in first for change in rows if change.sequence <= bound)
        more = len(merged) >= limit or any(full for _, full in first)
        return merged[:limit], more

    async def _tails(
        self, space: Namespace, at: Cursor, lanes: list[LaneRow], limit: int
    ) -> list[tuple[list[Change], bool]]:
        return await asyncio.gather(*(self._tail(space, lane, at.position(lane.lane), limit) for lane in lanes))

    async def _tail(self, space: Namespace, lane: LaneRow, after: int, limit: int) -> tuple[list[Change], bool]:
        """Changes of one lane, at most ``limit``, and whether there were as many. None of a data centre that cannot be
        asked: they come when it can."""
        if not lane.datacentre:
            return await self._read_tail(space, lane, self._datacentres.here, after, limit)
        try:
            place = self._datacentres.place(lane.datacentre)
            return await self._read_tail(space, lane, place, after, limit)
        except Unavailable:
            self._datacentres.failed(lane.datacentre)
            return [], False

    async def _read_tail(
        self, space: Namespace, lane: LaneRow, place: Place, after: int, limit: int
    ) -> tuple[list[Change], bool]:
        session, read, plain = place.session, place.statements.read, self._steps.scope(space).plain
        found: list[Change] = []
        pages = session.pages(read["slots"], (space.number, lane.lane, feed_slot(after)), plain)
        slots = [row[0] async for page in pages for row in page]
        for slot in slots:
            values = (space.number, lane.lane, slot, after, limit - len(found))
            rows = await session.execute(read["changes"], values, plain)
            found += [
                Change(one.sequence, lane.lane, one.record, one.event, one.void, lane.datacentre, one.row, one.token)
                for row in rows
                for one in changes(row)
                if one.sequence > after
            ]
            if len(found) >= limit:
                return found, True
        return found, False

    async def _end(self, space: Namespace, lane: int) -> int:
        """The sequence behind which a watch begins that is to see what is not settled yet."""
        plain = self._steps.scope(space).plain
        pages = self._session.pages(self._read["slots"], (space.number, lane, 0), plain)
        slots = [row[0] async for page in pages for row in page]
        for slot in reversed(slots):
            values = (space.number, lane, slot, (1 << 63) - 1, _LOOKED_BACK)
            rows: list[Any] = await self._session.execute(self._read["changes_back"], values, plain)
            if rows:
                found = [one for row in rows for one in changes(row)]
                still = [one.sequence for one in found if one.event is None and not one.void]
                return int(min(still) - 1) if still else int(rows[0][0])
        return 0

    async def _resolve(self, space: Namespace, change: Change) -> tuple[bytes | None, bool]:
        """(the event, whether it will never come) of an intent; (None, False) while that cannot be said."""
        lane = self._steps.lane(space)
        if space.stamped:
            intent = Intent(space.number, change.lane, change.sequence, change.row, change.token)
            place = self._datacentres.place(change.datacentre)
            return await self._resolver.resolve(lane, place, intent, change.record)
        if (change.lane, change.sequence) in lane.under_way:
            return None, False
        scope = self._steps.scope(space)
        loaded = Loaded()
        record = (space.number, change.record)
        await self._loader.rows(record, (), loaded, scope.serial)
        partition = loaded.partition(record)
        box = outbox.decode(partition.outbox)
        if box is not None and (box.sequence, box.lane) == (change.sequence, change.lane):
            await lane.settle(Intent(space.number, change.lane, change.sequence), box.event)
            return box.event, False
        # Whoever wrote the record after this change has settled it before.
        slot = feed_slot(change.sequence)
        values = (space.number, change.lane, slot, change.sequence)
        rows = await self._session.execute(self._read["change"], values, scope.plain)
        now = change_at(rows, change.sequence)
        if now is not None and now.event is not None:
            return now.event, False
        gone = (now is not None and now.void) or (box is not None and box.sequence >= change.sequence)
        return None, gone or await self._give_up(space, change, partition)

    async def _give_up(self, space: Namespace, change: Change, partition: Partition) -> bool:
        """Makes the change impossible once it has been open for long; False as long as it has not."""
        key = (space.number, change.lane, change.sequence)
        if len(self._first_seen) > _KEPT:
            self._first_seen.clear()
        now_s = self._monotonic_s()
        if now_s - self._first_seen.setdefault(key, now_s) < self._patience_s:
            return False
        scope = self._steps.scope(space)
        rev = max(change.sequence, int.from_bytes((partition.rev or bytes(8))[:8], "big")).to_bytes(8, "big")
        rev += secrets.token_bytes(8)
        values: tuple[Any, ...] = (partition.head, rev, partition.outbox, space.number, change.record, partition.rev)
        take = self._write["take"]
        if partition.head is None:
            take, values = self._write["take_dead"], (DEAD_TTL_S, *values)
        try:
            rows = await self._session.execute(take, values, COMMIT, serial=scope.serial)
        except OutcomeUnknown:
            return False
        if not rows[0][0]:
            return False
        await self._steps.lane(space).void(Intent(space.number, change.lane, change.sequence))
        self._first_seen.pop(key, None)
        return True

    def _check(self, space: Namespace) -> None:
        check_home(space, self._datacentre)

    @property
    def _datacentre(self) -> str:
        return self._session.options.local_datacentre
