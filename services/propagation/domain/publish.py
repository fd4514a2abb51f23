"""Accepting changes: dedupe, order by version, make durable, fan out.

A change begins a root unless it is older, for each of its aspects, than what is known. Order is per (resource, aspect)
and by version, never by time: clocks of producers do not matter.
"""

from collections.abc import Awaitable
from dataclasses import dataclass

import numpy as np

from services.propagation.domain import superseding
from services.propagation.domain.canaries import CANARY
from services.propagation.domain.change import Change
from services.propagation.domain.errors import ChangeIdReused, IntakeFull
from services.propagation.domain.fanout import spread
from services.propagation.domain.records import (
    RootRecord,
    State,
    Tally,
    find_change_id,
    put_change_id,
    read_root,
)
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Shard, Step
from services.propagation.store.interface import InputChange, Numbers

_FULL_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a change. `root` is the id of the root that it began, empty when it began none."""

    sequence: int
    root: str
    repeated: bool


def publish(shard: Shard, change: Change) -> tuple[Accepted, Awaitable[None] | None]:
    """Accepts a change; the awaitable (None for a repeated one) ends when it is durable.

    Raises ChangeIdReused, IntakeFull, and Unavailable while the store refuses writes.
    """
    known = find_change_id(shard.store, change.id)
    if known is not None:
        return _repeated(shard, change, *known), None
    step = shard.step()
    accepted = accept(step, change)
    durable = step.write()
    shard.signals.accepted.fire()
    shard.signals.news.fire()
    return accepted, durable


def accept(step: Step, change: Change) -> Accepted:
    """Puts a change whose id is new into the step. Raises IntakeFull."""
    if change.cause.kind == CANARY:
        return _canary(step, change)
    shard = step.shard
    check_room(shard)
    resource = step.commit.intern_resources([change.resource.encode()])
    inputs = step.commit.intern_inputs(np.repeat(resource, len(change.aspects)), list(change.aspects))
    fresh = _newer(shard, inputs, change.version)
    sequence = step.next_sequence()
    put_change_id(step.commit, change, sequence)
    record = RootRecord(
        sequence=sequence,
        change=change,
        inputs=tuple(fresh.tolist()),
        state=State.ACTIVE,
        lane=change.lane or shard.settings.default_lane,
        weight=1,
        revision=shard.views.revision,
        accepted_ns=step.now_ns,
        begun=len(fresh) > 0,
    )
    if not len(fresh):
        record.finish(State.DONE, step.now_ns).put(step.commit)
        return Accepted(sequence, "", repeated=False)
    step.commit.change_inputs(fresh, InputChange(sequence, change.version, sequence))
    begin_root(step, record, int(resource[0]))
    return Accepted(sequence, change.id, repeated=False)


def _canary(step: Step, change: Change) -> Accepted:
    """Kept like a change that was older than what is known: it touches nothing."""
    step.shard.canaries.note(step, change)
    sequence = step.next_sequence()
    put_change_id(step.commit, change, sequence)
    RootRecord(
        sequence=sequence,
        change=change,
        inputs=(),
        state=State.DONE,
        lane=change.lane or step.shard.settings.default_lane,
        weight=1,
        revision=step.shard.views.revision,
        accepted_ns=step.now_ns,
        finished_ns=step.now_ns,
        begun=False,
    ).put(step.commit)
    return Accepted(sequence, "", repeated=False)


def begin_root(step: Step, record: RootRecord, resource: int) -> Root:
    """Makes the root of a record that is not kept yet, with all that depends on its inputs."""
    shard = step.shard
    root = Root(record, Tally(), step.now_s)
    root.reads_before = (shard.heat.reads, shard.heat.fresh)
    older = shard.newest.get(record.inputs)
    step.put_record(root, record)
    inputs = np.array(record.inputs, np.uint32)
    spread(step, root, 1, record.sequence, inputs, own=True, own_number=resource)
    shard.take_in(root)
    if older is not None:
        superseding.supersede(step, older, root)
    return root


def _newer(shard: Shard, inputs: Numbers, version: bytes) -> Numbers:
    newest = shard.store.input_changes(inputs.tolist())
    return np.array([n for n in inputs.tolist() if n not in newest or newest[n].version < version], np.uint32)


def _repeated(shard: Shard, change: Change, sequence: int, digest: bytes) -> Accepted:
    if digest != change.digest():
        raise ChangeIdReused(f"the change id {change.id!r} belongs to another change", metadata={"id": change.id})
    record = read_root(shard.store, sequence)
    begun = record is not None and record.begun
    return Accepted(sequence, change.id if begun else "", repeated=True)


def check_room(shard: Shard) -> None:
    """Raises IntakeFull unless there is room for one root more."""
    settings = shard.settings
    if len(shard.roots) >= settings.max_roots:
        raise IntakeFull(
            f"{len(shard.roots):,} roots are unfinished, the most that are allowed", retry_after_s=_FULL_RETRY_S
        )
    if len(shard.roots) % 16 == 0 and shard.pending_bytes >= settings.max_pending_bytes:
        raise IntakeFull(
            f"what is pending takes {settings.max_pending_bytes:,} bytes of memory, the most that are allowed",
            retry_after_s=_FULL_RETRY_S,
        )
