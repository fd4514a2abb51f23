"""Steps of work: the engine run over what was loaded, loaded further until it has all it asks for, then committed.

A step works on one record. It is decided on what was read; the store takes it only if the record is still as it was
read, else it is read again and decided again. Steps of this process on one record come one after the other.
"""

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final, TypeVar

from libs.cassandra.session import QUORUM, Session
from libs.errors.errors import Unavailable, WellspringError
from services.storage.cassandra import outbox
from services.storage.cassandra.accounts import Accounts, Standing
from services.storage.cassandra.commit import Change, Committer
from services.storage.cassandra.lanes import Lane
from services.storage.cassandra.layout import record_key
from services.storage.cassandra.loader import Loader
from services.storage.cassandra.lww.steps import LwwSteps
from services.storage.cassandra.lww.together import LwwTogether
from services.storage.cassandra.partition import Loaded, NotLoaded, Place, Rows
from services.storage.cassandra.scope import STRONG, Scope, check_home, scope_of
from services.storage.cassandra.statements import Statements
from services.storage.cassandra.tasks import KeyedLocks
from services.storage.cassandra.view import View
from services.storage.cassandra.wanted import wanted_by
from services.storage.domain.errors import ConditionFailed, ItemNotFound, VersionNotFound
from services.storage.domain.model import NO_VERSION, Receipt
from services.storage.domain.namespace import Namespace
from services.storage.store import events
from services.storage.store.families import Families
from services.storage.store.interface import Page, Read, Write
from services.storage.store.ledger import Account, Ledger
from services.storage.store.local import LocalOptions, LocalStore
from services.storage.store.record import version_of
from services.storage.store.tasks import Tasks

T = TypeVar("T")
Work = Callable[[LocalStore], Awaitable[T]]
_TRIES: Final = 50
_PAUSE_S: Final = 0.01
_REFUSALS: Final = (ConditionFailed, ItemNotFound, VersionNotFound)
"""What is said of a record's state, and must not rest on a replica that lags."""


class Steps:
    """Runs them."""

    def __init__(
        self,
        session: Session,
        statements: Statements,
        loader: Loader,
        committer: Committer,
        accounts: Accounts,
        tasks: Tasks,
        clock_us: Callable[[], int],
        options: LocalOptions,
        lww: LwwSteps,
        together: LwwTogether,
    ) -> None:
        self._session = session
        self._statements = statements
        self._loader = loader
        self._committer = committer
        self._accounts = accounts
        self._tasks = tasks
        self._clock_us = clock_us
        self._options = options
        self._datacentre = session.options.local_datacentre
        self._locks: KeyedLocks[Place] = KeyedLocks()
        self._lanes: dict[int, Lane] = {}
        self._lww = lww
        self._together = together

    def scope(self, space: Namespace) -> Scope:
        """How many replicas the namespace's statements ask."""
        return scope_of(space, self._datacentre)

    def lane(self, space: Namespace) -> Lane:
        """This process's lane of the namespace's feed."""
        found = self._lanes.get(space.number)
        if found is None:
            lane = Lane(space.number, self._session, self._statements, self.scope(space).plain)
            found = self._lanes[space.number] = lane
        return found

    def forget(self, number: int) -> None:
        """Drops the lane of a namespace that is gone."""
        self._lanes.pop(number, None)
        self._lww.forget(number)

    async def read(self, read: Read, level: int) -> Page:
        """As ``Store.read``, at ``level``. Raises as :meth:`inspect`."""
        first, loaded = wanted_by(read), Loaded()
        if read.namespace.stamped and not first.rows:
            page = await self._lww.glance(read, loaded, level)
            if page is not None:
                return page
            return await self.inspect(read.namespace, lambda store: store.read(read), loaded, level)
        return await self.inspect(read.namespace, lambda store: store.read(read), loaded, level, first=first)

    async def inspect(
        self,
        space: Namespace,
        work: Work[T],
        loaded: Loaded | None = None,
        level: int | None = None,
        *,
        whole: bool = False,
        first: Rows | None = None,
    ) -> T:
        """The result of a step that only reads, at ``level`` (None: the namespace's). ``whole``: it wants to count what
        records have; ``first``: what it will ask for first. Raises what it raises, ConsistencyUnavailable for a strong
        read away from home, and Unavailable."""
        return await self.look(space, lambda view: work(self._engine(view)), loaded, level, whole=whole, first=first)

    async def look(
        self,
        space: Namespace,
        work: Callable[[View], Awaitable[T]],
        loaded: Loaded | None = None,
        level: int | None = None,
        *,
        whole: bool = False,
        first: Rows | None = None,
    ) -> T:
        """As :meth:`inspect`, for what reads the view itself."""
        loaded = loaded or Loaded()
        level = self.scope(space).read if level is None else level
        if level in STRONG:
            check_home(space, self._datacentre)
        standing = await self._accounts.standing(space.number)
        loader = self._loader
        if space.stamped:
            loader = self._lww.whole if whole else self._lww.loader
        if first is not None:
            await loader.rows(first.place, first.rows, loaded, level)
        while True:
            view = self._view(loaded, [(space, standing.account(0, 0, NO_VERSION))], reads_only=True)
            try:
                return await work(view)
            except NotLoaded as missing:
                await loader.load(missing.need, loaded, level)

    async def change(
        self, space: Namespace, place: Place, wanted: Rows, work: Work[T], *, due: Sequence[bytes] = ()
    ) -> T:
        """The result of a step that writes the record at ``place``, once it is durable; it goes on to its end when the
        caller goes away. ``wanted``: rows that it will ask for. ``due``: entries for a sweep. Raises what it raises,
        Unavailable (nothing was written) and OutcomeUnknown."""
        check_home(space, self._datacentre)
        return await self._tasks.run(self._change(space, place, wanted, work, due))

    async def change_alike(self, space: Namespace, writes: Sequence[Write]) -> list[Receipt | WellspringError | None]:
        """What became of writes that are one step (``lww/together.py``), each of another record; None of one that takes
        a step of its own. They go on to their end when the caller goes away. Raises Unavailable."""
        check_home(space, self._datacentre)
        return await self._tasks.run(self._change_alike(space, writes))

    async def _change_alike(self, space: Namespace, writes: Sequence[Write]) -> list[Receipt | WellspringError | None]:
        standing = await self._accounts.standing(space.number)
        async with self._locks.hold_all(sorted((space.number, write.command.record) for write in writes)):
            return await self._together.change(
                space,
                writes,
                lambda view, some: self._engine(view).mutate(some),
                self._view,
                standing,
                self.lane(space),
            )

    def busy(self, write: Write) -> bool:
        """Whether this process writes the record now."""
        return self._locks.held((write.namespace.number, write.command.record))

    def replicas(self, write: Write) -> Hashable:
        """Names the replicas of the record: those of one name are asked for together without a detour."""
        return self._session.replicas(record_key(write.namespace.number, write.command.record))

    async def clean(self, spaces: Sequence[Namespace], work: Work[T], due: Sequence[bytes]) -> T:
        """A step of the sweeper that touches no record."""
        loaded = Loaded()
        level = self.scope(spaces[0]).plain if spaces else QUORUM
        while True:
            view = self._view(loaded, [(space, Account(space.number)) for space in spaces], due)
            try:
                result = await work(self._engine(view))
                break
            except NotLoaded as missing:
                await self._loader.load(missing.need, loaded, level)
        await self._tasks.run(self._committer.plain(Change(view.ops, 0)))
        return result

    async def _change(self, space: Namespace, place: Place, wanted: Rows, work: Work[T], due: Sequence[bytes]) -> T:
        quota = space.settings.quota
        standing = await self._accounts.standing(space.number, fresh=bool(quota.max_bytes or quota.max_records))
        async with self._locks.hold(place):
            if space.stamped:
                return await self._lww.change(
                    space,
                    place,
                    wanted,
                    lambda view: work(self._engine(view)),
                    lambda loaded, spaces: self._view(loaded, spaces, due),
                    standing,
                    self.lane(space),
                )
            attempt = _Attempt(self, space, place, standing, due)
            for tried in range(_TRIES):
                if tried > 1:
                    await asyncio.sleep(_PAUSE_S * min(tried, 10) * random.random())  # noqa: S311
                done, result = await attempt.run(wanted, work, serial=tried > 0)
                if done:
                    answer: T = result
                    return answer
        raise Unavailable(
            "the record is being written by too many at once; nothing was written",
            reason="RECORD_CONTENDED",
            retry_after_s=0.2,
        )

    def _view(
        self,
        loaded: Loaded,
        spaces: Sequence[tuple[Namespace, Account]],
        due: Sequence[bytes] = (),
        *,
        reads_only: bool = False,
    ) -> View:
        return View(loaded, spaces, self._clock_us() - self._options.token_window_us, due, reads_only=reads_only)

    def _engine(self, view: View) -> LocalStore:
        return LocalStore(view, self._clock_us, self._options)


