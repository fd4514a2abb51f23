"""Stored cells as a node has them, and others put in their place at the same time: what a failing machine leaves."""

from typing import Any, NamedTuple

from libs.cassandra.session import LOCAL_ONE
from libs.errors.errors import Unavailable
from services.storage.cassandra.checking import LWW_AT, RECORD_AT
from services.storage.cassandra.sums import ORDERED_AT
from services.storage.conformance.kit import Case
from services.storage.domain.namespace import Namespace


class Stored(NamedTuple):
    """One cell of a record's row; ``version``: of an ordered one."""

    space: Namespace
    record: bytes
    kind: int
    key: bytes
    version: bytes = b""

    @property
    def at(self) -> int:
        """Where its checksum stands."""
        if self.version:
            return ORDERED_AT
        return (LWW_AT if self.space.stamped else RECORD_AT)[self.kind]

    async def held_by(self, case: Case) -> bool:
        """Whether a replica of the case's data centre has it."""
        try:
            return bool((await self.held(case))[0])
        except (Unavailable, ValueError):
            return False

    async def held(self, case: Case) -> tuple[bytes, int]:
        """(the cell, its timestamp) as one replica of the case's data centre has it."""
        store: Any = case.store
        read = store._statements.read["lww_stamped" if self.space.stamped else "stamped_row"]
        place = (self.space.number, self.record, self.kind, self.key)
        ((value, stamp, *more),) = await store._session.execute(read, place, LOCAL_ONE)
        if self.version:
            return more[0][self.version], dict(zip(more[0], more[1], strict=True))[self.version]
        return value, stamp

    async def put(self, case: Case, cell: bytes) -> None:
        """Puts a cell in its place, a microsecond later where its bytes would not win."""
        store: Any = case.store
        was, stamp = await self.held(case)
        write = store._statements.write
        place = (self.space.number, self.record, self.kind, self.key)
        stamp += cell < was
        if self.version:
            await store._session.execute(write["lww_put_more"], (stamp, self.version, cell, *place), LOCAL_ONE)
        else:
            name = "lww_put" if self.space.stamped else "mend_row"
            await store._session.execute(write[name], (stamp, cell, *place), LOCAL_ONE)

    async def damage(self, case: Case) -> None:
        """Sets all bits of its checksum."""
        cell, _ = await self.held(case)
        await self.put(case, cell[: self.at + 1] + b"\xff" * 4 + cell[self.at + 5 :])
