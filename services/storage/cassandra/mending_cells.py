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
from services.storage.cassandra.checking import LWW, RECORDS, SPREAD, Cell, Spot
from services.storage.cassandra.lww import own
from services.storage.cassandra.lww.far import Datacentres
from services.storage.cassandra.partition import HEAD
from services.storage.cassandra.replicas import everywhere
from services.storage.cassandra.sums import ORDERED_AT, Damaged, Sums, over

_log = logging.getLogger(__name__)
_READS: Final = {RECORDS: "stamped_row", LWW: "lww_stamped", SPREAD: "spread_stamped"}
_WRITES: Final = {RECORDS: "mend_row", LWW: "lww_put", SPREAD: "spread_put"}


class _Seen(NamedTuple):
    """A cell as a replica has it."""

    stamp: int
    cell: bytes


class MendingCells:
    """Looks for whole cells in all data centres, the own one first."""

    def __init__(self, datacentres: Datacentres) -> None:
        self._datacentres = datacentres

    async def cells(self, spot: Spot) -> Mapping[bytes, Cell]:
        """As ``Replicas.cells``."""
        seen: dict[bytes, set[_Seen]] = {}
        async for value, stamp, *more in everywhere(self._datacentres, _READS[spot.table], spot.row):
            if value is not None:
                seen.setdefault(b"", set()).add(_Seen(stamp, value))
            if more and more[0]:
                for (version, cell), written in zip(more[0].items(), more[1], strict=True):
                    seen.setdefault(version, set()).add(_Seen(written, cell))
        return {version: await self._cell(spot, version, some) for version, some in seen.items()}

    async def _cell(self, spot: Spot, version: bytes, seen: set[_Seen]) -> Cell:
        stamp = max(one.stamp for one in seen)
        newest = [one.cell for one in seen if one.stamp == stamp]
        opened = {cell: _opened(spot, version, cell, stamp) for cell in newest}
        damaged = [cell for cell, whole in opened.items() if whole is None]
        if not damaged:
            return Cell(opened[max(newest)], stamp)
        more = {"namespace_number": spot.place[0], "table": spot.table, "kind": spot.kind}
        if len(damaged) == len(newest):
            _log.critical("a stored item is damaged on each replica that answers", extra=more)
            return Cell(None, stamp)
        _log.critical("a stored item was damaged; a replica had it whole", extra=more)
        whole = opened[max(cell for cell in newest if cell not in damaged)] or b""
        better = _better(spot, version, whole, max(damaged))
        if better is None:
            _log.warning("a damaged item stays where it is: its bytes come before those that are whole", extra=more)
        else:
            await self._put(spot, version, better, stamp)
        return Cell(whole, stamp)

    async def _put(self, spot: Spot, version: bytes, cell: bytes, stamp: int) -> None:
        session, statements = self._datacentres.here
        name, values = (_WRITES[spot.table], ()) if not version else ("lww_put_more", (version,))
        try:
            await session.execute(statements.write[name], (stamp, *values, cell, *spot.row), LOCAL_QUORUM)
        except WellspringError as error:  # the next one who reads it tries again
            _log.warning("a damaged item could not be replaced", extra={"reason": error.reason})


def _is_own(spot: Spot) -> bool:
    """Whether its cells have no checksum."""
    return spot.table == LWW and spot.kind == HEAD


def _better(spot: Spot, version: bytes, whole: bytes, damaged: bytes) -> bytes | None:
    """What takes the place of a damaged cell at the same timestamp, if there is anything that does."""
    if _is_own(spot):
        return whole if whole > damaged else None
    return over(Sums(spot.place), spot.kind, spot.key, whole, _at(spot, version), damaged, version)


def _at(spot: Spot, version: bytes) -> int:
    return ORDERED_AT if version else spot.at


def _opened(spot: Spot, version: bytes, cell: bytes, stamp: int) -> bytes | None:
    """The cell without its checksum; None when it is damaged."""
    if _is_own(spot):
        return cell if own.is_well(version, cell, stamp) else None
    try:
        return Sums(spot.place).opened(spot.kind, spot.key, cell, _at(spot, version), version=version)
    except Damaged:
        return None
