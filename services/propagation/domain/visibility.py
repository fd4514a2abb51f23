"""Whether a resource's view shows a change, and waiting until it does.

A render is visible when its completion is accepted: by then it is stored and every cache has acknowledged the purge. A
token is the sequence of a change; a change id serves as well, also one that the engine has not heard of yet, because a
write to a bound namespace is answered before its change arrives.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from services.propagation.domain.errors import ChangeIdInvalid
from services.propagation.domain.names import check_change_id, check_resource
from services.propagation.domain.paths import MOST_VISITED, Item, inputs_of, made_of, output_item, resource_name
from services.propagation.domain.records import Fanout, RootRecord, State, find_change_id, read_root
from services.propagation.domain.retention import forgotten_up_to
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Shard

_PREFIX = "wv1-"
_MOST_HEIRS = 1_000
_RECHECK_S = 1.0
"""An item may become visible by an event of another item (a level that turned out not to reach it)."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """`state` says why not: pending, paused, cancelled, dead_letter, held_back. Readers get at least `version`."""

    visible: bool
    version: bytes
    state: str


def token(sequence: int) -> str:
    """The visibility token of a change."""
    return f"{_PREFIX}{sequence:016x}"


def sequence_of(shard: Shard, text: str) -> int | None:
    """The sequence that a token or change id stands for; None for a change not heard of. Raises ChangeIdInvalid."""
    digits = text.removeprefix(_PREFIX)
    if len(digits) == 16 and digits != text and all(digit in "0123456789abcdef" for digit in digits):
        sequence = int(digits, 16)
        if sequence > forgotten_up_to(shard) and _record(shard, sequence) is None:
            raise ChangeIdInvalid.field("visibility_token", "is of no change that was accepted here")
        return sequence
    known = find_change_id(shard.store, check_change_id(text, "visibility_token"))
    return known[0] if known is not None else None


def check(shard: Shard, sequence: int, view: int, resource: int) -> Visibility:
    """Whether the view of the resource shows the change at `sequence`.

    A change that was older than what was known of an aspect is shown by whatever shows the newer one.
    """
    state = ""
    for one in _carriers(shard, sequence):
        state = state or _state(shard, one, (view, resource))
    rendered = _rendered_at(shard, (view, resource))
    return Visibility(not state, shard.sequence.version(rendered) if rendered else bytes(16), state)


def _carriers(shard: Shard, sequence: int) -> list[int]:
    """The roots whose renders show the change: its own, and for aspects that were known newer, the newer ones'.

    Of a root that was superseded and finished early, it is its successor.
    """
    record = _record(shard, sequence)
    if record is None:
        return []
    carriers: list[int] = []
    if record.begun:
        carriers.append(heir(shard, record).sequence)
    stale = _inputs(shard, record) - set(record.inputs)
    if stale:
        carriers += [
            root.sequence
            for root in shard.roots.values()
            if root.sequence < sequence and not stale.isdisjoint(root.record.inputs)
        ]
        changes = shard.store.input_changes(sorted(stale)).values()
        carriers += [change.root for change in changes if change.changed_at < sequence and change.root not in carriers]
    return carriers


def _inputs(shard: Shard, record: RootRecord) -> set[int]:
    """The input numbers of all aspects that the change named."""
    if not record.change.resource:
        return set()
    number = int(shard.store.find_resources([record.change.resource.encode()])[0])
    found = (shard.store.find_input(number, aspect) for aspect in record.change.aspects) if number >= 0 else ()
    return {one for one in found if one >= 0}


def heir(shard: Shard, record: RootRecord) -> RootRecord:
    """The root itself, or, if it was finished because a newer one took over, that one."""
    for _ in range(_MOST_HEIRS):
        if not record.superseded_by or not record.state.finished or not record.left:
            break
        known = find_change_id(shard.store, record.superseded_by)
        successor = _record(shard, known[0]) if known is not None else None
        if successor is None:
            break
        record = successor
    return record


def _record(shard: Shard, sequence: int) -> RootRecord | None:
    root = shard.roots.get(sequence)
    return root.record if root is not None else read_root(shard.store, sequence)


def _state(shard: Shard, sequence: int, item: Item) -> str:
    """Why the item does not show what the root brought; empty when it does."""
    root = shard.roots.get(sequence)
    if root is not None:
        return _of_unfinished(shard, root, item)
    record = read_root(shard.store, sequence)
    if record is None or record.state is State.DONE:
        return ""
    return _of_finished(shard, record, item)


def _of_unfinished(shard: Shard, root: Root, item: Item) -> str:
    """As _state: something that the item is made of, however far back, or it itself, is still to be rendered."""
    state = _waits(shard, root, item)
    if state or not _feeds(shard, root):
        return state
    seen: set[Item] = {item}
    ring = [item]
    while ring:
        ahead: list[Item] = []
        for made in ring:
            state = _waits(shard, root, made)
            if state:
                return state
            ahead += [source for source in made_of(shard, made) if source not in seen]
            seen.update(ahead)
        if len(seen) > MOST_VISITED:
            return _name(shard, root, item)
        ring = list(dict.fromkeys(ahead))
    return ""


def _feeds(shard: Shard, root: Root) -> bool:
    """Whether anything is made of what is still to be rendered; mostly nothing is, and no way need be walked."""
    return any(
        members.intersect(shard.store.outputs_with_dependents(group.view))
        for group in root.groups.values()
        for members in (group.pending, group.failed)
    ) or any(shard.store.outputs_with_dependents(view) for view in dict(_second_passes(shard, root)))


def _waits(shard: Shard, root: Root, item: Item) -> str:
    view, resource = item
    for group in root.of_view(view):
        if resource in group.pending:
            return _name(shard, root, item)
        if resource in group.failed and resource in shard.holds.dead(view):
            return "dead_letter"
    return _name(shard, root, item) if _is_rendered_twice(shard, root, item) else ""


def _second_passes(shard: Shard, root: Root) -> list[tuple[int, int]]:
    """(view, noted_at of the fan-out) of those of the root that are to come."""
    due = shard.settling.to_come if root.settling else ()
    return [(view, noted_at) for sequence, noted_at, view in due if sequence == root.sequence]


def _is_rendered_twice(shard: Shard, root: Root, item: Item) -> bool:
    """Whether a second pass of the root will reach the item: what it was rendered of before may have been too old."""
    due = [noted_at for view, noted_at in _second_passes(shard, root) if view == item[0]]
    inputs = {number for number, _, _ in inputs_of(shard, item)} if due else set()
    found = (Fanout.read(shard.store, root.sequence, noted_at) for noted_at in due)
    return any(
        noted.whole or not ({item[1]} if noted.listed else inputs).isdisjoint(noted.inputs.tolist())
        for noted in found
        if noted is not None
    )


def _name(shard: Shard, root: Root, item: Item) -> str:
    if root.record.state is State.PAUSED:
        return "paused"
    return "held_back" if item[1] in shard.held_back.of(item[0]) else "pending"


def _of_finished(shard: Shard, record: RootRecord, item: Item) -> str:
    """As _state, for a root that ended with dead letters or was cancelled: from the columns, on the cautious side.

    What the root's inputs made pending must have been rendered since; what is made of outputs that changed since, too.
    """
    seen: set[Item] = {item}
    ring = [item]
    while ring and len(seen) <= MOST_VISITED:
        ahead: list[Item] = []
        for made in ring:
            if _rendered_at(shard, made) < _wanted_at(shard, record, made):
                dead = made[1] in shard.holds.dead(made[0])
                return "dead_letter" if dead else "cancelled" if record.state is State.CANCELLED else "pending"
            ahead += [source for source in made_of(shard, made) if source not in seen]
            seen.update(ahead)
        ring = list(dict.fromkeys(ahead))
    return ""


def _wanted_at(shard: Shard, record: RootRecord, item: Item) -> int:
    """The sequence that the item must have been rendered after to show what the root brought; 0 for any."""
    parts = inputs_of(shard, item)
    wanted = record.sequence if any(number in record.inputs for number, _, _ in parts) else 0
    for number, resource, aspect in parts:
        made = output_item(shard, resource, aspect)
        if made is not None and number not in record.inputs:
            changed = _changed_at(shard, number, made)
            wanted = max(wanted, changed if changed > record.sequence else 0)
    return wanted


def _changed_at(shard: Shard, number: int, made: Item) -> int:
    """When an output changed: of another shard's, when that was told."""
    if shard.settings.part.has(resource_name(shard, made[1])):
        return int(shard.store.output_changed_at(made[0], np.array([made[1]], np.uint32))[0])
    told = shard.store.input_changes([number]).get(number)
    return told.changed_at if told is not None else 0


def _rendered_at(shard: Shard, item: Item) -> int:
    return int(shard.store.rendered_at(item[0], np.array([item[1]], np.uint32))[0])


async def wait(shard: Shard, visibility_token: str, resource: str, view_name: str, seconds: float) -> Visibility:
    """Waits at most so long for the change to be visible. Raises ViewNotFound, ResourceInvalid, ChangeIdInvalid."""
    name = check_resource(resource, "resource")
    view = shard.views.number(view_name)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    answer = Visibility(False, bytes(16), "pending")
    for remaining in _until(loop, end):
        sequence = sequence_of(shard, visibility_token)
        if sequence is None:
            await shard.signals.accepted.wait(min(remaining, _RECHECK_S))
            continue
        number = int(shard.store.find_resources([name])[0])
        if number < 0:
            return Visibility(True, bytes(16), "")
        answer = check(shard, sequence, view, number)
        if answer.visible:
            break
        await shard.signals.items.wait(view, number, min(remaining, _RECHECK_S))
    return answer


def _until(loop: asyncio.AbstractEventLoop, end: float) -> Iterator[float]:
    """Seconds left, at least one turn."""
    yield max(0.0, end - loop.time())
    while (left := end - loop.time()) > 0:
        yield left
