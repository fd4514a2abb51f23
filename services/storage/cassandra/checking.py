"""Rows as they are read: each cell is checked and loses its checksum; one that is damaged is had from another replica.

Where no replica has it whole, an item stands for it of which nothing is known but that it is there: it may be replaced
and deleted as others, and who reads it is told (``store/rows.py``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from services.storage.cassandra.partition import FIRST_LANDING, HEAD, HISTORY, ITEMS, TOMBS, Place
from services.storage.cassandra.sums import HEAD_AT, ORDERED_AT, PLAIN_AT, ROW_AT, Damaged, Sums
from services.storage.store import layout, rows

RECORDS: Final = "records"
LWW: Final = "lww"
SPREAD: Final = "lww_spread"

RECORD_AT: Final = {HEAD: HEAD_AT, ITEMS: ROW_AT, TOMBS: ROW_AT, HISTORY: ROW_AT}
LWW_AT: Final = {ITEMS: PLAIN_AT, HISTORY: ROW_AT}
_LATEST: Final = (1 << 58) - 1
_PAST: Final = bytes(16)


class Spot(NamedTuple):
    """A row: its table and primary key; ``kind`` and ``key``, and where a checksum stands ``at``, as it was sealed."""

    table: str
    place: Place
    kind: int
    key: bytes
    at: int
    row: tuple[Any, ...]


class Cell(NamedTuple):
    """The newest that replicas have of a cell, without its checksum: ``whole`` None when none has it whole."""

    whole: bytes | None
    stamp: int


class Replicas(Protocol):
    """Where the cells of a row are looked for one by one."""

    async def cells(self, spot: Spot) -> Mapping[bytes, Cell]:
        """Those of a row that are there: ordered ones by version, the other under b"". What is damaged on some
        replicas only is whole on all of them afterwards."""


class Checking:
    """Checks what one session reads."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def record(self, place: Place, found: Sequence[Any]) -> Sequence[Any]:
        """Rows (kind, key, value, …) of ``records``. Raises ChecksumMismatch when the record's own is lost."""
        sums, checked = Sums(place), list(found)
        for index, (kind, key, value, *more) in enumerate(found):
            at = RECORD_AT.get(kind)
            if at is None or value is None:
                continue
            try:
                whole = sums.opened(kind, key, value, at)
            except Damaged:
                whole = await self._record(Spot(RECORDS, place, kind, key, at, (*place, kind, key)), value)
            checked[index] = (kind, key, whole, *more)
        return checked

    async def lww(self, place: Place, found: Sequence[Any]) -> Sequence[Any]:
        """Rows (kind, key, value, more) of ``lww``."""
        checked: list[Any] = []
        sums: Sums | None = None
        for row in found:
            kind, key, value, more = row
            sealed = kind if kind < FIRST_LANDING else ITEMS
            at = LWW_AT.get(sealed)
            if at is None:
                checked.append(row)
                continue
            sums = sums or Sums(place)
            try:
                whole = None if value is None else sums.opened(sealed, key, value, at)
                ordered = (
                    {version: _ordered(sums, key, version, cell) for version, cell in more.items()} if more else None
                )
                checked.append((kind, key, whole, ordered))
            except Damaged:
                spot = Spot(LWW, place, sealed, key, at, (*place, kind, key))
                checked.append((kind, *await self._lww(spot, sums, value, more)))
        return checked

    async def spread(self, place: Place, run: bytes, bucket: bytes, found: Sequence[Any]) -> Sequence[Any]:
        """Rows (key, value) of a bucket."""
        checked: list[Any] = []
        sums = Sums(place)
        for key, value in found:
            try:
                checked.append((key, sums.opened(ITEMS, key, value, PLAIN_AT)))
            except Damaged:
                spot = Spot(SPREAD, place, ITEMS, key, PLAIN_AT, (*place, run, bucket, ITEMS, key))
                checked.append((await self._lww(spot, sums, value, None))[:2])
        return checked

    async def _record(self, spot: Spot, value: bytes) -> bytes:
        _, place, kind, key, *_ = spot
        found = (await self._replicas.cells(spot)).get(b"")
        if found is not None and found.whole is not None:
            return found.whole
        if kind == HEAD:
            raise rows.damaged(place[1], None)
        if kind == HISTORY:
            return _lost_version(place, key)
        version = value[:16].ljust(16, b"\0")
        if kind == TOMBS:
            return rows.encode_tomb(version, 0, ordered=False)
        return rows.encode_damaged(version, 0, place[1])

    async def _lww(self, spot: Spot, sums: Sums, value: bytes | None, more: Mapping[bytes, bytes] | None) -> Any:
        _, place, kind, key, at, _ = spot
        found = await self._replicas.cells(spot)
        whole: bytes | None = None
        if value is not None:
            try:
                whole = sums.opened(kind, key, value, at)
            except Damaged:
                cell = found.get(b"", _unseen(value))
                lost = _lost_version(place, key) if kind == HISTORY else _lost_plain(place, value, cell)
                whole = cell.whole or lost
        ordered: dict[bytes, bytes] = {}
        for version, one in (more or {}).items():
            try:
                ordered[version] = _ordered(sums, key, version, one)
            except Damaged:
                cell = found.get(version, _unseen(one))
                lost = cell.stamp.to_bytes(8, "big") + b"\0" + rows.encode_damaged(version, 0, place[1])
                ordered[version] = cell.whole or lost
        return key, whole, ordered or None


def _ordered(sums: Sums, key: bytes, version: bytes, cell: bytes) -> bytes:
    return sums.opened(ITEMS, key, cell, ORDERED_AT, version=version)


def _unseen(cell: bytes) -> Cell:
    """A cell that no replica shows any more, with the time that it says it has."""
    return Cell(None, int.from_bytes(cell[:8], "big") & _LATEST)


def _lost_plain(place: Place, value: bytes, cell: Cell) -> bytes:
    """A version of the time at which the cell is removed and replaced."""
    time = cell.stamp.to_bytes(8, "big")
    version = value[:16] if value[:8] == time and len(value) >= 16 else time + bytes(8)
    return version + b"\0" + rows.encode_damaged(version, 0, place[1])[16:]


def _lost_version(place: Place, key: bytes) -> bytes:
    """As an overwrite left it, when nobody knows."""
    return _PAST + bytes(8) + rows.encode_damaged(layout.inverted(key[-16:]), 0, place[1])
