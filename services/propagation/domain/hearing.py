"""What other shards tell: outputs of theirs changed, and dependents here are pending under the roots of the same ids.

Each is taken in one commit, with the position in what that shard tells: what comes twice has no effect. A change that
this shard has not accepted yet is accepted as it is told, so that whoever publishes it again finds it known.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pyroaring import BitMap

from libs.errors.errors import WellspringError
from services.propagation.domain import publish, reopening, visibility
from services.propagation.domain.change import Change
from services.propagation.domain.errors import ChangeIdReused
from services.propagation.domain.fanout import note
from services.propagation.domain.names import CONTENT
from services.propagation.domain.records import State, find_change_id, put_id, read_root
from services.propagation.domain.roots import Root
from services.propagation.domain.sequence import decode, encode
from services.propagation.domain.shard import Shard, Step
from services.propagation.store.interface import InputChange, Numbers

HEARD = "heard"


@dataclass(frozen=True, slots=True)
class ToldRoot:
    """A root as the other shard has it. A change that somebody published is `accepted`; other roots an engine made."""

    change: Change
    accepted: bool
    paused: bool
    reason: str
    lane: str
    weight: int


@dataclass(frozen=True, slots=True)
class ToldPart:
    """Of the outputs those at `places` changed under `root`; their dependents are at `level`."""

    root: ToldRoot
    level: int
    places: Numbers


@dataclass(frozen=True, slots=True)
class Told:
    """Outputs, by their names, that changed by one completion: `number` orders what one shard tells."""

    number: int
    version: bytes
    outputs: Sequence[bytes]
    parts: Sequence[ToldPart]


def heard_up_to(shard: Shard, source: int) -> int:
    """The number of the last that was taken of what the shard `source` told; 0 for none."""
    kept = shard.store.get_record(HEARD, bytes([source]))
    return decode(kept) if kept is not None else 0


def hear(shard: Shard, source: int, told: Told) -> Awaitable[None] | None:
    """Takes it; the awaitable (None for what was taken before) ends when it is durable.

    Raises Unavailable while the store refuses writes.
    """
    if told.number <= heard_up_to(shard, source):
        return None
    for part in told.parts:
        _accept(shard, part.root)
    durable = _take(shard, source, told)
    shard.signals.items.fire_all()
    shard.signals.accepted.fire()
    return durable


def note_present(shard: Shard, outputs: Sequence[tuple[bytes, bytes]]) -> None:
    """Outputs (name, version; none for one that never changed) of which this shard is told from now on.

    When they changed is not known here: those that did are taken as changed now, so that what was rendered from them
    before is rendered again.
    """
    if not outputs:
        return
    step = shard.step()
    inputs = step.commit.intern_named_inputs([name for name, _ in outputs], CONTENT)
    known = shard.store.input_changes(inputs.tolist())
    for number, (_, version) in zip(inputs.tolist(), outputs, strict=True):
        if version and number not in known:
            at = np.array([number], np.uint32)
            step.change_inputs(at, InputChange(step.next_sequence(), version, 0))
    step.write()


def _accept(shard: Shard, told: ToldRoot) -> None:
    """The change, if it did not come here yet. Raises Unavailable."""
    if told.accepted:
        (outcome,), _ = publish.publish_all(shard, [told.change], bounded=False)
        # An id that is another change's here is a mistake of who published: what follows is that root's.
        if isinstance(outcome, WellspringError) and not isinstance(outcome, ChangeIdReused):
            raise outcome


def _take(shard: Shard, source: int, told: Told) -> Awaitable[None]:
    step = shard.step()
    step.commit.put_record(HEARD, bytes([source]), encode(told.number))
    inputs = step.commit.intern_named_inputs(list(told.outputs), CONTENT)
    changed_at = step.next_sequence()
    roots: dict[str, Root | None] = {}
    for part in told.parts:
        mine = inputs[part.places]
        found = shard.store.dependents_of(mine)
        if found and part.root.change.id not in roots:
            roots[part.root.change.id] = _root(step, part.root)
        root = roots.get(part.root.change.id) if found else None
        if root is not None:
            _pend(step, root, part.level, (changed_at, told.version), mine, found)
    step.change_inputs(inputs, InputChange(changed_at, told.version, _owner(shard, told, roots)))
    return step.write()


def _owner(shard: Shard, told: Told, roots: Mapping[str, Root | None]) -> int:
    """Whose the change is, for edges that come late; 0 where no root is known here."""
    for part in told.parts:
        root = roots.get(part.root.change.id)
        if root is not None:
            return root.sequence
        known = find_change_id(shard.store, part.root.change.id)
        if known is not None:
            return known[0]
    return 0


def _pend(step: Step, root: Root, level: int, at: tuple[int, bytes], inputs: Numbers, found: dict[int, BitMap]) -> None:
    changed_at, version = at
    root.learn_inputs(level, inputs.tolist(), version)
    note(step, root, level, changed_at, inputs, found)
    step.touch(root)


def _root(step: Step, told: ToldRoot) -> Root | None:
    """The unfinished root, made or opened again; None for one that was cancelled here by name."""
    shard = step.shard
    known = find_change_id(shard.store, told.change.id)
    if known is None:
        return _made(step, told)
    root = shard.roots.get(known[0])
    if root is not None:
        return root
    record = read_root(shard.store, known[0])
    sequence = visibility.heir(shard, record).sequence if record is not None else known[0]
    if sequence in shard.roots:
        return shard.roots[sequence]
    root = reopening.reopened(step, sequence)
    if root is None:
        return None
    root.flips = shard.flips.pop(sequence, {})
    _govern(step, root, told)
    return root


def _made(step: Step, told: ToldRoot) -> Root:
    """The part here of a root that an engine made elsewhere: it has the id by which callers know it. Nobody asked for
    it here yet: no digest tells what was asked."""
    sequence = step.next_sequence()
    put_id(step.commit, told.change.id, sequence, b"")
    root = reopening.made(step, sequence, told.change, told.lane, told.weight)
    _govern(step, root, told)
    return root


def _govern(step: Step, root: Root, told: ToldRoot) -> None:
    """What operators did to the root while it was at work elsewhere only."""
    state = State.PAUSED if told.paused else State.ACTIVE
    step.shard.scheduler.remove(root)
    record = replace(root.record, state=state, reason=told.reason, lane=told.lane, weight=told.weight, begun=True)
    step.put_record(root, record)
    if root.runnable:
        step.shard.scheduler.add(root)
