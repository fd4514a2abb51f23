"""What an edit would cost, before it is saved.

The share of renders that turn out unchanged is that of the last edits of the same resource, or of the one under way,
and only where there was none big enough that of the whole view. The time is that of fair turns: beside each root that
waits in the same lane, as much of it as of this one is served before this one is done.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from services.propagation.domain.names import check_resource
from services.propagation.domain.reach import Items, Reach
from services.propagation.domain.shard import Shard
from services.propagation.domain.shares import learned

MOST_FOLLOWED = 100_000
"""Outputs in a shard whose dependents are looked up for the transitive bound; each beyond is counted as it is."""


@dataclass(frozen=True, slots=True)
class ViewImpact:
    """Of one view: items to render, renderer-seconds, share that will turn out unchanged, wall-clock seconds."""

    view: str
    dependents: int
    render_s: float
    unchanged_share: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Impact:
    """`transitive` is an upper bound of renders at deeper levels, 0 in one shard of several, which tells it by `begun`;
    `queue_ahead` is pending in the lane now."""

    views: list[ViewImpact]
    transitive: int
    queue_ahead: int


def estimate(shard: Shard, resource: str, aspects: tuple[str, ...]) -> Impact:
    """What a change of these aspects of the resource would make pending. Raises ResourceInvalid."""
    number, inputs, found = _found(shard, resource, aspects)
    impacts: list[ViewImpact] = []
    lane = shard.settings.default_lane
    own = set(shard.views.covering(resource))
    for view in sorted(own | found.keys()):
        if view not in shard.views.by_number:
            continue
        items = found.get(view, BitMap())
        size = len(items) + (view in own and (number < 0 or number not in items))
        cost = shard.costs.of(view)
        unchanged = _unchanged(shard, inputs, number, view)
        wall_s = (size + _beside(shard, lane, view, size)) / cost.rate_per_s if cost.rate_per_s > 0 else 0.0
        impacts.append(ViewImpact(shard.views.name(view), size, size * cost.seconds, unchanged, wall_s))
    transitive = 0
    if shard.settings.part.shards == 1:
        reach = _begun(own, number, found)
        reach.follow(shard, MOST_FOLLOWED)
        transitive = reach.fresh
    return Impact(impacts, transitive, pending_in_lane(shard, lane))


def begun(shard: Shard, resource: str, aspects: tuple[str, ...]) -> Reach:
    """What such a change makes pending itself. Raises ResourceInvalid."""
    number, _, found = _found(shard, resource, aspects)
    return _begun(shard.views.covering(resource), number, found)


def _begun(own: Iterable[int], number: int, found: Items) -> Reach:
    if number >= 0:
        for view in own:
            found.setdefault(view, BitMap()).add(number)
    return Reach.begun(found)


def _found(shard: Shard, resource: str, aspects: tuple[str, ...]) -> tuple[int, list[int], Items]:
    """(number of the resource or -1, its inputs, their dependents by view)."""
    number = int(shard.store.find_resources([check_resource(resource, "resource")])[0])
    if number < 0:
        return number, [], {}
    inputs = [known for aspect in aspects if (known := shard.store.find_input(number, aspect)) >= 0]
    return number, inputs, shard.store.dependents_of(np.array(inputs, np.uint32))


def _unchanged(shard: Shard, inputs: list[int], number: int, view: int) -> float:
    """The share of renders in the view that will be cut off."""
    for change in shard.store.input_changes(inputs).values():
        root = shard.roots.get(change.root)
        under_way = root.shares.of(view) if root is not None else None
        if under_way is not None:
            return under_way
    known = learned(shard.store, number, view) if number >= 0 else None
    return known if known is not None else shard.costs.of(view).unchanged


def _beside(shard: Shard, lane: str, view: int, size: int) -> int:
    """Items of other roots of the lane that are served before so many of a new one are."""
    waiting = (
        sum(len(group.pending) for group in root.of_view(view))
        for root in shard.roots.values()
        if root.record.lane == lane and root.runnable
    )
    return sum(min(size, count) for count in waiting)


def pending_in_lane(shard: Shard, lane: str) -> int:
    """Items pending for the runnable roots of a lane."""
    return sum(root.pending for root in shard.roots.values() if root.record.lane == lane and root.runnable)
