"""Roots that had finished and are wanted again: an edge came late, or dead letters are replayed."""

from dataclasses import replace

import numpy as np

from services.propagation.domain.change import Cause, Change
from services.propagation.domain.names import CONTENT
from services.propagation.domain.paths import Item, item_name, resource_name
from services.propagation.domain.records import LATE_PREFIX, RootRecord, State, Tally, read_root, read_tally
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Step


def reopened(step: Step, sequence: int) -> Root | None:
    """The unfinished root of this sequence, opened again if it had finished. None when it was cancelled by name.

    A root whose record was forgotten gets a new one.
    """
    shard = step.shard
    root = shard.roots.get(sequence)
    if root is not None:
        return root
    record = read_root(shard.store, sequence)
    if record is None:
        return _made(step, Change(f"{LATE_PREFIX}{sequence:x}", "", (), bytes(16), Cause("late")))
    if record.state is State.CANCELLED:
        return None
    tally = read_tally(shard.store, sequence)
    shard.causers.refund(step.commit, record.change.cause.causer, tally)
    root = Root(replace(record, state=State.ACTIVE, finished_ns=0), tally, step.now_s)
    step.put_record(root, root.record)
    shard.take_in(root)
    return root


def made_for(step: Step, source: Item | int) -> Root:
    """A root for dependents of an item's output, which changed when no root was told; of another shard's output it is
    the input's number."""
    shard = step.shard
    if isinstance(source, int):
        name = resource_name(shard, shard.store.input_parts(np.array([source], np.uint32))[0][0])
        version = shard.store.input_changes([source])[source].version
    else:
        name = item_name(shard, source)
        version = shard.sequence.version(int(shard.store.rendered_at(source[0], np.array([source[1]], np.uint32))[0]))
    return _made(step, Change("", name, (CONTENT,), version, Cause("late")))


def made_alone(step: Step) -> Root:
    """A root for items that are wanted without a change."""
    return _made(step, Change("", "", (), bytes(16), Cause("replay")))


def _made(step: Step, change: Change) -> Root:
    sequence = step.next_sequence()
    return made(step, sequence, replace(change, id=f"{LATE_PREFIX}{sequence:x}"), step.shard.settings.default_lane, 1)


def made(step: Step, sequence: int, change: Change, lane: str, weight: int) -> Root:
    """An unfinished root of no inputs, taken in."""
    record = RootRecord(
        sequence=sequence,
        change=change,
        inputs=(),
        state=State.ACTIVE,
        lane=lane,
        weight=weight,
        revision=step.shard.views.revision,
        accepted_ns=step.now_ns,
    )
    root = Root(record, Tally(), step.now_s)
    step.put_record(root, record)
    step.shard.take_in(root)
    return root
