"""The engine: the shard, its abilities by name, and what must be done as time goes by.

Everything that changes something is one call without an await; where it answers an awaitable, that ends when the change
is durable, and only then may a caller be told.
"""

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from random import Random

from libs.clock.clock import Clock
from libs.errors.errors import WellspringError
from services.propagation.domain import failures, leasing, publish, recovery, retention
from services.propagation.domain.change import Change
from services.propagation.domain.completion import Completion, complete
from services.propagation.domain.fanout import second_pass
from services.propagation.domain.heat import Heat
from services.propagation.domain.leases import Answer
from services.propagation.domain.publish import Outcome
from services.propagation.domain.sequence import decode, encode
from services.propagation.domain.shard import Settings, Shard
from services.propagation.domain.views import RETIRED, View, Views
from services.propagation.store.interface import Store

_FORGET_EVERY_S = 5.0
_COMPACT_ITEMS = 2_000
VIEWS_RECORD = ("views", b"current")
_REVISION = b"revision/"
IDLE_S = 1.0
"""The longest time between two ticks."""


def revision_record(revision: int) -> tuple[str, bytes]:
    """(kind, key) of the record that a revision of the views is kept as."""
    return VIEWS_RECORD[0], _REVISION + encode(revision)


def revision_records(store: Store) -> Iterator[tuple[int, bytes]]:
    """(revision, source) of those that are kept, oldest first."""
    for key, value in store.records(VIEWS_RECORD[0], start=_REVISION, end=_REVISION + b"\xff"):
        yield decode(key.removeprefix(_REVISION)), value


