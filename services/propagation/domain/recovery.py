"""After a restart: unfinished roots from their records, what is pending from the edges and the columns.

For each fan-out of a root: the dependents of its inputs whose `rendered_at` lies before it, but for dead letters that
were discarded since. Nothing that a crash lost is needed for that, and leases that were out are simply pending again.
What failed and is pending no more, because its edges or its root went meanwhile, is forgiven.
"""

from collections.abc import Awaitable

from pyroaring import BitMap

from services.propagation.domain.fanout import members
from services.propagation.domain.records import ACTIVE, Fanout, read_root, read_tally
from services.propagation.domain.roots import Root
from services.propagation.domain.sequence import decode
from services.propagation.domain.shard import Shard

Discarded = dict[int, list[tuple[int, BitMap]]]
"""See Holds.discarded."""


def recover(shard: Shard) -> Awaitable[None]:
    """Derives the whole state in memory anew from the store; what it awaits is durability of what it found to be over.

    Raises what the store raises when it takes no writes.
    """
    shard.drop_roots()
    shard.leases.drop_all()
    shard.suspects.drop_all()
    shard.held_back.drop_all()
    shard.unsure.drop_all()
    for lane in shard.scheduler.lanes.values():
        lane.fresh.clear()
        lane.ring.clear()
    now_ns, now_s = shard.clock.time_ns(), shard.now_s()
    shard.holds.load(now_ns, now_s)
    shard.history.load()
    shard.interest.load()
    shard.causers.load()
    delays_s = {number: view.settle_s for number, view in shard.views.in_use.items()}
    settling = shard.settling.load(shard.store, delays_s, now_ns, now_s)
    discarded = shard.holds.discarded()
    for key, _ in shard.store.records(ACTIVE):
        sequence = decode(key)
        record = read_root(shard.store, sequence)
        if record is None:
            continue
        tally = read_tally(shard.store, sequence)
        root = Root(record, tally, now_s)
        root.settling = settling.get(sequence, 0)
        _derive(shard, root, discarded)
        in_groups = sum(len(group.failed) for group in root.groups.values())
        root.buried = max(0, tally.failed - in_groups)
        # An edge that came late is pending under one root and found again under each that its input changed under:
        # the total grows by it, what was done stays done.
        root.total = max(root.total, tally.done + root.pending + root.failed)
        _succeed(shard, root)
        shard.take_in(root)
        for group in root.groups.values():
            shard.unsure.add(group.view, group.pending)
    for view in shard.store.views.values():
        shard.unsure.add(view, shard.holds.dead(view) | shard.holds.attempted(view))
    shard.interest.count(shard.roots)
    shard.halted = None
    durable = _leave_behind(shard)
    shard.signals.work.fire()
    shard.signals.items.fire_all()
    return durable


def _leave_behind(shard: Shard) -> Awaitable[None]:
    """Ends roots that have nothing left: their edges went while they were waiting. Forgives the failures of items that
    are pending for none, so that these do not count, nor keep them waiting, when something else makes them pending.
    """
    step = shard.step()
    for root in shard.roots.values():
        if root.finished:
            step.touch(root)
    for view in shard.store.views.values():
        left = shard.holds.attempted(view).copy()
        for root in shard.roots.values() if left else ():
            for group in root.of_view(view):
                left -= group.pending
        shard.holds.forgive(step.commit, view, left)
        shard.holds.waiting(view).difference_update(left)
    return step.write()


def _succeed(shard: Shard, root: Root) -> None:
    older = shard.newest.get(root.record.inputs) if root.record.inputs else None
    if older is not None:
        older.successor = root


def _derive(shard: Shard, root: Root, discarded: Discarded) -> None:
    for noted in Fanout.of(shard.store, root.sequence):
        root.since = min(root.since, noted.noted_at)
        for view, items in members(shard, root, noted):
            _add(shard, root, noted, view, items, discarded)


def _add(shard: Shard, root: Root, noted: Fanout, view: int, items: BitMap, discarded: Discarded) -> None:
    if view not in shard.views.of(root.record.revision).by_number:
        return
    pending = shard.store.pending(view, items, noted.changed_at)
    for at, dropped in discarded.get(view, ()):
        if noted.noted_at < at:
            pending -= dropped
    for group in root.of_view(view):
        pending -= group.pending
        pending -= group.failed
    if pending:
        dead = pending & shard.holds.dead(view)
        group = root.group(noted.level, view)
        group.failed |= dead
        group.pending |= pending - dead
