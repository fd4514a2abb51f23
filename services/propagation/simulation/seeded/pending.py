"""What is pending in memory is what the store says: an engine opened from a copy of the store must find the same.

The copy is of what was written, durable or not, because memory is ahead of the disk. Everything that the copy finds
pending must be pending in memory as well: under the same root or, where an edge came late, under another that its input
changed under. The other way round memory may hold more: an item whose edge was taken away meanwhile is rendered once
for nothing. But what was rendered under a lease that began before one of its inputs was accepted must be found, unless
somebody cancelled the root under which that input changed. And a root that began while a view was left out of the views
finds what depends on it there after a restart only, once the view is back. A cycle that was stopped under one root and
goes on under another is a dead letter to a restart. An edge that came when a second pass of its input had begun is met
by that pass after a restart only: what it needs is a pass of its own, if its render began within the view's delay.
"""

import copy
from collections.abc import Mapping
from random import Random
from typing import cast

import numpy as np
from pyroaring import BitMap

from libs.clock.clock import Clock
from services.propagation.domain import oscillation
from services.propagation.domain.ages import SPAN_S
from services.propagation.domain.engine import Engine
from services.propagation.domain.fanout import members
from services.propagation.domain.records import Fanout, RootRecord, State, read_root
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Shard
from services.propagation.simulation.seeded.site import Place, output_place
from services.propagation.simulation.seeded.trace import Violation
from services.propagation.store.interface import Store
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk
from services.propagation.store.memory_state import State as Written


class _CopiedDisk(MemoryDisk):
    """A disk that holds a state instead of a log."""

    def __init__(self, state: Written, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch
        self._state = state

    def replay(self) -> Written:
        return self._state


class _Still:
    """A clock that stands."""

    def __init__(self, clock: Clock) -> None:
        self._wall_ns = clock.time_ns()
        self._now_s = clock.monotonic()

    def time_ns(self) -> int:
        return self._wall_ns

    def monotonic(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits in a copy")


def reopened(shard: Shard) -> Shard:
    """The state that a restart would find now."""
    store = cast("MemoryStore", shard.store)
    disk = _CopiedDisk(copy.deepcopy(store.state), store.epoch)
    views = list(shard.views.by_name.values())
    rng = Random(1)  # noqa: S311  a seeded simulation
    engine = Engine(
        cast("Store", MemoryStore(disk)),
        _Still(shard.clock),
        rng,
        shard.settings,
        views,
        shard.views.revision,
        shard.views.older,
    )
    return engine.shard


def check_pending(shard: Shard, accepted: Mapping[Place, int]) -> None:
    """Raises Violation where memory and store disagree.

    `accepted`: by page, the sequence of the newest lease when its last change was accepted.
    """
    found = reopened(shard)
    for sequence in shard.roots.keys() | found.roots.keys():
        mine, theirs = shard.roots.get(sequence), found.roots.get(sequence)
        if mine is None:
            raise Violation("pending is derived", f"a restart would find root {sequence}, which is over")
        for view in shard.views.by_number:
            here, there = _sets(mine, view), _sets(theirs, view) if theirs is not None else (BitMap(), BitMap())
            missing = there[0] - here[0] - _wanted_by_any(shard, view)
            if missing:
                missing -= _met_too_late(shard, mine, view, missing)
            if missing and knew(shard, mine.record, view):
                raise Violation(
                    "pending is derived",
                    f"root {mine.id}, view {view}: items {list(missing)} are behind and nobody is to render them",
                )
            known = _wanted_by_any(found, view) | _stopped(found, view)
            real = _too_early(shard, mine, view, known, accepted)
            if real:
                raise Violation(
                    "pending is derived",
                    f"root {mine.id}, view {view}: items {list(real)} are to be rendered and a restart forgets them",
                )
        if theirs is not None and theirs.record != mine.record:
            raise Violation("pending is derived", f"root {mine.id}: {mine.record}, after a restart {theirs.record}")


def knew(shard: Shard, record: RootRecord, view: int) -> bool:
    """Whether the view was in force when the root began."""
    return shard.views.name(view) in shard.views.of(record.revision)._own


def _wanted_by_any(shard: Shard, view: int) -> BitMap:
    wanted = BitMap()
    for root in shard.roots.values():
        wanted |= _sets(root, view)[0]
    return wanted


def _stopped(shard: Shard, view: int) -> BitMap:
    return BitMap([held.resource for held in shard.holds.dead_letters(view) if held.reason == oscillation.REASON])


def _met_too_late(shard: Shard, root: Root, view: int, items: BitMap) -> BitMap:
    """Those of the items that only second passes of the root find, and that need none or wait for another."""
    for noted in Fanout.of(shard.store, root.sequence):
        if noted.changed_at != noted.noted_at:
            items = items - shard.store.pending(view, _members(shard, root, noted, view), noted.changed_at)
    to_come = BitMap()
    for sequence, noted_at, due_view in shard.settling.to_come:
        later = Fanout.read(shard.store, sequence, noted_at) if due_view == view else None
        if later is not None:
            to_come |= _members(shard, shard.roots[sequence], later, view)
    return items & to_come | BitMap([item for item in items - to_come if _settled(shard, view, item)])


def _members(shard: Shard, root: Root, noted: Fanout, view: int) -> BitMap:
    return dict(members(shard, root, noted)).get(view, BitMap())


def _settled(shard: Shard, view: int, item: int) -> bool:
    """Whether the item's render began when the view's delay was over for all that it shows."""
    number = np.array([item], np.uint32)
    _, inputs = shard.store.dependencies(view, number)
    changed_at = max(change.changed_at for change in shard.store.input_changes(inputs.tolist()).values())
    began_at = int(shard.store.rendered_at(view, number)[0])
    waited_s = shard.ages.given_by_s(began_at, shard.now_s()) - shard.ages.given_by_s(changed_at, shard.now_s())
    return began_at > changed_at and waited_s + SPAN_S >= shard.views.in_use[view].settle_s


def _sets(root: Root, view: int) -> tuple[BitMap, BitMap]:
    pending, failed = BitMap(), BitMap()
    for group in root.of_view(view):
        pending |= group.pending
        failed |= group.failed
    return pending, failed


def _too_early(shard: Shard, root: Root, view: int, found: BitMap, accepted: Mapping[Place, int]) -> BitMap:
    """Pending items that a restart did not find, though their lease began before an output that they show changed."""
    early = BitMap()
    for item in _sets(root, view)[0] - found:
        number = np.array([item], np.uint32)
        rendered_at = int(shard.store.rendered_at(view, number)[0])
        _, inputs = shard.store.dependencies(view, number)
        resources = np.array([resource for resource, _ in shard.store.input_parts(inputs)], np.uint32)
        places = [output_place(name.decode()) for name in shard.store.resource_names(resources)]
        for place, read in zip(places, inputs.tolist(), strict=True):
            if place is not None and accepted.get(place, 0) >= rendered_at and not _cancelled(shard, read):
                early.add(item)
    return early


def _cancelled(shard: Shard, number: int) -> bool:
    """Whether the input's newest change came with a root that somebody cancelled."""
    change = shard.store.input_changes([number]).get(number)
    record = read_root(shard.store, change.root) if change is not None and change.root else None
    return record is not None and record.state is State.CANCELLED
