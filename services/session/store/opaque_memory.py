"""Opaque rows in memory: for tests, and as the plainest statement of what a store does."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from services.session.crypto.opaque import pepper_of
from services.session.domain.opaque_model import OpaqueRow, OpaqueStored, OpaqueTombstone
from services.session.store.opaque_interface import Allowed, OpaquePatrolled

_Name = tuple[str, bytes]


class MemoryOpaque:
    """See `opaque_interface.OpaqueRows`. `keep` keeps a realm's sealed key where the store has the subjects'."""

    def __init__(self, keep: Callable[[str, bytes, bytes], bool]) -> None:
        self._keep = keep
        self._rows: dict[_Name, OpaqueRow] = {}
        self._tombstones: dict[_Name, OpaqueTombstone] = {}

    async def read(self, realm: str, names: Sequence[bytes]) -> OpaqueStored:
        return self._read(realm, names)

    def _read(self, realm: str, names: Sequence[bytes]) -> OpaqueStored:
        rows = [row for name in names if (row := self._rows.get((realm, name))) is not None]
        stones = [stone for name in names if (stone := self._tombstones.get((realm, name))) is not None]
        return OpaqueStored(
            max(rows, key=lambda row: row.written_us, default=None),
            max(stones, key=lambda stone: stone.until_us, default=None),
        )

    async def write(self, realm: str, names: Sequence[bytes], row: OpaqueRow, allowed: Allowed) -> bool:
        if not allowed(self._read(realm, names)):
            return False
        for name in names:
            self._rows.pop((realm, name), None)
        self._rows[realm, row.name] = row
        return True

    async def delete(
        self, realm: str, names: Sequence[bytes], tombstone: OpaqueTombstone, *, known: bool = False
    ) -> bool:
        there = self._tombstones.get((realm, names[0]))
        if there is None or there.until_us < tombstone.until_us:
            self._tombstones[realm, names[0]] = tombstone
        return [self._rows.pop((realm, name), None) for name in names].count(None) < len(names)

    async def patrol(self, resume: bytes | None, limit: int) -> OpaquePatrolled:
        keys = sorted(key for key in self._rows if resume is None or _place(key) >= resume)
        found = []
        for key in keys[:limit]:
            row = self._rows[key]
            row = replace(row, sealed=b"", left_out_bytes=len(row.sealed))
            found.append((key[0], OpaqueStored(row, self._tombstones.get(key))))
        return OpaquePatrolled(found, _place(keys[limit]) if len(keys) > limit else None)

    async def remove(self, realm: str, rows: Sequence[OpaqueRow]) -> int:
        count = 0
        for row in rows:
            there = self._rows.get((realm, row.name))
            if there is not None and there.written_us == row.written_us:
                del self._rows[realm, row.name]
                count += 1
        return count

    async def prune(self, now_us: int, limit: int) -> int:
        over = [key for key, stone in self._tombstones.items() if stone.until_us <= now_us]
        for key in over:
            del self._tombstones[key]
        return len(over)

    async def count(self, realm: str) -> int:
        return sum(name[0] == realm for name in self._rows)

    async def uses_pepper(self, number: int) -> str | None:
        names = [*self._rows, *self._tombstones]
        return next((realm for realm, name in names if pepper_of(name) == number), None)

    async def keep_key(self, realm: str, subject: bytes, sealed: bytes, home: str) -> bool:
        return self._keep(realm, subject, sealed)


def _place(key: _Name) -> bytes:
    return key[0].encode() + b"\0" + key[1]
