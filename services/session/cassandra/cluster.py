"""The cluster as the tables of this backend use it: statements by name, the scopes they ask, decisions by condition.

One data centre is asked: reads and plain writes at its local quorum, so that what was answered is read by every server
there; conditional writes at its serial scope, which is the home of the sessions made there. What all data centres share
(realms) is decided by all and written everywhere, so that each reads it at its own quorum.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from typing import Any, Final

from libs.cassandra.bundling import Bundled
from libs.cassandra.errors import OutcomeUnknown
from libs.cassandra.gathering import Gathered, Kind
from libs.cassandra.limits import BatchLimits
from libs.cassandra.routing import routing_key
from libs.cassandra.session import EACH_QUORUM, LOCAL_QUORUM, LOCAL_SERIAL, SERIAL, Page, Row, Session, Statement
from services.session.cassandra.statements import Statements

ATTEMPTS: Final = 16
"""How often a change of one partition begins again because another one came first."""

TOGETHER: Final = ("head", "subject_epoch", "creations", "note")
"""Reads of one partition that go with others of their kind."""

Write = tuple[Statement, Sequence[Any]]


class Cluster:
    """An open session with its statements. `now_us`: microseconds since 1970, from which times to live are counted."""

    def __init__(
        self,
        session: Session,
        statements: Statements,
        now_us: Callable[[], int],
        limits: BatchLimits | None = None,
    ) -> None:
        self.now_us = now_us
        self._limits = limits or BatchLimits()
        self._read = statements.read
        self._write = statements.write
        self._turns: dict[Hashable, _Turn] = {}
        self.session = session

    @property
    def session(self) -> Session:
        """The connection that all goes through."""
        return self._session

    @session.setter
    def session(self, session: Session) -> None:
        self._session = session
        self._bundled = Bundled(session, LOCAL_QUORUM, self._limits)
        kinds = {name: Kind(self._read[name], self._read[f"{name} of many"], _partition) for name in TOGETHER}
        self._gathered = {name: Gathered(session, kind) for name, kind in kinds.items()}

    async def rows(self, name: str, *values: Any) -> list[Row]:
        """The answer of a read. Raises Unavailable."""
        return await self.session.execute(self._read[name], values, LOCAL_QUORUM)

    def asked(self, name: str, *place: Any) -> "asyncio.Future[list[Row]]":
        """The answer of a read of one partition, one of TOGETHER, asked for with others that come now: not to be
        changed, for those who ask for the same have it too. The future raises Unavailable."""
        return self._gathered[name].ask(place[-1], LOCAL_QUORUM, before=place[:-1])

    async def decided_rows(self, name: str, *values: Any, shared: bool = False) -> list[Row]:
        """The answer of a read that comes after every conditional write of its partition (`shared`: in any data
        centre). Raises Unavailable."""
        return await self.session.execute(self._read[name], values, SERIAL if shared else LOCAL_SERIAL)

    async def row(self, name: str, *values: Any) -> Row | None:
        """The first row of a read's answer."""
        rows = await self.rows(name, *values)
        return rows[0] if rows else None

    def pages(self, name: str, *values: Any) -> AsyncIterator[list[Row]]:
        """The answer of a read that may be long, in pieces."""
        return self.session.pages(self._read[name], values, LOCAL_QUORUM)

    async def page(self, name: str, *values: Any, size: int, state: bytes | None) -> Page:
        """One piece of such an answer; `state`: where the one before ended."""
        return await self.session.page(self._read[name], values, LOCAL_QUORUM, size=size, state=state)

    def write(self, name: str, *values: Any) -> Write:
        """A write for `plain` or `decide`."""
        return self._write[name], values

    async def put(self, name: str, *values: Any) -> None:
        """A plain write. Raises Unavailable, OutcomeUnknown: sent again it is the same write."""
        await self.session.execute(self._write[name], values, LOCAL_QUORUM)

    async def put_everywhere(self, name: str, *values: Any) -> None:
        """A plain write that a quorum of each data centre has. Raises as `put`."""
        await self.session.execute(self._write[name], values, EACH_QUORUM)

    async def plain(self, writes: Sequence[Write]) -> None:
        """Plain writes of one partition, all or none of them; of several (few, and small) each for itself."""
        await self.session.batch(writes, LOCAL_QUORUM)

    async def plain_beside(self, writes: Sequence[Write], *, size_bytes: int, partitions: int) -> None:
        """Plain writes with times of their own, of a few partitions, each for itself, sent with those of others that
        come now. `size_bytes`: about what their rows hold. Raises as `put`."""
        await self._bundled.write(writes, size_bytes=size_bytes, partitions=partitions)

    async def decide(
        self, writes: Sequence[Write], look: Callable[[], Awaitable[bool | None]], *, shared: bool = False
    ) -> bool:
        """Writes of one partition, taken together if the conditions among them hold; whether they were. `shared`: by
        all data centres, and at a quorum of each.

        When the answer is lost, `look` says what became of it from decided reads: None for what cannot be known. Raises
        Unavailable, and OutcomeUnknown then.
        """
        try:
            scope = (EACH_QUORUM, SERIAL) if shared else (LOCAL_QUORUM, LOCAL_SERIAL)
            rows = await self.session.batch(writes, scope[0], serial=scope[1])
        except OutcomeUnknown:
            found = await look()
            if found is None:
                raise
            return found
        return bool(rows[0][0])

    @contextlib.asynccontextmanager
    async def turn(self, *partition: Hashable) -> AsyncIterator[None]:
        """This process's changes of a partition come one after another: at once they would only refuse each other."""
        turn = self._turns.setdefault(partition, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[partition]


def _partition(before: tuple[Any, ...], place: Any) -> bytes:
    """The key of a partition, as the cluster hashes it."""
    columns = [column if isinstance(column, bytes) else column.encode() for column in (*before, place)]
    return columns[0] if len(columns) == 1 else routing_key(*columns)


class _Turn:
    """A lock, and how many hold it or wait for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
