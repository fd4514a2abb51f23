"""Making items pending under a root: the dependents of what changed.

`pend` is the one way in. It keeps the counters exact (an item counts once for each time it must be rendered), releases
dead letters that the change may heal, stops oscillations, and notes on the leases in flight that they began too early.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from pyroaring import BitMap

from services.propagation.domain import oscillation
from services.propagation.domain.records import EVERY_VIEW, Fanout
from services.propagation.domain.roots import Root
from services.propagation.domain.settling import Due
from services.propagation.domain.shard import Shard, Step
from services.propagation.store.interface import Numbers
from services.propagation.store.numbers import to_numbers, to_set

_NO_INPUTS = np.empty(0, np.uint32)


def add_own(shard: Shard, root: Root, found: dict[int, BitMap]) -> None:
    """Adds the root's resource itself, in the views that render it."""
    name = root.record.change.resource
    number = int(shard.store.find_resources([name.encode()])[0])
    for view in shard.views.of(root.record.revision).covering(name):
        found.setdefault(view, BitMap()).add(number)


def members(shard: Shard, root: Root, noted: Fanout) -> Iterator[tuple[int, BitMap]]:
    """What a fan-out of the root reaches by the edges of now: (view, items)."""
    if noted.listed:
        yield noted.view, to_set(noted.inputs)
    elif noted.whole:
        yield noted.view, rendered(shard, noted.view)
    else:
        found = shard.store.dependents_of(noted.inputs)
        if noted.own:
            add_own(shard, root, found)
        yield from ((view, items) for view, items in found.items() if noted.view in (EVERY_VIEW, view))


def note(
    step: Step, root: Root, level: int, changed_at: int, inputs: Numbers, found: dict[int, BitMap], *, own: bool = False
) -> None:
    """The inputs changed under the root: makes `found`, their dependents by view, pending at the level, and notes that
    for a restart. `own` says that the root's resource itself is among them, in the views that render it.
    """
    shard = step.shard
    served = shard.views.of(root.record.revision).by_number
    found = {view: items for view, items in found.items() if items and view in served}
    if not found:
        return
    noted_at = step.next_sequence()
    Fanout(root.sequence, noted_at, changed_at, level, EVERY_VIEW, own, inputs).put(step.commit)
    for view, items in found.items():
        pend(step, root, level, view, items)
        _settle(step, root, noted_at, view)


def _settle(step: Step, root: Root, noted_at: int, view: int, passed_s: float = 0.0) -> None:
    """Notes a second pass of the fan-out, if the view asks for one; `passed_s` of the delay are over."""
    shard = step.shard
    known = shard.views.of(root.record.revision).by_number.get(view)
    if known is not None and known.settle_s > 0:
        due = (root.sequence, noted_at, view)
        shard.settling.note(step.commit, due, max(0.0, known.settle_s - passed_s), step.now_ns, step.now_s)
        root.settling += 1


def settle(step: Step, root: Root, level: int, changed_at: int, view: int, items: BitMap) -> None:
    """Notes a second pass for just these items, which were rendered since the change, once its delay is over."""
    noted_at = step.next_sequence()
    Fanout(root.sequence, noted_at, changed_at, level, view, False, to_numbers(items), listed=True).put(step.commit)
    _settle(step, root, noted_at, view, step.now_s - step.shard.ages.given_by_s(changed_at, step.now_s))
    step.touch(root)


def want(
    step: Step, root: Root, level: int, changed_at: int, view: int, items: BitMap, *, settles: bool = False
) -> None:
    """Makes just these items pending, for a change at `changed_at`, and notes them for a restart.

    `settles`: the change is new, so that a view which asks for a second pass gets one.
    """
    noted_at = step.next_sequence()
    numbers = to_numbers(items)
    Fanout(root.sequence, noted_at, changed_at, level, view, False, numbers, listed=True).put(step.commit)
    pend(step, root, level, view, items)
    if settles:
        _settle(step, root, noted_at, view)