@dataclasses.dataclass(slots=True)
class _Attempt:
    """One step's tries."""

    steps: Steps
    space: Namespace
    place: Place
    standing: Standing
    due: Sequence[bytes]

    async def run(self, wanted: Rows, work: Work[T], *, serial: bool) -> tuple[bool, Any]:
        """(True, the result), or (False, None) to try again, with what was written last in sight."""
        steps, scope = self.steps, self.steps.scope(self.space)
        consistency = scope.serial if serial else scope.plain
        loaded = Loaded()
        await steps._loader.rows(wanted.place, wanted.rows, loaded, consistency)
        while True:
            before = self._account(loaded)
            view = steps._view(loaded, [(self.space, before)], self.due)
            try:
                result = await work(steps._engine(view))
                break
            except NotLoaded as missing:
                await steps._loader.load(missing.need, loaded, consistency)
            except _REFUSALS:
                if serial:
                    raise
                return False, None
        change = Change(view.ops, before.sequence + 1)
        if _refused(result) and not serial:
            return False, None
        if change.place is None:
            await steps._committer.plain(change)
            return True, result
        change.check_size()
        after = Ledger(Families(view)).account(self.space.number)
        lane = steps.lane(self.space)
        announced = None if change.event is None else lane.announce(change.sequence, self.place[1])
        done = await steps._committer.record(change, loaded, lane, announced, scope)
        if done:
            self.standing.add(before, after)
            self.standing.wake()
        return done, result

    def _account(self, loaded: Loaded) -> Account:
        partition = loaded.partition(self.place)
        box = outbox.decode(partition.outbox)
        floor = int.from_bytes(partition.rev[:8], "big") if partition.rev is not None else 0
        newest = version_of(partition.head) if partition.head is not None else NO_VERSION
        if box is not None:
            newest = max(newest, events.event_version(box.event))
        return self.standing.account(floor, self.steps._clock_us(), newest)


def _refused(result: Any) -> bool:
    """Whether a mutation was refused for what is there."""
    return isinstance(result, list) and any(isinstance(one, _REFUSALS) for one in result)
