"""Accepting a completion: one commit for the sets, the hashes, `rendered_at`, and what changed outputs make pending.

What is done is done for every unfinished root that wanted it before the lease began, with one and-not each. A changed
output makes its dependents pending at the next causal level, under each root that its item was pending for: should one
of these roots be cancelled, the others still reach the end.
"""

from collections.abc import Awaitable
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from services.propagation.domain import edges, failures, oscillation
from services.propagation.domain.edges import Declared
from services.propagation.domain.errors import BatchInvalid
from services.propagation.domain.failures import Failed
from services.propagation.domain.fanout import note
from services.propagation.domain.history import Mark
from services.propagation.domain.leases import Answer, Lease
from services.propagation.domain.roots import Group, Root
from services.propagation.domain.shard import Shard, Step
from services.propagation.store.interface import Bytes16, InputChange, Numbers
from services.propagation.store.numbers import to_numbers, to_set

_NONE = BitMap()


@dataclass(frozen=True, slots=True)
class Completion:
    """A part of a lease, or all of it, as the executor reports it.

    `done` is ascending, `hashes` are its 16 bytes each. `saw_older` and `released` are not done. `fingerprint` tells
    one report from another: a repeated one is answered as before.
    """

    lease_id: int
    fencing: int
    done: Numbers
    hashes: Bytes16
    dependencies: Declared | None
    failures: tuple[Failed, ...]
    saw_older: Numbers
    released: Numbers
    renderer_s: float
    fingerprint: int


@dataclass(slots=True)
class _Work:
    """A completion being accepted."""

    step: Step
    lease: Lease
    done: BitMap
    changed: BitMap
    changed_at: int
    marks: list[Mark]


def complete(shard: Shard, completion: Completion) -> tuple[Answer, Awaitable[None] | None]:
    """Accepts the report; the awaitable (None for a repeated one) ends when it is durable.

    Raises Fenced, LeaseExpired, BatchInvalid, and what edges.declare raises; then nothing was done.
    """
    known = shard.leases.answered(completion.lease_id, completion.fencing, completion.fingerprint)
    if known is not None:
        return known, None
    lease = shard.leases.get(completion.lease_id, completion.fencing, shard.now_s())
    done = _check(lease, completion)
    step = shard.step()
    mask = _changed(lease, done, completion)
    numbers = completion.done
    changed = to_set(numbers[mask]) if mask.any() else BitMap()
    work = _Work(step, lease, done, changed, step.next_sequence() if changed else 0, [])
    late: list[edges.Late] = []
    if completion.dependencies is not None:
        delta, outputs = edges.replace(step, lease.view, completion.dependencies)
        late = edges.late(shard, lease, delta, outputs, changed, work.changed_at)
    if len(numbers):
        step.commit.complete(lease.view, numbers, lease.sequence, completion.hashes, mask, work.changed_at)
    _settle(work, completion, late)
    if done:
        at = work.changed_at or step.next_sequence()
        shard.history.put(step.commit, at, lease.view, lease.sequence, step.now_ns, done, changed, work.marks)
    durable = step.write()
    shard.signals.items.fire(lease.view, done)
    if changed:
        shard.signals.news.fire()
    answer = Answer(len(numbers), len(numbers) - len(changed))
    shard.leases.remember(completion.lease_id, completion.fencing, completion.fingerprint, answer)
    return answer, durable


def _check(lease: Lease, completion: Completion) -> BitMap:
    """The set of what is done. Raises BatchInvalid unless each item is named once and is still lent."""
    whole = len(completion.done) == len(lease.ids) and np.array_equal(completion.done, lease.ids)
    done = lease.items.copy() if whole else to_set(completion.done)
    named = done
    count = len(completion.done)
    if completion.failures or len(completion.saw_older) or len(completion.released):
        named = done | to_set(completion.saw_older) | to_set(completion.released)
        named |= BitMap([failed.resource for failed in completion.failures])
        count += len(completion.saw_older) + len(completion.released) + len(completion.failures)
    if len(named) != count:
        raise BatchInvalid.field("completion", "names an item more than once; each item ends in one way")
    strangers = named - lease.remaining
    if strangers:
        raise BatchInvalid.field(
            "completion", f"names {len(strangers):,} items that lease {lease.id} does not hold, such as {strangers[0]}"
        )
    return done


def _changed(lease: Lease, done: BitMap, completion: Completion) -> np.ndarray:
    """Which of the done items have other bytes than at the last accepted completion."""
    whole = len(completion.done) == len(lease.ids)
    at = slice(None) if whole else np.searchsorted(lease.ids, completion.done)
    before = np.ascontiguousarray(lease.hashes[at]).view(np.uint64).reshape(-1, 2)
    now = np.ascontiguousarray(completion.hashes).view(np.uint64).reshape(-1, 2)
    different: np.ndarray = (before != now).any(axis=1) | ~before.any(axis=1)
    return different


