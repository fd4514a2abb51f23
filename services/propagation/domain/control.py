"""What operators do to roots: pause, resume, cancel, move to another lane or weight."""

from collections.abc import Awaitable
from dataclasses import replace

from libs.errors.errors import InvalidArgument
from services.propagation.domain.errors import ChangeNotFound, RootFinished
from services.propagation.domain.names import WORD_RULE, is_word
from services.propagation.domain.records import LATE_PREFIX, RootRecord, State, find_change_id, read_root
from services.propagation.domain.roots import Meter, Root
from services.propagation.domain.shard import Shard

MAX_WEIGHT = 100


def find_record(shard: Shard, change_id: str) -> RootRecord:
    """The record of a change. Raises ChangeNotFound."""
    known = find_change_id(shard.store, change_id)
    sequence = known[0] if known is not None else late_sequence(change_id)
    root = shard.roots.get(sequence)
    record = root.record if root is not None else read_root(shard.store, sequence)
    if record is None or record.change.id != change_id:
        raise ChangeNotFound(f"no change {change_id!r} is known", metadata={"id": change_id})
    return record


def late_sequence(change_id: str) -> int:
    """The sequence of a root that the engine made itself, from its id; 0 for any other id."""
    head, _, tail = change_id.partition(LATE_PREFIX)
    try:
        return int(tail, 16) if not head else 0
    except ValueError:
        return 0


def pause(shard: Shard, change_id: str, reason: str) -> tuple[RootRecord, Awaitable[None]]:
    """No new lease is given for the root; leases in flight end. Raises ChangeNotFound, RootFinished."""
    return _set_state(shard, change_id, State.PAUSED, reason)


def resume(shard: Shard, change_id: str) -> tuple[RootRecord, Awaitable[None]]:
    """The root goes on where it was. Raises ChangeNotFound, RootFinished."""
    return _set_state(shard, change_id, State.ACTIVE, "")


def _set_state(shard: Shard, change_id: str, state: State, reason: str) -> tuple[RootRecord, Awaitable[None]]:
    root = _unfinished(shard, change_id)
    step = shard.step()
    shard.scheduler.remove(root)
    step.put_record(root, replace(root.record, state=state, reason=reason))
    if root.runnable:
        root.meter = Meter(step.now_s)
        shard.scheduler.add(root)
        shard.signals.work.fire()
    durable = step.write()
    shard.signals.items.fire_all()
    return root.record, durable


def cancel(shard: Shard, change_id: str, reason: str) -> tuple[RootRecord, Awaitable[None]]:
    """Nothing more is leased for the root; it is listed with what was left. Raises ChangeNotFound, RootFinished."""
    root = _unfinished(shard, change_id)
    step = shard.step()
    left = root.pending
    root.record = replace(root.record, reason=reason)
    step.finish(root, State.CANCELLED, left=left)
    durable = step.write()
    shard.signals.work.fire()
    shard.signals.items.fire_all()
    return root.record, durable


def reprioritize(shard: Shard, change_id: str, lane: str, weight: int) -> tuple[RootRecord, Awaitable[None]]:
    """Moves the root; an empty lane and a weight of 0 mean: as it is. Raises ChangeNotFound, RootFinished."""
    if lane and not is_word(lane):
        raise InvalidArgument.field("lane", f"is no lane; {WORD_RULE}")
    if not 0 <= weight <= MAX_WEIGHT:
        raise InvalidArgument.field("weight", f"is {weight}; 1 to {MAX_WEIGHT} are allowed, 0 leaves it as it is")
    root = _unfinished(shard, change_id)
    step = shard.step()
    shard.scheduler.remove(root)
    record = root.record
    step.put_record(root, replace(record, lane=lane or record.lane, weight=weight or record.weight))
    root.served = False
    if root.runnable:
        shard.scheduler.add(root)
    return root.record, step.write()


def _unfinished(shard: Shard, change_id: str) -> Root:
    record = find_record(shard, change_id)
    root = shard.roots.get(record.sequence)
    if root is None:
        raise RootFinished(
            f"the root {change_id!r} is finished ({record.state.name})",
            metadata={"id": change_id, "state": record.state.name},
        )
    return root
