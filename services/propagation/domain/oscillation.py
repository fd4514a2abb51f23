"""Cycles that do not settle: an item that changes again and again under one root is stopped and shown with its path.

Only levels above the first are counted: what a root's own inputs make pending is rendered once. Counting is by sets:
`flips[k]` holds the items that changed more than k times, so a cycle of a million items costs as many bits a turn.
"""

from pyroaring import BitMap

from services.propagation.domain.paths import cycle_through
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Step
from services.propagation.store.interface import Held

REASON = "OSCILLATION"
_MOST_SHOWN = 100
"""Dead letters of one stop whose path is looked up; the others say whose path to look at."""


def count(root: Root, view: int, changed: BitMap, most: int) -> None:
    """Items of a level above the first were rendered and their bytes changed."""
    turns = root.flips.setdefault(view, [])
    carry = changed
    for turn in turns:
        again = carry & turn
        turn |= carry
        carry = again
        if not carry:
            return
    if len(turns) < most:
        turns.append(carry.copy())


def stop(step: Step, root: Root, level: int, view: int, items: BitMap) -> BitMap:
    """The items without those that changed too often: these become dead letters, with the path that they go round."""
    most = step.shard.settings.max_flips
    turns = root.flips.get(view)
    if turns is None or len(turns) < most or level <= 1:
        return items
    stopped = items & turns[most - 1]
    if not stopped:
        return items
    shard = step.shard
    fresh = stopped - shard.holds.dead(view)
    for group in root.of_view(view):
        fresh -= group.pending
    detail = ""
    for index, resource in enumerate(fresh):
        if index < _MOST_SHOWN:
            detail = f"changed more than {most} times under this root: {cycle_through(shard, view, resource)}"
        shard.holds.bury(
            step.commit,
            Held(view, resource, most, 0, root.sequence, REASON, detail, step.now_ns, step.now_ns),
        )
    if fresh:
        group = root.group(level, view)
        root.total += len(fresh)
        group.failed |= fresh
        step.touch(root)
    return items - stopped
