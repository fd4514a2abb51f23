"""One shard's engine state, and the step in which it changes.

A `Step` gathers one commit. The sets in memory are changed while it is gathered, because nothing else runs before it
is written: gathering and writing happen in one step of the event loop. Should the write fail, the sets would be ahead
of the store; the shard is then halted, and `recovery.recover` derives them anew.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from itertools import repeat
from random import Random

import numpy as np
from pyroaring import BitMap

from libs.clock.clock import Clock
from libs.errors.errors import Unavailable
from services.propagation.domain import finished
from services.propagation.domain.ages import KEPT_S, SPAN_S, Ages
from services.propagation.domain.canaries import Canaries
from services.propagation.domain.causers import Causers
from services.propagation.domain.costs import Costs
from services.propagation.domain.heat import Heat
from services.propagation.domain.held_back import HeldBack
from services.propagation.domain.history import History
from services.propagation.domain.holds import Holds
from services.propagation.domain.interest import Interest
from services.propagation.domain.leases import Lease, Leases
from services.propagation.domain.long_work import LongWork
from services.propagation.domain.partition import WHOLE, Part
from services.propagation.domain.records import TALLY, RootRecord, State
from services.propagation.domain.root_index import RootIndex
from services.propagation.domain.roots import Root
from services.propagation.domain.scheduler import Scheduler
from services.propagation.domain.sequence import SequenceClock, encode
from services.propagation.domain.settling import SETTLE, Settling
from services.propagation.domain.signals import Signals
from services.propagation.domain.suspects import Suspects
from services.propagation.domain.unsure import Unsure
from services.propagation.domain.views import Views
from services.propagation.store.interface import InputChange, Numbers, Store

_MOST_FLIPS = 1_000


@dataclass(frozen=True, slots=True)
class Settings:
    """The engine's bounds and times.

    `lanes` are weights by name; `max_flips` is how often an item may change under one root before it is taken for an
    oscillation; `stale_delay_s` is the wait after an executor saw an older input than it was told to see;
    `remember_s` is the window in which a repeated change id is recognised and finished roots are listed; `jitter` the
    share of a retry's backoff that is random; `history_bytes` what the log of renders takes at most; `max_causers` how
    many are told apart by their costs. Compaction has a slice of about `compact_s` each
    `compact_every_s`: while the store asks for it, and once nothing was written for `quiet_s`.
    `canaries` are the periods of watched sources, by name; `part` is which shard of several this is.
    """

    lanes: dict[str, int] = field(default_factory=lambda: {"default": 10})
    default_lane: str = "default"
    max_roots: int = 10_000
    max_pending_bytes: int = 1 << 30
    max_superseded: int = 8
    max_flips: int = 8
    stale_delay_s: float = 1.0
    remember_s: float = 7 * 86_400.0
    max_lent: int = 1_000_000
    jitter: float = 0.5
    compact_every_s: float = 0.01
    compact_s: float = 0.005
    quiet_s: float = 1.0
    canaries: dict[str, float] = field(default_factory=dict)
    history_bytes: int = 256 << 20
    max_causers: int = 10_000
    part: Part = WHOLE


class Shard:
    """The state that the modules of this folder work on."""

    def __init__(self, store: Store, views: Views, clock: Clock, rng: Random, settings: Settings) -> None:
        self.store = store
        self.views = views
        self.clock = clock
        self.rng = rng
        self.settings = settings
        self.sequence = SequenceClock(store)
        ticks = self.sequence.ticks(int(KEPT_S / SPAN_S))
        self.ages = Ages(ticks, self.sequence.last, clock.time_ns(), clock.monotonic())
        self.leases = Leases(store.epoch)
        self.holds = Holds(store)
        self.costs = Costs(store)
        self.causers = Causers(store, settings.max_causers)
        self.heat = Heat()
        self.settling = Settling()
        self.canaries = Canaries(store, settings.canaries)
        self.held_back = HeldBack()
        self.history = History(store, settings.history_bytes)
        self.interest = Interest(store)
        self.suspects = Suspects()
        self.unsure = Unsure()
        self.scheduler = Scheduler(settings.lanes)
        self.signals = Signals()
        self.long_work = LongWork(clock)
        self.roots: dict[int, Root] = {}
        self.index = RootIndex()
        self.newest: dict[tuple[int, ...], Root] = {}
        self._of_inputs: dict[tuple[int, ...], dict[int, Root]] = {}
        self.flips: dict[int, dict[int, list[BitMap]]] = {}
        """Of roots that ended and may be opened again for what another shard tells, by their sequence."""
        self.halted: BaseException | None = None
        self.written_s = 0.0
        self.room_bytes = 0
        """So much may become pending before `pending_bytes` must be counted again: counting goes through every root."""

    def now_s(self) -> float:
        """Monotonic seconds."""
        return self.clock.monotonic()

    def take_in(self, root: Root) -> None:
        """Makes the root one of the unfinished."""
        self.roots[root.sequence] = root
        if not self.index.knows(root.sequence):
            for group in root.groups.values():
                self.index.note(root, group.view, group.pending | group.failed)
        self._of_inputs.setdefault(root.record.inputs, {})[root.sequence] = root
        current = self.newest.get(root.record.inputs)
        if root.record.inputs and (current is None or current.sequence <= root.sequence):
            self.newest[root.record.inputs] = root
        if root.runnable:
            self.scheduler.add(root)

    def let_go(self, root: Root) -> None:
        """Takes the root out: it is finished."""
        self.roots.pop(root.sequence, None)
        self.index.drop(root.sequence)
        same = self._of_inputs.get(root.record.inputs, {})
        same.pop(root.sequence, None)
        if not same:
            self._of_inputs.pop(root.record.inputs, None)
        if self.newest.get(root.record.inputs) is root:
            del self.newest[root.record.inputs]
        self.scheduler.remove(root)

    def keep_flips(self, root: Root) -> None:
        """The root ends: another shard may go on with a cycle that goes through both."""
        if root.flips and self.settings.part.shards > 1:
            self.flips[root.sequence] = root.flips
            if len(self.flips) > _MOST_FLIPS:
                del self.flips[next(iter(self.flips))]

    def drop_roots(self) -> None:
        """Forgets every root in memory, before they are read anew."""
        self.roots.clear()
        self.index.clear()
        self.newest.clear()
        self._of_inputs.clear()
        self.flips.clear()

    def of_inputs(self, inputs: tuple[int, ...]) -> list[Root]:
        """The unfinished roots of just these inputs, in the order in which they were taken in."""
        return list(self._of_inputs.get(inputs, {}).values())

    def give_back(self, lease: Lease, items: BitMap) -> None:
        """Ends the loan of items that are not rendered: roots that waited for nothing else have turns again."""
        self.leases.give_back(lease, items)
        for root in self.index.of(lease.view, items):
            self.scheduler.unpark(root)

    def step(self) -> "Step":
        """Begins a step. Raises Unavailable while the shard is halted."""
        if self.halted is not None:
            raise Unavailable(
                "the engine's store refused a write; work goes on when it takes writes again",
                retry_after_s=1.0,
                reason="ENGINE_HALTED",
            )
        return Step(self)

    @property
    def pending_bytes(self) -> int:
        """About what the pending sets of unfinished roots take in memory."""
        ceiling = self.store.resource_count // 8 + 4096
        return sum(
            min(2 * len(group.pending), ceiling) for root in self.roots.values() for group in root.groups.values()
        )


class Step:
    """One commit in the making, and the roots whose counters it moves."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.commit = shard.store.begin()
        self.now_ns = shard.clock.time_ns()
        self.now_s = shard.clock.monotonic()
        self._touched: dict[int, Root] = {}
        self._changed: list[tuple[int, InputChange]] = []

    def next_sequence(self) -> int:
        """A new number of the engine's clock."""
        return self.shard.sequence.next(self.now_ns)

    def change_inputs(self, inputs: Numbers, change: InputChange) -> None:
        """The inputs' newest change; all that a step is told go into its commit together."""
        self._changed += zip(inputs.tolist(), repeat(change), strict=False)

    def touch(self, root: Root) -> None:
        """The root's counters moved."""
        self._touched[root.sequence] = root

    def put_record(self, root: Root, record: RootRecord) -> None:
        """Changes the root's record."""
        root.record = record
        record.put(self.commit)
        self.touch(root)

    def finish(self, root: Root, state: State, left: int = 0) -> None:
        """Ends the root."""
        tally = root.tally()
        self.commit.put_record(TALLY, encode(root.sequence), tally.pack())
        self.shard.causers.charge(self.commit, root.record.change.cause.causer, tally)
        if root.shares.learned and root.record.change.resource:
            resource = self.shard.store.find_resources([root.record.change.resource.encode()])
            root.shares.keep(self.shard.store, self.commit, int(resource[0]))
        root.record = root.record.finish(state, self.now_ns, left)
        root.record.put(self.commit)
        finished.note(self.commit, self.next_sequence(), root.sequence)
        self.commit.delete_records(SETTLE, encode(root.sequence))
        self.shard.settling.drop(root.sequence)
        self.shard.keep_flips(root)
        self.shard.let_go(root)
        self._touched.pop(root.sequence, None)

    def write(self) -> Awaitable[None]:
        """Writes the commit; awaiting ends when it is durable. Halts the shard when the store refuses."""
        shard = self.shard
        for root in list(self._touched.values()):
            if root.sequence not in shard.roots:
                continue
            if root.finished:
                self.finish(root, State.DONE_WITH_FAILURES if root.failed else State.DONE)
            else:
                self.commit.put_record(TALLY, encode(root.sequence), root.tally().pack())
        if self._changed:
            numbers = np.array([number for number, _ in self._changed], np.uint32)
            self.commit.change_each(numbers, [change for _, change in self._changed])
        shard.sequence.settle(self.commit)
        shard.ages.note(shard.sequence.last, self.now_s)
        shard.written_s = self.now_s
        try:
            durable = shard.store.write(self.commit)
        except BaseException as error:
            shard.halted = error
            raise
        shard.sequence.settled()
        shard.signals.progress.fire()
        return durable
