"""Removes what time has ended: what is due, record by record; the feed's far end; a namespace that is purged."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from libs.cassandra.session import QUORUM, Session
from services.storage.cassandra.accounts import Accounts
from services.storage.cassandra.catalog import Catalog
from services.storage.cassandra.dues import Dues
from services.storage.cassandra.layout import (
    CHUNKS_TOGETHER,
    FINISHED,
    FINISHED_PART,
    INDEX_SHARDS,
    feed_slot,
)
from services.storage.cassandra.lww.buckets import decode_starts
from services.storage.cassandra.lww.resolving import Resolver
from services.storage.cassandra.lww.spreading import Spreading
from services.storage.cassandra.partition import Place, Rows
from services.storage.cassandra.scope import at_home_elsewhere
from services.storage.cassandra.statements import Statements
from services.storage.cassandra.steps import Steps
from services.storage.domain.namespace import Namespace
from services.storage.store import layout
from services.storage.store.local import LocalStore

_TOGETHER: Final = 16
"""Records worked on at once."""
_TRIM_SHARE: Final = 200
"""A feed is trimmed when this share of its window has passed since it was last, or ``_TRIM_MOST_US``."""
_TRIM_MOST_US: Final = 10 * 60 * 1_000_000
_NEVER_LATER: Final = 1 << 62
"""Above every time that a cell can have been stamped with: of a namespace that is gone nothing comes back."""
_REVISIT_US: Final = 30 * 1_000_000
"""How often changes that were told in doubt are looked at again."""
_NAMESPACES: Final = 50
"""Feeds trimmed in one turn."""


class Sweeper:
    """The sweeper of a store. Several servers may sweep at once: what one has done the other finds done."""

    def __init__(
        self,
        session: Session,
        statements: Statements,
        dues: Dues,
        steps: Steps,
        catalog: Catalog,
        accounts: Accounts,
        resolver: Resolver,
        spreading: Spreading,
    ) -> None:
        self._session = session
        self._read = statements.read
        self._write = statements.write
        self._dues = dues
        self._steps = steps
        self._catalog = catalog
        self._accounts = accounts
        self._resolver = resolver
        self._spreading = spreading
        self._trimmed: dict[int, int] = {}
        self._revisited: dict[int, int] = {}

    async def sweep(self, now_us: int, budget: int) -> bool:
        """As ``Store.sweep``."""
        entries = await self._dues.read(now_us, budget)
        groups: dict[Place, list[bytes]] = {}
        for entry in entries:
            groups.setdefault(_place(entry), []).append(entry)
        room = asyncio.Semaphore(_TOGETHER)

        async def work(place: Place, some: list[bytes]) -> None:
            async with room:
                await self._work(place, some, now_us)

        await asyncio.gather(*(work(place, some) for place, some in groups.items()))
        more = await self._trim_some(now_us)
        await self._revisit_some(now_us)
        await self._accounts.flush()
        return more or len(entries) >= budget

    async def _work(self, place: Place, due: list[bytes], now_us: int) -> None:
        async def turn(store: LocalStore) -> None:
            while await store.sweep(now_us, len(due) + 1):
                pass

        space = await self._catalog.known(place[0])
        if space is not None and at_home_elsewhere(space, self._session.options.local_datacentre):
            return  # a server there does it
        if space is None:
            await self._steps.clean([], turn, due)
        elif _of_record(due[0]):
            await self._steps.change(space, place, Rows(place, ()), turn, due=due)
        else:
            await self._steps.clean([space], turn, due)

    # The feed

    async def _trim_some(self, now_us: int) -> bool:
        late = []
        for number, space in self._catalog.by_number.items():
            every_us = min(space.settings.retention.feed_window_us // _TRIM_SHARE, _TRIM_MOST_US)
            if abs(now_us - self._trimmed.get(number, 0)) >= every_us:
                late.append(space)
        for space in late[:_NAMESPACES]:
            if at_home_elsewhere(space, self._session.options.local_datacentre):
                continue
            self._trimmed[space.number] = now_us
            await self._trim(space, now_us - space.settings.retention.feed_window_us)
        return len(late) > _NAMESPACES

    async def _revisit_some(self, now_us: int) -> None:
        late = [
            space
            for number, space in self._catalog.by_number.items()
            if space.stamped and abs(now_us - self._revisited.get(number, 0)) >= _REVISIT_US
        ]
        for space in late[:_NAMESPACES]:
            self._revisited[space.number] = now_us
            await self._resolver.revisit(space, self._steps.lane(space))

    async def _trim(self, space: Namespace, horizon_us: int) -> None:
        """Removes the changes up to ``horizon_us``. That they were there is noted first."""
        plain = self._steps.scope(space).plain
        for lane in await self._all("lanes", (space.number,), plain):
            for (slot,) in await self._all("slots", (space.number, lane[0], 0), plain):
                if slot > feed_slot(horizon_us):
                    break
                values = (space.number, lane[0], slot)
                rows = await self._session.execute(self._read["changes_back"], (*values, horizon_us - 1, 1), plain)
                if rows:
                    upto = rows[0][0]
                    await self._do("trimmed", (upto, upto, space.number, lane[0]), plain)
                    await self._do("trim", (*values, upto), plain)
                if slot < feed_slot(horizon_us):
                    await self._do("drop_slot", values, plain)

    # Namespaces

    async def purge(self, space: Namespace) -> None:
        """As ``Store.purge_namespace``: the namespace itself goes last, so that a purge that broke off goes on."""
        number = space.number
        for shard in range(INDEX_SHARDS):
            start = b""
            while True:
                rows = await self._session.execute(self._read["indexed"], (number, shard, start, 1000), QUORUM)
                if space.stamped:
                    await self._each("lww_drop_record", [(_NEVER_LATER, number, row[0]) for row in rows])
                else:
                    await self._each("drop_record", [(number, row[0]) for row in rows])
                if len(rows) < 1000:
                    break
                start = rows[-1][0] + b"\0"
            await self._do("drop_index", (number, shard), QUORUM)
        for record, name, starts in await self._all("runs", (number,), QUORUM):
            await self._spreading.drop((number, record), decode_starts(name, starts))
        for (upload,) in await self._all("uploads", (number,), QUORUM):
            await self._purge_upload(number, upload)
        for lane, _ in await self._all("lanes", (number,), QUORUM):
            slots = await self._all("slots", (number, lane, 0), QUORUM)
            await self._each("drop_changes", [(number, lane, row[0]) for row in slots])
            await self._do("drop_slots", (number, lane), QUORUM)
        for name in ("drop_lanes", "drop_samples", "drop_usage", "drop_uploads", "drop_doubts", "drop_runs"):
            await self._do(name, (number,), QUORUM)
        await self._catalog.drop(space)
        self._accounts.forget(number)
        self._steps.forget(number)

    async def _purge_upload(self, number: int, upload: bytes) -> None:
        last = -1
        for part in range(FINISHED // CHUNKS_TOGETHER):
            if not await self._all("chunk_numbers", (number, upload, part), QUORUM):
                break
            last = part
        for part in range(last, FINISHED_PART - 1, -1):
            await self._do("drop_chunks", (number, upload, part), QUORUM)

    async def _each(self, name: str, values: Sequence[Sequence[Any]]) -> None:
        for first in range(0, len(values), _TOGETHER):
            await asyncio.gather(*(self._do(name, one, QUORUM) for one in values[first : first + _TOGETHER]))

    async def _do(self, name: str, values: Sequence[Any], consistency: int) -> None:
        await self._session.execute(self._write[name], values, consistency)

    async def _all(self, name: str, values: Sequence[Any], consistency: int) -> list[Any]:
        return [row async for page in self._session.pages(self._read[name], values, consistency) for row in page]


def _of_record(entry: bytes) -> bool:
    return layout.parse_due(entry)[2] not in (layout.UPLOAD, layout.UNFINISHED)


def _place(entry: bytes) -> Place:
    """The record that an entry is about, or the upload."""
    _, number, kind, rest = layout.parse_due(entry)
    if kind in (layout.UPLOAD, layout.UNFINISHED):
        return number, b"\0upload" + rest
    if kind == layout.RANGE_TOMB:
        return number, rest
    return number, layout.unescaped(rest, 0)[0]
