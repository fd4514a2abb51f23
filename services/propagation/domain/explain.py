"""Why a view of a resource is as it is: from its inputs back to the edits, derived from what the engine keeps anyway.

For each input of the item that ever changed: when, under which root, and what came of it. An output among the inputs is
followed back to the input through which the root reached it.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from services.propagation.domain.change import Change
from services.propagation.domain.errors import ResourceNotFound
from services.propagation.domain.names import check_resource
from services.propagation.domain.paths import Item, inputs_of, item_name, output_item, resource_name
from services.propagation.domain.records import RootRecord, State, read_root
from services.propagation.domain.shard import Shard

MOST_STEPS = 50
_DEEPEST = 16


class Decision(IntEnum):
    """What came of a change, with the contract's numbers."""

    RENDERED = 1
    CUT_OFF = 2
    COALESCED = 3
    SUPERSEDED = 4
    FAILED = 5
    PENDING = 6
    CANCELLED = 7


@dataclass(frozen=True, slots=True)
class ExplainStep:
    """One change that concerned the item. `root` is None when its record is older than the window of remembrance."""

    time_ns: int
    decision: Decision
    root: Change | None
    input_resource: str
    input_aspect: str
    path: tuple[str, ...]
    changed_at: int
    note: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Newest first."""

    steps: list[ExplainStep]
    pending: bool
    rendered_at: int
    rendered_ns: int
    rendered_version: bytes
    output_hash: bytes


def explain(shard: Shard, resource: str, view_name: str) -> Explanation:
    """Raises ViewNotFound, ResourceInvalid, ResourceNotFound."""
    name = check_resource(resource, "resource")
    view = shard.views.number(view_name)
    number = int(shard.store.find_resources([name])[0])
    if number < 0:
        raise ResourceNotFound(
            f"nothing ever changed or depended under the name {resource!r}", metadata={"resource": resource}
        )
    item = (view, number)
    one = np.array([number], np.uint32)
    rendered_at = int(shard.store.rendered_at(view, one)[0])
    output_at = int(shard.store.output_changed_at(view, one)[0])
    parts = inputs_of(shard, item)
    changes = shard.store.input_changes([part[0] for part in parts])
    touched = sorted(((changes[n].changed_at, n, r, aspect) for n, r, aspect in parts if n in changes), reverse=True)
    steps: list[ExplainStep] = []
    newest_seen = True
    for changed_at, input_number, source, aspect in touched[:MOST_STEPS]:
        record = read_root(shard.store, changes[input_number].root)
        decision, remark = _decide(shard, record, item, changed_at, rendered_at, output_at, newest_seen)
        newest_seen = newest_seen and changed_at > rendered_at
        time_ns = shard.sequence.time_ns(changed_at) or (record.accepted_ns if record is not None else 0)
        source_name = resource_name(shard, source)
        path = (*_path(shard, source, aspect, changes[input_number].root), source_name, resource)
        steps.append(
            ExplainStep(
                time_ns,
                decision,
                record.change if record is not None else None,
                source_name,
                aspect,
                path if source != number else (resource,),
                changed_at,
                remark,
            )
        )
    return Explanation(
        steps=steps,
        pending=any(number in group.pending for root in shard.roots.values() for group in root.of_view(view)),
        rendered_at=rendered_at,
        rendered_ns=shard.sequence.time_ns(rendered_at) if rendered_at else 0,
        rendered_version=shard.sequence.version(rendered_at) if rendered_at else bytes(16),
        output_hash=shard.store.hashes(view, one)[0].tobytes() if rendered_at else b"",
    )


def _decide(
    shard: Shard,
    record: RootRecord | None,
    item: Item,
    changed_at: int,
    rendered_at: int,
    output_at: int,
    newest: bool,
) -> tuple[Decision, str]:
    if changed_at > rendered_at:
        dead = shard.holds.get_dead(*item)
        if dead is not None:
            return Decision.FAILED, f"dead letter after {dead.attempts} attempts: {dead.reason} {dead.detail}".strip()
        if record is not None and record.state is State.CANCELLED:
            return Decision.CANCELLED, f"the root was cancelled: {record.reason}".rstrip(": ")
        held = shard.holds.get(*item)
        if held is not None:
            return Decision.PENDING, f"failed {held.attempts} times, tried again later: {held.reason}"
        return Decision.PENDING, "paused" if record is not None and record.state is State.PAUSED else ""
    if record is not None and record.superseded_by:
        return Decision.SUPERSEDED, f"a newer change of the same inputs took over: {record.superseded_by}"
    if not newest:
        return Decision.COALESCED, "the render of a newer change, or an earlier one, shows it"
    if output_at > changed_at:
        return Decision.RENDERED, ""
    return Decision.CUT_OFF, "the bytes were the same as before"


def _path(shard: Shard, resource: int, aspect: str, root: int) -> tuple[str, ...]:
    """The names between the root's resource and an input, the root's first."""
    way: list[str] = []
    seen: set[Item] = set()
    item = output_item(shard, resource, aspect)
    while item is not None and item not in seen and len(way) < _DEEPEST:
        seen.add(item)
        parts = inputs_of(shard, item)
        changes = shard.store.input_changes([part[0] for part in parts])
        under = [part for part in parts if part[0] in changes and changes[part[0]].root == root]
        if not under:
            break
        number, source, source_aspect = max(under, key=lambda part: changes[part[0]].changed_at)
        item = output_item(shard, source, source_aspect)
        way.append(item_name(shard, item) if item is not None else resource_name(shard, source))
    return tuple(reversed(way))
