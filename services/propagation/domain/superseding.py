"""A newer change of the very same inputs takes over from an older root.

The newer root makes all dependents pending again, so what is still pending for the older one is leased for the newer
one, once. The scan goes on where the older root was, in a circle: however often a template is edited, each dependent is
reached once a pass. The older root's items are done when the newer one's leases render them.

A superseded root costs a bitmap; above `max_superseded` of the same inputs the oldest is folded into its successor: it
is finished, named as superseded, with what was left of it.
"""

from dataclasses import replace

from services.propagation.domain.fanout import pend
from services.propagation.domain.records import Fanout, State
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Step


def supersede(step: Step, older: Root, newer: Root) -> None:
    """`newer` takes over from `older`, which has the same inputs and was the newest of them."""
    older.successor = newer
    step.put_record(older, replace(older.record, superseded_by=newer.id))
    for group in older.groups.values():
        heir = newer.groups.get((group.level, group.view))
        if heir is not None:
            heir.cursor = group.cursor
            heir.hot &= group.hot
    same = step.shard.of_inputs(newer.record.inputs)
    if len(same) > step.shard.settings.max_superseded + 1:
        fold(step, same[0], same[1])


def fold(step: Step, older: Root, newer: Root) -> None:
    """Ends a superseded root; what is pending for it and not for its successor goes over to that one."""
    left = older.pending
    newer.since = min(newer.since, older.since)
    handed: set[int] = set()
    for noted in Fanout.of(step.shard.store, older.sequence):
        if noted.level > 1:
            replace(noted, root=newer.sequence).put(step.commit)
            handed.add(noted.noted_at)
    settling = step.shard.settling
    newer.settling += settling.hand_over(step.commit, older.sequence, newer.sequence, handed, step.now_ns, step.now_s)
    for group in list(older.groups.values()):
        if group.pending:
            pend(step, newer, group.level, group.view, group.pending)
    older.settling = 0
    step.shard.interest.hand_over(step.commit, older, newer)
    step.finish(older, State.DONE_WITH_FAILURES if older.failed else State.DONE, left=left)


def excluded(root: Root, view: int) -> list[Root]:
    """The successor whose items of the view are not leased for this root, if there is a runnable one."""
    successor = root.successor
    if successor is not None and successor.runnable and any(True for _ in successor.of_view(view)):
        return [successor]
    return []
