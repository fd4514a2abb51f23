"""A damaged cell of a record is had from another replica, and put where it was damaged.

It is put at the very timestamp that it has: whatever was written since stays, also what a conditional write has
decided. So that it comes before the damaged one, its mark is the greater (``sums.py``). An older cell is no answer,
whole or not.
"""

import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

from libs.cassandra.session import LOCAL_QUORUM
from libs.errors.errors import WellspringError
from services.storage.cassandra.checking import LWW, LWW_AT, RECORD_AT, RECORDS, Cell
from services.storage.cassandra.lww.far import Datacentres
from services.storage.cassandra.partition import Place
from services.storage.cassandra.replicas import everywhere
from services.storage.cassandra.sums import ORDERED_AT, Damaged, Sums, over

_log = logging.getLogger(__name__)
_READS: Final = {RECORDS: "stamped_row", LWW: "lww_stamped"}


class _Seen(NamedTuple):
    """A cell as a replica has it."""

    stamp: int
    cell: bytes


class MendingCells:
    """Looks for whole cells in all data centres, the own one first."""

    def __init__(self, datacentres: Datacentres) -> None:
        self._datacentres = datacentres

    async def cells(self, table: str, place: Place, kind: int, key: bytes) -> Mapping[bytes, Cell]:
        """As ``Replicas.cells``."""
        seen: dict[bytes, set[_Seen]] = {}
        async for value, stamp, *more in everywhere(self._datacentres, _READS[table], (*place, kind, key)):
            if value is not None:
                seen.setdefault(b"", set()).add(_Seen(stamp, value))
            if more and more[0]:
                for (version, cell), written in zip(more[0].items(), more[1], strict=True):
                    seen.setdefault(version, set()).add(_Seen(written, cell))
        row = _Row(table, place, kind, key)
        return {version: await self._cell(row, version, some) for version, some in seen.items()}

    async def _cell(self, row: "_Row", version: bytes, seen: set[_Seen]) -> Cell:
        stamp = max(one.stamp for one in seen)
        newest = [one.cell for one in seen if one.stamp == stamp]
        opened = {cell: row.opened(version, cell) for cell in newest}
        damaged = [cell for cell, whole in opened.items() if whole is None]
        if not damaged:
            return Cell(opened[max(newest)], stamp)
        more = {"namespace_number": row.place[0], "table": row.table, "kind": row.kind}
        if len(damaged) == len(newest):
            _log.critical("a stored item is damaged on each replica that answers", extra=more)
            return Cell(None, stamp)
        _log.critical("a stored item was damaged; a replica had it whole", extra=more)
        whole = opened[max(cell for cell in newest if cell not in damaged)] or b""
        better = over(row.sums, row.kind, row.key, whole, row.at(version), max(damaged), version)
        if better is None:
            _log.warning("a damaged item stays where it is: its bytes come before those that are whole", extra=more)
        else:
            await self._put(row, version, better, stamp)
        return Cell(whole, stamp)

    async def _put(self, row: "_Row", version: bytes, cell: bytes, stamp: int) -> None:
        session, statements = self._datacentres.here
        at = (*row.place, row.kind, row.key)
        try:
            if row.table == RECORDS:
                await session.execute(statements.write["mend_row"], (stamp, cell, *at), LOCAL_QUORUM)
            elif version:
                await session.execute(statements.write["lww_put_more"], (stamp, version, cell, *at), LOCAL_QUORUM)
            else:
                await session.execute(statements.write["lww_put"], (stamp, cell, *at), LOCAL_QUORUM)
        except WellspringError as error:  # the next one who reads it tries again
            _log.warning("a damaged item could not be replaced", extra={"reason": error.reason})


class _Row:
    """One row, and how its cells are checked."""

    def __init__(self, table: str, place: Place, kind: int, key: bytes) -> None:
        self.table = table
        self.place = place
        self.kind = kind
        self.key = key
        self.sums = Sums(place)

    def at(self, version: bytes) -> int:
        """Where the checksum stands."""
        if version:
            return ORDERED_AT
        return (RECORD_AT if self.table == RECORDS else LWW_AT)[self.kind]

    def opened(self, version: bytes, cell: bytes) -> bytes | None:
        """The cell without its checksum; None when it is damaged."""
        try:
            return self.sums.opened(self.kind, self.key, cell, self.at(version), version=version)
        except Damaged:
            return None