def want_all(step: Step, root: Root, changed_at: int, view: int) -> int:
    """Makes all that the view ever rendered or is rendering pending, and notes it in a few bytes; answers how many."""
    # A first render under way began before `changed_at`: once it is accepted, a restart finds it behind.
    items = rendered(step.shard, view) | step.shard.leases.lent(view)
    noted_at = step.next_sequence()
    Fanout(root.sequence, noted_at, changed_at, 1, view, False, _NO_INPUTS, whole=True).put(step.commit)
    pend(step, root, 1, view, items)
    return len(items)


def rendered(shard: Shard, view: int) -> BitMap:
    """The resources that the view ever rendered: one pass over its column."""
    known = BitMap(range(shard.store.resource_count))
    return known - shard.store.pending(view, known, 1)


def pend(step: Step, root: Root, level: int, view: int, items: BitMap) -> None:
    """Makes the items pending at the level, those that are not waiting under the root already."""
    shard = step.shard
    shard.index.note(root, view, items)
    items = oscillation.stop(step, root, level, view, items)
    release(step, view, items)
    _let_try(shard, view, items)
    if root.groups:
        items = items - waiting_for(shard, root, view)
    if not items:
        return
    group = root.group(level, view)
    root.total += len(items) - items.intersection_cardinality(group.pending)
    group.pending |= items
    shard.room_bytes -= 2 * len(items)
    shard.scheduler.unpark(root)
    hot = shard.heat.hot(view)
    if hot:
        group.hot |= hot & items
    if level == 1:
        group.hot |= root.shares.sample(shard.rng, view, items)
    if shard.leases.lent(view):
        shard.leases.mark_dirty(view, root.sequence, group.level, items)
    step.touch(root)
    shard.signals.work.fire()


def _let_try(shard: Shard, view: int, items: BitMap) -> None:
    """What was held back because its source was older need not wait: the source moves."""
    held_back = items & shard.held_back.of(view)
    if held_back:
        shard.held_back.clear(view, held_back)
        shard.holds.waiting(view).difference_update(held_back)


def waiting_for(shard: Shard, root: Root, view: int) -> BitMap:
    """Items of the view that are pending under the root and will be leased anew for it."""
    waiting = BitMap()
    for group in root.of_view(view):
        waiting |= group.pending
    if waiting and shard.leases.lent(view):
        waiting -= shard.leases.clean(view, root.sequence, waiting)
    return waiting


def release(step: Step, view: int, items: BitMap) -> BitMap:
    """Ends the dead letters among the items; they are pending again under each unfinished root that wants them."""
    shard = step.shard
    if not shard.holds.dead(view):
        return BitMap()
    released = shard.holds.release(step.commit, view, items)
    if released:
        for root in shard.index.of(view, released):
            for group in root.of_view(view):
                healed = group.failed & released
                if healed:
                    group.failed -= healed
                    group.pending |= healed
                    # One that another root had lent when it was stopped: that render began before what is wanted here.
                    shard.leases.mark_dirty(view, root.sequence, group.level, healed)
                    step.touch(root)
            shard.scheduler.unpark(root)
        shard.signals.work.fire()
    return released


def second_pass(step: Step, due: Due) -> None:
    """The settle delay of a fan-out is over: the view's dependents are pending once more."""
    root_sequence, noted_at, view = due
    shard = step.shard
    shard.settling.clear(step.commit, due)
    root = shard.roots.get(root_sequence)
    if root is None:
        return
    root.settling -= 1
    step.touch(root)
    noted = Fanout.read(shard.store, root_sequence, noted_at)
    if noted is None or view not in shard.views.of(root.record.revision).by_number:
        return
    items = dict(members(shard, root, noted)).get(view)
    again = step.next_sequence()
    if items:
        replace(noted, noted_at=again, changed_at=again, view=view).put(step.commit)
        pend(step, root, noted.level, view, items)
