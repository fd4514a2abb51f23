"""What this process knows of each namespace: its newest change and version, what it holds, who waits for changes.

Every process counts what it added in a row of its own; what a namespace holds is the sum. A row is written from time to
time: what a process that dies had added since is lost to the sum, which is therefore an estimate. It is read in this
data centre: one that is away holds nobody up, and what was added there counts when it comes back.
"""

import asyncio
import dataclasses
import secrets
from collections.abc import Callable
from typing import Final

from libs.cassandra.session import LOCAL_QUORUM, Session
from services.storage.cassandra.statements import Statements
from services.storage.domain.model import NO_VERSION
from services.storage.store.ledger import Account

_FRESH_S: Final = 5.0
"""How old the counts of other processes may be."""


@dataclasses.dataclass(slots=True)
class Counts:
    """Records, items and bytes."""

    records: int = 0
    items: int = 0
    size: int = 0


class Standing:
    """One namespace. ``sequence`` is that of the newest change given out or seen, ``newest`` the newest version."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sequence = 0
        self.newest = NO_VERSION
        self.mine = Counts()
        self.others = Counts()
        self.read_s = float("-inf")
        self.changed = False
        self.waiting: set[asyncio.Future[None]] = set()

    def account(self, floor: int, now_us: int, newest: bytes, *, many: int = 1) -> Account:
        """What a step of work begins with: its changes, ``many`` at most, come after ``floor`` and not before
        ``now_us``, their versions after ``newest``."""
        account = Account(self.number)
        account.sequence = max(self.sequence, floor, now_us - 1)
        self.sequence = account.sequence + many
        account.newest = max(self.newest, newest)
        account.records = self.mine.records + self.others.records
        account.items = self.mine.items + self.others.items
        account.size = self.mine.size + self.others.size
        return account

    def add(self, before: Account, after: Account) -> None:
        """Takes in what a step added."""
        self.mine.records += after.records - before.records
        self.mine.items += after.items - before.items
        self.mine.size += after.size - before.size
        self.newest = max(self.newest, after.newest)
        self.changed = True

    def wake(self) -> None:
        """Tells those that wait for a change."""
        while self.waiting:
            future = self.waiting.pop()
            if not future.done():
                future.set_result(None)


class Accounts:
    """The standings by namespace number."""

    def __init__(self, session: Session, statements: Statements, monotonic_s: Callable[[], float]) -> None:
        self._session = session
        self._statements = statements
        self._monotonic_s = monotonic_s
        self._standings: dict[int, Standing] = {}
        self._reading: dict[int, asyncio.Lock] = {}
        self._id = secrets.randbits(62)

    def known(self, number: int) -> Standing | None:
        """The standing of a namespace, if it has been read."""
        return self._standings.get(number)

    async def standing(self, number: int, *, fresh: bool = False) -> Standing:
        """The standing of a namespace; ``fresh``: with counts of the others that are some seconds old at most."""
        found = self._standings.get(number)
        if found is not None and not (fresh and self._monotonic_s() - found.read_s > _FRESH_S):
            return found
        async with self._reading.setdefault(number, asyncio.Lock()):
            return await self._read(number)

    async def flush(self) -> None:
        """Writes the counts that changed since they were written last."""
        for standing in list(self._standings.values()):
            if standing.changed:
                standing.changed = False
                mine = standing.mine
                counts = (mine.records, mine.items, mine.size, standing.sequence, standing.newest)
                values = (*counts, standing.number, self._id)
                try:
                    await self._session.execute(self._statements.write["count"], values, LOCAL_QUORUM)
                except BaseException:
                    standing.changed = True
                    raise

    def forget(self, number: int) -> None:
        """Drops the standing of a namespace that is gone; its watchers look again and find that."""
        found = self._standings.pop(number, None)
        if found is not None:
            found.wake()

    async def _read(self, number: int) -> Standing:
        others, sequence, newest = Counts(), 0, NO_VERSION
        async for page in self._session.pages(self._statements.read["usages"], (number,), LOCAL_QUORUM):
            for lane, records, items, size, last, version in page:
                sequence, newest = max(sequence, last), max(newest, version)
                if lane != self._id:
                    others.records += records
                    others.items += items
                    others.size += size
        standing = self._standings.setdefault(number, Standing(number))
        standing.others = others
        standing.sequence, standing.newest = max(standing.sequence, sequence), max(standing.newest, newest)
        standing.read_s = self._monotonic_s()
        return standing
