"""Accepting changes: dedupe, order by version, make durable, fan out.

A change begins a root unless it is older, for each of its aspects, than what is known. Order is per (resource, aspect)
and by version, never by time: clocks of producers do not matter.
"""

from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pyroaring import BitMap

from libs.errors.errors import WellspringError
from services.propagation.domain import superseding
from services.propagation.domain.canaries import CANARY
from services.propagation.domain.change import Change
from services.propagation.domain.errors import ChangeIdReused, IntakeFull
from services.propagation.domain.fanout import note
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


Outcome = Accepted | WellspringError


def publish(shard: Shard, change: Change) -> tuple[Accepted, Awaitable[None] | None]:
    """Accepts a change; the awaitable (None for a repeated one) ends when it is durable.

    Raises ChangeIdReused, IntakeFull, and Unavailable while the store refuses writes.
    """
    (outcome,), durable = publish_all(shard, [change])
    if isinstance(outcome, WellspringError):
        raise outcome
    return outcome, durable


def publish_all(
    shard: Shard, changes: Sequence[Change], *, bounded: bool = True
) -> tuple[list[Outcome], Awaitable[None] | None]:
    """Accepts or refuses each change for itself, in order; the awaitable (None if all are repeated) is for all.

    What touches different resources under different ids goes into one commit. Unless `bounded`, there is room for all.
    """
    outcomes: list[Outcome] = []
    durable: Awaitable[None] | None = None
    for together in _distinct(changes):
        answers, written = _publish(shard, together, bounded)
        outcomes += answers
        durable = written or durable
    if durable is not None:
        shard.signals.accepted.fire()
        shard.signals.news.fire()
    return outcomes, durable


def _distinct(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """The changes in their order, cut before each whose id or resource was met since the last cut."""
    together: list[Change] = []
    met: set[tuple[bool, str]] = set()
    for change in changes:
        mine = {(True, change.id), (False, change.resource)}
        if met & mine:
            yield together
            together, met = [], set()
        together.append(change)
        met |= mine
    if together:
        yield together


def _publish(shard: Shard, changes: list[Change], bounded: bool) -> tuple[list[Outcome], Awaitable[None] | None]:
    """One commit for distinct changes."""
    outcomes: list[Outcome | None] = [_known(shard, change) for change in changes]
    new = [at for at, outcome in enumerate(outcomes) if outcome is None]
    durable: Awaitable[None] | None = None
    try:
        if new:
            step = shard.step()
            prepared = _prepare(step, [changes[at] for at in new])
            for at, one in zip(new, prepared, strict=True):
                try:
                    outcomes[at] = _accept(step, one, bounded)
                except IntakeFull as error:
                    outcomes[at] = error
            if any(isinstance(outcomes[at], Accepted) for at in new):
                durable = step.write()
    except WellspringError as error:
        outcomes = [error if at in new else outcome for at, outcome in enumerate(outcomes)]
    return [outcome for outcome in outcomes if outcome is not None], durable


def _known(shard: Shard, change: Change) -> Outcome | None:
    """What becomes of a change whose id was met before."""
    known = find_change_id(shard.store, change.id)
    try:
        return _repeated(shard, change, *known) if known is not None else None
    except ChangeIdReused as error:
        return error


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A new change with the numbers of its resource and its inputs, which of them are `fresh` (newer than what is
    known), and who depends on those, by view.
    """

    change: Change
    resource: int
    fresh: Numbers
    dependents: dict[int, BitMap]


def _prepare(step: Step, changes: list[Change]) -> list[_Prepared]:
    """Looks up, all at once, what accepting the changes takes. Canaries touch nothing."""
    touching = [change for change in changes if change.cause.kind != CANARY]
    resources = step.commit.intern_resources([change.resource.encode() for change in touching])
    counts = [len(change.aspects) for change in touching]
    aspects = [aspect for change in touching for aspect in change.aspects]
    inputs = step.commit.intern_inputs(np.repeat(resources, counts), aspects)
    newest = step.shard.store.input_changes(inputs.tolist())
    versions = [change.version for change in touching for _ in change.aspects]
    is_fresh = [
        number not in newest or newest[number].version < version
        for number, version in zip(inputs.tolist(), versions, strict=True)
    ]
    found = step.shard.store.dependents_each(inputs)
    prepared: dict[str, _Prepared] = {}
    end = 0
    for change, resource, count in zip(touching, resources.tolist(), counts, strict=True):
        mine = [at for at in range(end, end + count) if is_fresh[at]]
        end += count
        dependents: dict[int, BitMap] = {}
        for at in mine:
            for view, members in found[at].items():
                dependents[view] = dependents[view] | members if view in dependents else members
        prepared[change.id] = _Prepared(change, resource, inputs[mine], dependents)
    nothing = _Prepared(changes[0], 0, inputs[:0], {})
    return [prepared.get(change.id) or replace(nothing, change=change) for change in changes]


def _accept(step: Step, prepared: _Prepared, bounded: bool) -> Accepted:
    """Puts a change whose id is new into the step. Raises IntakeFull."""
    change, fresh = prepared.change, prepared.fresh
    if change.cause.kind == CANARY:
        return _canary(step, change)
    shard = step.shard
    if bounded:
        check_room(shard)
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
    step.change_inputs(fresh, InputChange(sequence, change.version, sequence))
    _begin_root(step, record, prepared)
    return Accepted(sequence, change.id, repeated=False)


def _canary(step: Step, change: Change) -> Accepted:
    """Kept like a change that was older than what is known: it touches nothing."""
    step.shard.canaries.note(step.commit, step.now_ns, change)
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


def _begin_root(step: Step, record: RootRecord, prepared: _Prepared) -> None:
    """Makes the root of a record that is not kept yet, with all that depends on its inputs."""
    shard = step.shard
    root = Root(record, Tally(), step.now_s)
    root.reads_before = (shard.heat.reads, shard.heat.fresh)
    older = shard.newest.get(record.inputs)
    step.put_record(root, record)
    found = prepared.dependents
    for view in shard.views.covering(record.change.resource):
        found.setdefault(view, BitMap()).add(prepared.resource)
    note(step, root, 1, record.sequence, prepared.fresh, found, own=True)
    shard.take_in(root)
    if older is not None:
        superseding.supersede(step, older, root)


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
    if shard.room_bytes <= 0:
        held = shard.pending_bytes
        if held >= settings.max_pending_bytes:
            raise IntakeFull(
                f"what is pending takes {settings.max_pending_bytes:,} bytes of memory, the most that are allowed",
                retry_after_s=_FULL_RETRY_S,
            )
        shard.room_bytes = settings.max_pending_bytes - held
