"""Giving leases: which items an executor gets next, and what it must know to render them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from services.propagation.domain import gone, superseding
from services.propagation.domain.leases import Lease
from services.propagation.domain.paths import resource_name
from services.propagation.domain.roots import Group, Root
from services.propagation.domain.scheduler import Turns
from services.propagation.domain.shard import Shard
from services.propagation.domain.views import View
from services.propagation.store.interface import Bytes16, Held
from services.propagation.store.numbers import to_numbers


@dataclass(frozen=True, slots=True)
class Seen:
    """An input that the renderer must see at least at this version."""

    resource: str
    aspect: str
    version: bytes


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease with all that goes to the executor. `attempts` are (index in the lease's ids, failures before); `gone`
    are the versions as of which pages are gone at their home, None where none is (gone.py)."""

    lease: Lease
    names: bytes
    roots: list[tuple[Root, list[Seen]]]
    attempts: list[tuple[int, int]]
    rendered_version: bytes
    gone: Bytes16 | None


def lease(shard: Shard, executor: str, capacity: Mapping[int, int], *, first_turns: bool = False) -> list[Grant]:
    """Leases of at most `capacity[view]` items a view; none when there is nothing to do now.

    `first_turns`: for roots only that had no turn yet; while a call waits for these, no other gets them.
    A lease holds items of one view and of one revision of the views, for one or more roots.
    """
    grants: list[Grant] = []
    scheduler = shard.scheduler
    first_due = scheduler.first_due
    for view, limit in capacity.items():
        known = shard.views.in_use.get(view)
        room = min(limit, shard.settings.max_lent - len(shard.leases.lent(view)))
        if known is None or room <= 0 or shard.halted is not None:
            continue
        taker = _Taker(shard, view)
        turns = Turns.FIRST if first_turns else scheduler.left_to(view)
        scheduler.fill(room, shard.costs.of(view).seconds, taker.take, turns)
        for revision, parts in taker.batches():
            served = shard.views.of(revision).by_number.get(view, known)
            grants.append(_grant(shard, executor, view, served, revision, parts, taker.suspected))
    # Whoever waits for the other kind of turns has looked in vain: now there is something for it.
    if (grants and first_turns and scheduler.later_due) or (scheduler.first_due and not first_due):
        shard.signals.work.fire()
    return grants


_SMALL = 4_096
"""Items of a group up to which it is looked whether all are lent."""


class _Taker:
    """Takes items of one view from the roots that the scheduler names."""

    def __init__(self, shard: Shard, view: int) -> None:
        self._shard = shard
        self._view = view
        self._taken = BitMap()
        self._parts: dict[int, tuple[Root, BitMap]] = {}
        self.suspected = False
        self._suspects = shard.suspects.of(view)
        self._turn = shard.suspects.turn(view) if self._suspects else False

    def take(self, root: Root, limit: int) -> int | None:
        """Takes up to `limit` items for the root; answers how many. Parks a root that has nothing more to lend."""
        if self.suspected:
            return 0
        if not any(group.pending for group in root.of_view(self._view)):
            return None
        taken = self._take(root, limit)
        if taken:
            root.meter.begin(self._shard.now_s())
        root.parked = taken < limit and self._all_lent(root)
        return taken

    def _take(self, root: Root, limit: int) -> int:
        for group in root.of_view(self._view):
            if not group.pending or self._waits_for_lower(root, group):
                continue
            items = self._pick(root, group, limit)
            if items:
                self._taken |= items
                _, had = self._parts.get(root.sequence, (root, BitMap()))
                self._parts[root.sequence] = (root, had | items)
                return len(items)
        return 0

    def _all_lent(self, root: Root) -> bool:
        """Whether every pending item of a small root is lent, or is about to be."""
        for group in root.groups.values():
            if len(group.pending) > _SMALL:
                return False
            free = group.pending - self._shard.leases.lent(group.view)
            if free and (group.view != self._view or free - self._taken):
                return False
        return True

    def batches(self) -> list[tuple[int, list[tuple[Root, BitMap]]]]:
        """The parts taken, each batch under one revision of the views."""
        by_revision: dict[int, list[tuple[Root, BitMap]]] = {}
        for root, items in self._parts.values():
            for revision, part in self._under(root, items):
                by_revision.setdefault(revision, []).append((root, part))
        return list(by_revision.items())

    def _under(self, root: Root, items: BitMap) -> list[tuple[int, BitMap]]:
        """Under which revision of the views the items are rendered: that of the newest root that wants them."""
        shard, view = self._shard, self._view
        own = shard.views.revision_of(view, root.record.revision)
        wanted: dict[int, BitMap] = {}
        for other in shard.index.of(view, items) if shard.views.older else ():
            revision = shard.views.revision_of(view, other.record.revision)
            if revision > own:
                for group in other.of_view(view):
                    wanted[revision] = wanted.get(revision, BitMap()) | (group.pending & items)
        parts: list[tuple[int, BitMap]] = []
        for revision in sorted(wanted, reverse=True):
            if wanted[revision] & items:
                parts.append((revision, wanted[revision] & items))
                items = items - wanted[revision]
        return [*parts, (own, items)] if items else parts

    def _pick(self, root: Root, group: Group, limit: int) -> BitMap:
        shard, view = self._shard, self._view
        busy = [shard.leases.lent(view), shard.holds.waiting(view), self._taken]
        for heir in superseding.excluded(root, view):
            busy += [other.pending for other in heir.of_view(view)]
        if self._suspects and not self._turn:
            items = group.next(limit, *busy, *self._suspects.values())
            if items:
                return items
        if self._suspects and not self._taken:
            for most in sorted(self._suspects):
                hit = group.pending & self._suspects[most]
                for others in busy:
                    hit -= others
                if hit:
                    self.suspected = True
                    return hit[: min(limit, most)]
        return group.next(limit, *busy, *self._suspects.values())

    def _waits_for_lower(self, root: Root, group: Group) -> bool:
        """Whether items of a lower level, still to be rendered, may yet make items of this one pending again."""
        if group.level == 1:
            return False
        shard = self._shard
        for lower in root.groups.values():
            if lower.level < group.level and lower.pending:
                feeding = lower.pending & shard.store.outputs_with_dependents(lower.view)
                if feeding and feeding - shard.holds.waiting(lower.view):
                    return True
        return False


