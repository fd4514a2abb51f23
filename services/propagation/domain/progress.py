"""How far a root is: exact counts, the rate at which it moves, and when its present level will end."""

from dataclasses import dataclass

from services.propagation.domain.records import RootRecord, Tally, read_tally
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Shard


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of items; `held_back` wait for a source that is older than the change.

    `eta_s` is None when nothing moves or nothing is left; `fresh_share` is of reported reads, 0..1.
    """

    tally: Tally
    coalesced: int
    retrying: int
    leased: int
    rate_per_s: float
    eta_s: float | None
    fresh_share: float
    held_back: int = 0


def progress(shard: Shard, record: RootRecord) -> Progress:
    """Of any root, finished ones too."""
    root = shard.roots.get(record.sequence)
    if root is None:
        tally = read_tally(shard.store, record.sequence)
        return Progress(tally, _coalesced(tally), 0, 0, 0.0, None, 1.0 if tally.total else 0.0)
    tally = root.tally()
    retrying = leased = held_back = 0
    for group in root.groups.values():
        retrying += group.pending.intersection_cardinality(shard.holds.waiting(group.view))
        leased += group.pending.intersection_cardinality(shard.leases.lent(group.view))
        held_back += group.pending.intersection_cardinality(shard.held_back.of(group.view))
    rate = root.meter.rate_per_s(shard.now_s())
    eta_s, fresh = _eta_s(root, rate), _fresh(shard, root)
    return Progress(tally, _coalesced(tally), retrying, leased, rate, eta_s, fresh, held_back)


def _coalesced(tally: Tally) -> int:
    return max(0, tally.done - tally.changed - tally.unchanged)


def _eta_s(root: Root, rate_per_s: float) -> float | None:
    """Until the lowest level with pending items ends."""
    levels = [group.level for group in root.groups.values() if group.pending]
    if not levels or rate_per_s <= 0 or not root.runnable:
        return None
    present = min(levels)
    left = sum(len(group.pending) for group in root.groups.values() if group.level == present)
    return left / rate_per_s


def _fresh(shard: Shard, root: Root) -> float:
    """Of the reads reported since the change."""
    reads = shard.heat.reads - root.reads_before[0]
    return (shard.heat.fresh - root.reads_before[1]) / reads if reads > 0 else 0.0
