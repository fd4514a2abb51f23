"""Roots that had finished and are wanted again: an edge came late, or dead letters are replayed."""

from dataclasses import replace

import numpy as np

from services.propagation.domain.change import Cause, Change
from services.propagation.domain.records import RootRecord, State, Tally, read_root, read_tally
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
        return _made(step, Change(f"late/{sequence:x}", "", (), bytes(16), Cause("late")), ())
    if record.state is State.CANCELLED:
        return None
    root = Root(replace(record, state=State.ACTIVE, finished_ns=0), read_tally(shard.store, sequence), step.now_s)
    step.put_record(root, root.record)
    shard.take_in(root)
    return root


def made_for(step: Step, input_number: int) -> Root:
    """A root for dependents of an input whose change no kept root began."""
    shard = step.shard
    resource, aspect = shard.store.input_parts(np.array([input_number], np.uint32))[0]
    name = shard.store.resource_names(np.array([resource], np.uint32))[0].decode()
    known = shard.store.input_changes([input_number]).get(input_number)
    version = known.version if known is not None else bytes(16)
    return _made(step, Change("", name, (aspect,), version, Cause("late")), ())


def made_alone(step: Step) -> Root:
    """A root for items that are wanted without a change."""
    return _made(step, Change("", "", (), bytes(16), Cause("replay")), ())


def _made(step: Step, change: Change, inputs: tuple[int, ...]) -> Root:
    sequence = step.next_sequence()
    record = RootRecord(
        sequence=sequence,
        change=replace(change, id=f"late/{sequence:x}"),
        inputs=inputs,
        state=State.ACTIVE,
        lane=step.shard.settings.default_lane,
        weight=1,
        revision=step.shard.views.revision,
        accepted_ns=step.now_ns,
    )
    root = Root(record, Tally(), step.now_s)
    step.put_record(root, record)
    step.shard.take_in(root)
    return root