def _grant(
    shard: Shard,
    executor: str,
    view: int,
    served: View,
    revision: int,
    parts: list[tuple[Root, BitMap]],
    suspected: bool,
) -> Grant:
    items = BitMap() if len(parts) > 1 else parts[0][1]
    if len(parts) > 1:
        for _, part in parts:
            items |= part
    ids = to_numbers(items)
    now_s = shard.now_s()
    sequence = shard.sequence.next(shard.clock.time_ns())
    lease_id, fencing = shard.leases.identity()
    published = [root for root in shard.index.of(view, items) if root.record.publish_unchanged]
    granted = Lease(
        id=lease_id,
        fencing=fencing,
        view=view,
        sequence=sequence,
        settled=shard.ages.given_before(now_s - served.settle_s) if served.settle_s > 0 else sequence,
        revision=revision,
        executor=executor,
        deadline_s=now_s + served.lease_s,
        ids=ids,
        items=items,
        remaining=items.copy(),
        hashes=_accepted(shard, view, ids, items, published),
        parts=parts,
        suspected=suspected,
    )
    shard.leases.add(granted)
    return Grant(
        lease=granted,
        names=shard.store.packed_names(ids),
        roots=_wanted(shard, view, items),
        attempts=_attempts(shard, view, ids, items),
        rendered_version=shard.sequence.version(sequence),
        gone=gone.versions(shard.store, view, ids, items, published),
    )


def _accepted(shard: Shard, view: int, ids: np.ndarray, items: BitMap, published: Sequence[Root]) -> np.ndarray:
    """Hashes of the last accepted renders, zeros for what must be stored and purged whatever its bytes are: for all
    roots or for those that publish what is unchanged."""
    hashes = shard.store.hashes(view, ids)
    forced = shard.unsure.of(view) & items
    for root in published:
        # Only what was asked for. What follows from it is cut off as ever, or a settled cycle would go round.
        for group in root.of_view(view):
            if group.level == 1:
                forced |= group.pending & items
    if forced:
        hashes = hashes.copy()
        hashes[np.searchsorted(ids, to_numbers(forced))] = np.void(bytes(16))
    return hashes


def _wanted(shard: Shard, view: int, items: BitMap) -> list[tuple[Root, list[Seen]]]:
    """Each unfinished root for which items are rendered, with the inputs that must be seen."""
    wanted: list[tuple[Root, list[Seen]]] = []
    for root in shard.index.of(view, items):
        levels = [group.level for group in root.of_view(view) if group.pending.intersect(items)]
        if levels:
            change = root.record.change
            seen = [Seen(change.resource, aspect, change.version) for aspect in change.aspects]
            for level in levels:
                seen += [_seen(shard, number, version) for number, version in root.inputs_at.get(level, {}).items()]
            wanted.append((root, seen))
    return wanted


def _seen(shard: Shard, number: int, version: bytes) -> Seen:
    resource, aspect = shard.store.input_parts(np.array([number], np.uint32))[0]
    return Seen(resource_name(shard, resource), aspect, version)


def _attempts(shard: Shard, view: int, ids: np.ndarray, items: BitMap) -> list[tuple[int, int]]:
    tried = items & shard.holds.attempted(view)
    if not tried:
        return []
    helds: list[Held | None] = [shard.holds.get(view, resource) for resource in tried]
    at = np.searchsorted(ids, to_numbers(tried)).tolist()
    return [(index, held.attempts) for index, held in zip(at, helds, strict=True) if held is not None]
