"""The end of an LWW record that has nothing left: its own cell and its key in the index go, once it has been so for so
long that no write of before can still be on its way.

Somebody may write the record at the same time. Whoever finds it empty enters its key in the index anew, with a stamp of
now; what is removed here is removed at the time of the record's last change, at least two hours ago. So that key stays.
Every data centre must agree that nothing is left: one that is away may have what is not known here.
"""

from collections.abc import Callable
from typing import Final

from libs.cassandra.session import EACH_QUORUM, LOCAL_QUORUM, Session
from libs.errors.errors import Unavailable
from services.storage.cassandra.dues import Dues
from services.storage.cassandra.layout import index_shard
from services.storage.cassandra.lww.cells import encode_head
from services.storage.cassandra.lww.record import LwwPartition
from services.storage.cassandra.partition import HEAD
from services.storage.cassandra.statements import Statements
from services.storage.store import layout as keys

QUIET_US: Final = 2 * 3600 * 1_000_000
"""How long nothing has been written before: by far more than servers' clocks differ and than a write takes."""


class Burial:
    """Of the records of one session."""

    def __init__(self, session: Session, statements: Statements, dues: Dues, clock_us: Callable[[], int]) -> None:
        self._session = session
        self._read = statements.read
        self._write = statements.write
        self._dues = dues
        self._clock_us = clock_us

    async def look(self, partition: LwwPartition, *, emptied: bool = False) -> None:
        """Removes the record, or has the sweeper come back; ``emptied``: it became so just now. Raises Unavailable."""
        head = partition.head_cell
        if partition.note is not None:
            return  # kinds of rows where it once had items take no others, and only the note says which
        if head is None or not (emptied or (partition.loaded and partition.head is None)):
            return
        number, record = partition.place
        quiet_us, now_us = head.stamp + QUIET_US, self._clock_us()
        if emptied or quiet_us > now_us or not await self._agreed(partition):
            due_us = max(quiet_us, now_us + QUIET_US)
            await self._dues.enter([keys.due_key(due_us, number, keys.RANGE_TOMB, record)])
            return
        await self._session.execute(
            self._write["unindex"], (head.stamp, number, index_shard(record), record), LOCAL_QUORUM
        )
        if keys.sampled(record):
            await self._session.execute(self._write["unsample"], (head.stamp, number, record), LOCAL_QUORUM)
        await self._session.execute(self._write["lww_drop"], (head.stamp, number, record, HEAD, b""), LOCAL_QUORUM)

    async def _agreed(self, partition: LwwPartition) -> bool:
        """Whether all data centres have of the record just what was read here."""
        assert partition.head_cell is not None
        try:
            found = await self._session.execute(self._read["lww_begin"], (*partition.place, 2), EACH_QUORUM)
        except Unavailable:
            return False
        return [(kind, value, bool(more)) for kind, _, value, more in found] == [
            (HEAD, encode_head(partition.head_cell), False)
        ]