def _settle(work: _Work, completion: Completion, late: list[edges.Late]) -> None:
    """Brings the sets in memory to what the commit says, and the commit to what follows from it."""
    step, lease, shard = work.step, work.lease, work.step.shard
    shard.leases.give_back(lease, work.done)
    shard.holds.forgive(step.commit, lease.view, work.done)
    shard.suspects.clear(lease.view, work.done)
    shard.unsure.clear(lease.view, work.done)
    wanting = _mark_done(work, completion.renderer_s)
    _fan_out(work, wanting)
    if work.changed:
        shard.interest.note(step.commit, lease.view, lease.sequence, work.changed, wanting, step.next_sequence)
    for late_edges in late:
        edges.pend_late(step, lease, late_edges)
    failures.take(step, lease, completion.failures)
    _give_back(work, completion)
    if work.done:
        unchanged = len(work.done) - len(work.changed)
        shard.costs.observe(lease.view, len(work.done), unchanged, completion.renderer_s, step.now_s)
        shard.costs.save(step.commit, step.now_s)


def _give_back(work: _Work, completion: Completion) -> None:
    """Items that are not done and did not fail: those that saw an older input wait, the others do not."""
    step, lease, shard = work.step, work.lease, work.step.shard
    shard.held_back.clear(lease.view, work.done | BitMap([failed.resource for failed in completion.failures]))
    if len(completion.saw_older):
        back = to_set(completion.saw_older)
        shard.give_back(lease, back)
        for items, delay_s in shard.held_back.again(lease.view, back, shard.settings.stale_delay_s):
            shard.holds.postpone(lease.view, items, step.now_s + delay_s)
    if len(completion.released):
        released = to_set(completion.released)
        shard.give_back(lease, released)
        shard.unsure.add(lease.view, released)
    if len(completion.saw_older) or len(completion.released):
        shard.signals.work.fire()


def _mark_done(work: _Work, renderer_s: float) -> list[tuple[Root, Group, BitMap]]:
    """Takes what is done out of the pending sets. Answers where the changed items were pending."""
    step, lease, shard = work.step, work.lease, work.step.shard
    sources = work.changed
    if sources:
        local = sources & shard.store.outputs_with_dependents(lease.view)
        sources = local | shard.interest.wanted(lease.view, sources)
    parts = {root.sequence: items for root, items in lease.parts}
    wanting: list[tuple[Root, Group, BitMap]] = []
    for root in shard.index.of(lease.view, work.done):
        cleared = BitMap()
        for group in root.of_view(lease.view):
            mine = group.pending & work.done
            if not mine:
                continue
            if sources and (wanted := sources & mine):
                wanting.append((root, group, wanted))
            dirty = lease.dirty.get((root.sequence, group.level))
            ended = mine - dirty if dirty else mine
            group.pending -= ended
            cleared |= ended
            if group.level > 1 and (flipped := ended & work.changed):
                oscillation.count(root, lease.view, flipped, shard.settings.max_flips)
            if dirty and (again := mine & dirty):
                oscillation.stop_rendered(step, root, group, again)
        if cleared:
            own = cleared & parts.get(root.sequence, _NONE)
            work.marks.append(Mark(root.sequence, own, cleared - own))
            if own:
                root.shares.count(lease.view, own, work.changed)
                changed = own.intersection_cardinality(work.changed)
                root.changed += changed
                root.unchanged += len(own) - changed
                root.seconds += renderer_s * len(own) / max(1, len(work.done))
            root.meter.add(len(cleared), step.now_s)
            step.touch(root)
        # Also where nothing was cleared: an item that an input's newer change made pending again is free to be lent.
        shard.scheduler.unpark(root)
    return wanting


def _fan_out(work: _Work, wanting: list[tuple[Root, Group, BitMap]]) -> None:
    """Changed outputs that something depends on: their inputs changed, their dependents are pending a level deeper."""
    step, lease, store = work.step, work.lease, work.step.shard.store
    sources = work.changed & store.outputs_with_dependents(lease.view)
    if not sources:
        return
    version = work.step.shard.sequence.version(lease.sequence)
    owner = lease.parts[0][0].sequence
    if wanting:
        owner = wanting[0][0].sequence
    inputs = store.output_inputs(lease.view, to_numbers(sources))
    step.commit.change_inputs(inputs, InputChange(work.changed_at, version, owner))
    looked_up: dict[int, BitMap] | None = None
    for root, group, every in wanting:
        wanted = every & sources
        if not wanted:
            continue
        if len(wanted) == len(sources):
            mine = inputs
            looked_up = looked_up or store.dependents_of(inputs)
            found = {view: items.copy() for view, items in looked_up.items()}
        else:
            mine = store.output_inputs(lease.view, to_numbers(wanted))
            found = store.dependents_of(mine)
        root.learn_inputs(group.level + 1, mine.tolist(), version)
        note(step, root, group.level + 1, work.changed_at, mine, found)
