"""Renders that failed: retried later with backoff, and after the last attempt kept as dead letters, never dropped."""

from dataclasses import dataclass

from pyroaring import BitMap

from services.propagation.domain import holds
from services.propagation.domain.leases import Lease
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Step
from services.propagation.domain.views import RETIRED, RetryPolicy
from services.propagation.store.interface import Held

LEASE_LOST = "LEASE_LOST"


@dataclass(frozen=True, slots=True)
class Failed:
    """One item that could not be rendered. `retry_after_s` is what the renderer asked for, 0 for nothing."""

    resource: int
    reason: str
    detail: str
    retryable: bool
    retry_after_s: float = 0.0


def take(step: Step, lease: Lease, failed: tuple[Failed, ...]) -> None:
    """Gives the failed items of a lease back: to wait, or to be dead letters."""
    if not failed:
        return
    shard = step.shard
    policy = shard.views.of(lease.revision).by_number.get(lease.view, RETIRED).retry
    newly_wanted = BitMap()
    for dirty in lease.dirty.values():
        newly_wanted |= dirty
    owners = {resource: root for root, items in lease.parts for resource in items & _resources(failed)}
    buried = BitMap()
    for item in failed:
        before = shard.holds.get(lease.view, item.resource)
        # An input changed while the item was lent: the failure may be of the old one, and counts as the first.
        anew = item.resource in newly_wanted
        attempts = 1 if before is None or anew else before.attempts + 1
        held = Held(
            view=lease.view,
            resource=item.resource,
            attempts=attempts,
            due_ns=0,
            root=_owner(owners, item.resource),
            reason=item.reason,
            detail=item.detail,
            first_ns=before.first_ns if before is not None else step.now_ns,
            last_ns=step.now_ns,
        )
        if not anew and (not item.retryable or attempts >= policy.max_attempts):
            shard.holds.bury(step.commit, held)
            buried.add(item.resource)
        else:
            _retry(step, held, policy, item.retry_after_s)
    shard.give_back(lease, _resources(failed))
    shard.unsure.add(lease.view, _resources(failed))
    shard.suspects.clear(lease.view, buried)
    _count_buried(step, lease.view, buried)
    shard.signals.items.fire(lease.view, buried)


def _retry(step: Step, held: Held, policy: RetryPolicy, asked_s: float) -> None:
    wait_s = holds.backoff_s(policy, held.attempts, asked_s, step.shard.settings.jitter, step.shard.rng)
    due = Held(
        held.view,
        held.resource,
        held.attempts,
        step.now_ns + int(wait_s * 1e9),
        held.root,
        held.reason,
        held.detail,
        held.first_ns,
        held.last_ns,
    )
    step.shard.holds.hold(step.commit, due, step.now_s + wait_s)


def _count_buried(step: Step, view: int, buried: BitMap) -> None:
    """Moves new dead letters from pending to failed, in every root that wanted them."""
    if not buried:
        return
    for root in step.shard.index.of(view, buried):
        for group in root.of_view(view):
            lost = group.pending & buried
            if lost:
                group.pending -= lost
                group.failed |= lost
                step.touch(root)


def lost(step: Step, lease: Lease) -> None:
    """A lease has ended without a completion: its items are leasable again, apart from the others."""
    shard = step.shard
    remaining = lease.remaining.copy()
    if len(remaining) == 1 and lease.suspected:
        detail = f"the executor {lease.executor} went away while it rendered this alone"
        take(step, lease, (Failed(remaining[0], LEASE_LOST, detail, retryable=True),))
    else:
        shard.give_back(lease, remaining)
        shard.unsure.add(lease.view, remaining)
        shard.suspects.add(lease.view, remaining)
    shard.signals.work.fire()


def _resources(failed: tuple[Failed, ...]) -> BitMap:
    return BitMap([item.resource for item in failed])


def _owner(owners: dict[int, Root], resource: int) -> int:
    root = owners.get(resource)
    return root.sequence if root is not None else 0