class Engine:
    """One shard of propagation over a store. Opening it recovers everything from the store."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rng: Random,
        settings: Settings,
        views: Sequence[View] = (),
        revision: int = 0,
        older: Mapping[int, Sequence[View]] | None = None,
    ) -> None:
        """`older` are the views of earlier revisions that are still kept."""
        self.shard = Shard(store, Views((), {}, 0, older), clock, rng, settings)
        self._forgot_s = clock.monotonic()
        self._folded = -1.0
        self.put_views(views, revision)
        recovery.recover(self.shard)
        if settings.canaries:
            step = self.shard.step()
            self.shard.canaries.begin(step.commit, step.now_ns)
            step.write()

    def put_views(self, views: Sequence[View], revision: int, source: bytes = b"") -> Awaitable[None]:
        """Takes over other views, and keeps `source` as VIEWS_RECORD, and by its revision, if there is any.

        Roots finish under the views that they began with: those are kept as long as one of them is unfinished.
        """
        shard = self.shard
        step = shard.step()
        if source:
            step.commit.put_record(*VIEWS_RECORD, source)
            step.commit.put_record(*revision_record(revision), source)
        step.commit.intern_views([view.name for view in views])
        durable = step.write()
        shard.views = shard.views.followed_by(views, shard.store.views, revision)
        step = shard.step()
        for root in shard.roots.values():
            served = shard.views.of(root.record.revision).by_number
            retired = [place for place, group in root.groups.items() if group.view not in served]
            for place in retired:
                group = root.groups.pop(place)
                root.total -= len(group.pending) + len(group.failed)
                step.touch(root)
        shard.signals.work.fire()
        return step.write() if shard.roots else durable

    def publish(self, change: Change) -> tuple[publish.Accepted, Awaitable[None] | None]:
        """See publish.publish."""
        return publish.publish(self.shard, change)

    def publish_all(self, changes: Sequence[Change]) -> tuple[list[Outcome], Awaitable[None] | None]:
        """See publish.publish_all."""
        return publish.publish_all(self.shard, changes)

    def lease(self, executor: str, capacity: Mapping[str, int]) -> list[leasing.Grant]:
        """Leases of at most so many items of each view. Raises ViewNotFound."""
        return leasing.lease(self.shard, executor, {self.shard.views.number(v): n for v, n in capacity.items()})

    def lease_first(self, executor: str, capacity: Mapping[str, int]) -> list[leasing.Grant]:
        """As lease, for roots only that had no turn yet: what an executor keeps a little room for."""
        numbers = {self.shard.views.number(view): items for view, items in capacity.items()}
        return leasing.lease(self.shard, executor, numbers, first_turns=True)

    def awaiting_first(self, capacity: Mapping[str, int]) -> AbstractContextManager[None]:
        """While a call that got nothing from `lease_first` waits: nobody else gets first turns of these views."""
        return self.shard.scheduler.awaiting([self.shard.views.number(view) for view in capacity])

    def complete(self, completion: Completion) -> tuple[Answer, Awaitable[None] | None]:
        """See completion.complete."""
        return complete(self.shard, completion)

    def extend(self, lease_id: int, fencing: int) -> float:
        """Moves a lease's deadline; answers seconds from now. Raises Fenced, LeaseExpired."""
        shard = self.shard
        lease = shard.leases.get(lease_id, fencing, shard.now_s())
        view = shard.views.of(lease.revision).by_number.get(lease.view, RETIRED)
        shard.leases.extend(lease, shard.now_s() + view.lease_s)
        return view.lease_s

    def tick(self) -> float:
        """Does what is due; answers in how many seconds to call again, at most IDLE_S."""
        shard = self.shard
        now_s = shard.now_s()
        if shard.halted is not None:
            self._restart()
            return IDLE_S
        if shard.holds.wake(now_s):
            shard.signals.work.fire()
        over = shard.leases.expired(now_s)
        settled = shard.settling.due(now_s)
        if over or settled:
            step = shard.step()
            for lease in over:
                failures.lost(step, lease)
            for due in settled:
                second_pass(step, due)
            step.write()
        if now_s - self._forgot_s >= _FORGET_EVERY_S and not retention.forget(shard):
            self._forgot_s = now_s
            self._forget_views()
        times = [shard.holds.next_due_s, shard.leases.next_deadline_s, shard.settling.next_due_s]
        return max(0.0, min([IDLE_S, *(at - now_s for at in times if at is not None)]))

    def _compact(self) -> bool:
        """Gives the store some time to fold what arrived: when much waits, and for all of it once nothing else goes on.

        Answers whether it wants more.
        """
        shard, settings = self.shard, self.shard.settings
        if shard.halted is not None or not self._folds:
            return False
        began_s, quiet = shard.now_s(), self._quiet
        more = True
        while more and (quiet or shard.store.needs_compaction) and shard.now_s() - began_s < settings.compact_s:
            more = shard.store.compact(_COMPACT_ITEMS) > 0
        if not more:
            self._folded = shard.written_s
        return more

    @property
    def _quiet(self) -> bool:
        shard = self.shard
        return not shard.roots and shard.now_s() - shard.written_s >= shard.settings.quiet_s

    @property
    def _folds(self) -> bool:
        """Whether there is anything to fold now."""
        shard = self.shard
        return shard.store.needs_compaction or (self._quiet and self._folded != shard.written_s)

    def _forget_views(self) -> None:
        """Lets go of the views of earlier revisions under which nothing is at work any more."""
        shard = self.shard
        used = {root.record.revision for root in shard.roots.values()}
        over = [revision for revision in shard.views.older if revision not in used]
        if over:
            step = shard.step()
            for revision in over:
                step.commit.delete_record(*revision_record(revision))
            step.write()
            shard.views = shard.views.without(over, shard.store.views)

    def _restart(self) -> None:
        """Tries to go on after the store refused a write."""
        try:
            recovery.recover(self.shard)
        except WellspringError as error:
            self.shard.halted = error

    async def durable(self) -> None:
        """Waits until all that was written is durable: before an answer that a crash must not take back."""
        step = self.shard.step()
        await step.write()

    async def run(self) -> None:
        """Ticks for ever, and folds. A refused write halts the shard, and a later tick tries to go on."""
        shard = self.shard
        while True:
            shard.leases.awake(shard.now_s())
            try:
                wait_s = self.tick()
                if shard.halted is None and self._folds and await shard.long_work.turn(self._compact):
                    wait_s = shard.settings.compact_every_s
            except WellspringError:
                wait_s = IDLE_S
            await asyncio.sleep(max(wait_s, 0.005))

    @property
    def heat(self) -> Heat:
        """Reads as the gateway reports them."""
        return self.shard.heat
