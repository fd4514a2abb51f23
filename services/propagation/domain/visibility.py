"""Whether a resource's view shows a change, and waiting until it does.

A render is visible when its completion is accepted: by then it is stored and every cache has acknowledged the purge. A
token is the sequence of a change; a change id serves as well, also one that the engine has not heard of yet, because a
write to a bound namespace is answered before its change arrives.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from services.propagation.domain.names import check_change_id, check_resource
from services.propagation.domain.paths import MOST_VISITED, Item, made_of
from services.propagation.domain.records import RootRecord, State, find_change_id, read_root
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Shard

_PREFIX = "wv1-"
_RECHECK_S = 1.0
"""An item may become visible by an event of another item (a level that turned out not to reach it)."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """`state` says why not: pending, paused, cancelled, dead_letter. `version` is the least that readers get."""

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
        return int(digits, 16)
    known = find_change_id(shard.store, check_change_id(text, "visibility_token"))
    return known[0] if known is not None else None


def check(shard: Shard, sequence: int, view: int, resource: int) -> Visibility:
    """Whether the view of the resource shows the change at `sequence`."""
    rendered = int(shard.store.rendered_at(view, np.array([resource], np.uint32))[0])
    version = shard.sequence.version(rendered) if rendered else bytes(16)
    dead = resource in shard.holds.dead(view)
    record = read_root(shard.store, sequence)
    root = shard.roots.get(sequence)
    if root is not None:
        state = _pending_state(root, view, resource, dead)
        if state is None and rendered < sequence and _may_be_reached(shard, root, (view, resource)):
            state = _state_name(root)
        return Visibility(state is None, version, state or "")
    if record is not None and rendered < sequence:
        if record.state is State.CANCELLED and _is_dependent(shard, record, view, resource):
            return Visibility(False, version, "cancelled")
        if dead:
            return Visibility(False, version, "dead_letter")
        return _successor_state(shard, record, view, resource, version)
    return Visibility(True, version, "")


def _successor_state(shard: Shard, record: RootRecord, view: int, resource: int, version: bytes) -> Visibility:
    """A root that was folded into a newer one is over, yet its items may still be pending there."""
    for root in shard.roots.values():
        if root.record.inputs == record.inputs and root.sequence > record.sequence:
            state = _pending_state(root, view, resource, dead=False)
            if state is not None:
                return Visibility(False, version, state)
    return Visibility(True, version, "")


def _pending_state(root: Root, view: int, resource: int, dead: bool) -> str | None:
    for group in root.of_view(view):
        if resource in group.pending:
            return _state_name(root)
        if resource in group.failed and dead:
            return "dead_letter"
    return None


def _state_name(root: Root) -> str:
    return "paused" if root.record.state is State.PAUSED else "pending"


def _is_dependent(shard: Shard, record: RootRecord, view: int, resource: int) -> bool:
    if shard.views.by_number[view].covers(record.change.resource):
        own = int(shard.store.find_resources([record.change.resource.encode()])[0])
        if own == resource:
            return True
    return any(resource in shard.store.dependents(number).get(view, ()) for number in record.inputs)


def _may_be_reached(shard: Shard, root: Root, item: Item) -> bool:
    """Whether something that the item is made of, however far back, is pending under the root."""
    seen: set[Item] = {item}
    ring = [item]
    while ring:
        ahead: list[Item] = []
        for made in ring:
            for source in made_of(shard, made):
                if any(source[1] in group.pending for group in root.of_view(source[0])):
                    return True
                if source not in seen:
                    seen.add(source)
                    ahead.append(source)
        if len(seen) > MOST_VISITED:
            return True
        ring = ahead
    return False


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
