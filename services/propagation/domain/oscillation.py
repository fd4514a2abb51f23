"""Cycles that do not settle: an item that changes again and again under one root is stopped and shown with its path.

Only levels above the first are counted: what a root's own inputs make pending is rendered once. Counting is by sets:
`flips[k]` holds the items that changed more than k times, so a cycle of a million items costs as many bits a turn.
"""

from pyroaring import BitMap

from services.propagation.domain.paths import cycle_through
from services.propagation.domain.roots import Group, Root
from services.propagation.domain.shard import Shard, Step
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
    """The items without those that changed too often: these become dead letters, with the path that they go round.

    Those that are pending under the root stay so: they are rendered once more. Where that render has begun, and so
    does not see the change, its completion leaves them to `stop_rendered`.
    """
    stopped = _too_often(step.shard, root, level, view, items)
    if not stopped:
        return items
    shard = step.shard
    pending = BitMap()
    for group in root.of_view(view):
        pending |= group.pending
    begun = shard.leases.clean(view, root.sequence, stopped & pending)
    fresh = stopped - pending - shard.holds.dead(view)
    if begun or fresh:
        group = root.group(level, view)
        root.total += len(begun - group.pending) + len(fresh)
        group.pending |= begun
        shard.leases.mark_dirty(view, root.sequence, group.level, begun)
        _bury(step, root, view, fresh)
        group.failed |= fresh
        step.touch(root)
    return items - stopped


def stop_rendered(step: Step, root: Root, group: Group, items: BitMap) -> None:
    """Items of the group whose inputs changed while they were rendered: those that changed too often become dead
    letters now, instead of being rendered again. So a cycle whose items are always being rendered is stopped as well.
    """
    stopped = _too_often(step.shard, root, group.level, group.view, items)
    if stopped:
        _bury(step, root, group.view, stopped - step.shard.holds.dead(group.view))
        group.pending -= stopped
        group.failed |= stopped
        step.touch(root)


def _too_often(shard: Shard, root: Root, level: int, view: int, items: BitMap) -> BitMap:
    most = shard.settings.max_flips
    turns = root.flips.get(view)
    if turns is None or len(turns) < most or level <= 1:
        return BitMap()
    return items & turns[most - 1]


def _bury(step: Step, root: Root, view: int, items: BitMap) -> None:
    shard, most = step.shard, step.shard.settings.max_flips
    detail = ""
    for index, resource in enumerate(items):
        if index < _MOST_SHOWN:
            detail = f"changed more than {most} times under this root: {cycle_through(shard, view, resource)}"
        shard.holds.bury(
            step.commit,
            Held(view, resource, most, 0, root.sequence, REASON, detail, step.now_ns, step.now_ns),
        )
