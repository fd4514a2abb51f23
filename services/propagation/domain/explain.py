"""Why a view of a resource is as it is: what it waits for, and which renders showed which changes.

What waits is derived from its inputs: those that changed after it was rendered. What was shown is read from the log of
renders, which says for each of them the roots that leased the item and those that it was pending for besides; so an
edit is called coalesced only when another one's render did show it. Of changes older than the log only the newest of
each input is known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from services.propagation.domain.change import Change
from services.propagation.domain.errors import ResourceNotFound
from services.propagation.domain.history import ItemRender
from services.propagation.domain.names import check_resource
from services.propagation.domain.paths import Item, inputs_of, item_name, output_item, resource_name
from services.propagation.domain.records import RootRecord, State, read_root
from services.propagation.domain.shard import Shard
from services.propagation.store.interface import InputChange

MOST_STEPS = 50
_DEEPEST = 16
_MOST_LOGGED = 1_000
"""Completions looked through for the item's renders, in each direction: some milliseconds of work."""


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
    """One change that concerned the item; `rendered_at` is the lease that showed it, 0 when none did.

    `time_ns` is that of the change at the input. `root` is None when its record is older than the window of
    remembrance.
    """

    time_ns: int
    decision: Decision
    root: Change | None
    input_resource: str
    input_aspect: str
    path: tuple[str, ...]
    changed_at: int
    rendered_at: int
    rendered_version: bytes
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
    rendered_at = _column(shard.store.rendered_at(view, np.array([number], np.uint32)))
    steps = sorted(_Told(shard, (view, number), rendered_at).steps(), key=_newest_first)
    return Explanation(
        steps=steps[:MOST_STEPS],
        pending=any(number in group.pending for root in shard.roots.values() for group in root.of_view(view)),
        rendered_at=rendered_at,
        rendered_ns=shard.sequence.time_ns(rendered_at) if rendered_at else 0,
        rendered_version=_version(shard, rendered_at),
        output_hash=shard.store.hashes(view, np.array([number], np.uint32))[0].tobytes() if rendered_at else b"",
    )


def _newest_first(step: ExplainStep) -> tuple[int, int]:
    return -step.changed_at, -step.rendered_at


def _column(values: Sequence[int] | np.ndarray) -> int:
    return int(values[0])


def _version(shard: Shard, rendered_at: int) -> bytes:
    return shard.sequence.version(rendered_at) if rendered_at else bytes(16)


class _Told:
    """The steps of one item."""

    def __init__(self, shard: Shard, item: Item, rendered_at: int) -> None:
        self._shard = shard
        self._item = item
        self._rendered_at = rendered_at
        self._parts = inputs_of(shard, item)
        self._changes = shard.store.input_changes([part[0] for part in self._parts])
        self._records: dict[int, RootRecord | None] = {}
        self._told: set[int] = set()

    def steps(self) -> Iterator[ExplainStep]:
        """What waits, what was shown, and what is known of changes whose renders are not remembered."""
        yield from self._waiting()
        since = min((change.changed_at for change in self._changes.values()), default=self._rendered_at)
        view, resource = self._item
        renders = self._shard.history.of_item(view, resource, self._rendered_at, since, _MOST_LOGGED)
        for render in renders[:MOST_STEPS]:
            yield from self._shown(render)
        yield from self._older()

    def _waiting(self) -> Iterator[ExplainStep]:
        for number, resource, aspect in self._parts:
            change = self._changes.get(number)
            if change is not None and change.changed_at > self._rendered_at:
                self._told.add(change.root)
                record = self._record(change.root)
                decision, note = self._why_waiting(record)
                yield self._step(decision, note, record, change.root, (number, resource, aspect), change, 0)
        view, resource = self._item
        for root in self._shard.roots.values():
            if root.sequence not in self._told and any(resource in group.pending for group in root.of_view(view)):
                self._told.add(root.sequence)
                decision, note = self._why_waiting(root.record)
                if root.record.superseded_by:
                    decision, note = Decision.SUPERSEDED, _taken_over(root.record)
                yield self._of_root(decision, note, root.record, root.sequence, 0)

    def _why_waiting(self, record: RootRecord | None) -> tuple[Decision, str]:
        shard, (view, resource) = self._shard, self._item
        dead = shard.holds.get_dead(view, resource)
        if dead is not None:
            return Decision.FAILED, f"dead letter after {dead.attempts} attempts: {dead.reason} {dead.detail}".strip()
        if record is not None and record.state is State.CANCELLED:
            return Decision.CANCELLED, f"the root was cancelled: {record.reason}".rstrip(": ")
        if record is not None and record.state is State.PAUSED:
            return Decision.PENDING, f"the root is paused: {record.reason}".rstrip(": ")
        if resource in shard.held_back.of(view):
            return Decision.PENDING, "held back: its renderer saw an older version of an input than the change brought"
        held = shard.holds.get(view, resource)
        if held is not None:
            return Decision.PENDING, f"failed {held.attempts} times, tried again later: {held.reason}"
        return Decision.PENDING, "being rendered" if resource in shard.leases.lent(view) else ""

    def _shown(self, render: ItemRender) -> Iterator[ExplainStep]:
        own = Decision.RENDERED if render.changed else Decision.CUT_OFF
        note = "" if render.changed else "the bytes were the same as before"
        for root in render.own:
            record = self._record(root)
            yield self._of_root(own, _after(record, render, note), record, root, render.lease)
        leader = self._record(render.own[0]) if render.own else None
        shown_by = f"the render for {leader.change.id} shows it" if leader is not None else "another render shows it"
        for root in render.covered:
            record = self._record(root)
            if record is not None and record.superseded_by:
                yield self._of_root(Decision.SUPERSEDED, _taken_over(record), record, root, render.lease)
            else:
                yield self._of_root(Decision.COALESCED, shown_by, record, root, render.lease)

    def _older(self) -> Iterator[ExplainStep]:
        """Changes that some render shows, which one is not remembered."""
        view, resource = self._item
        output_at = _column(self._shard.store.output_changed_at(view, np.array([resource], np.uint32)))
        for number, source, aspect in self._parts:
            change = self._changes.get(number)
            if change is None or change.changed_at > self._rendered_at or change.root in self._told:
                continue
            record = self._record(change.root)
            if record is not None and record.superseded_by:
                decision, note = Decision.SUPERSEDED, _taken_over(record)
            elif output_at > change.changed_at:
                decision, note = Decision.RENDERED, "by this render or an earlier one"
            else:
                decision, note = Decision.CUT_OFF, "the bytes were the same as before"
            yield self._step(decision, note, record, change.root, (number, source, aspect), change, self._rendered_at)

    def _of_root(
        self, decision: Decision, note: str, record: RootRecord | None, root: int, rendered_at: int
    ) -> ExplainStep:
        """A step by its root, through the input by which it reached the item as far as that is still known."""
        self._told.add(root)
        reached = [part for part in self._parts if part[0] in self._changes and self._changes[part[0]].root == root]
        if not reached and record is not None:
            reached = [part for part in self._parts if part[0] in record.inputs]
            return self._step(decision, note, record, root, reached[0] if reached else None, None, rendered_at)
        newest = max(reached, key=lambda part: self._changes[part[0]].changed_at, default=None)
        change = self._changes[newest[0]] if newest is not None else None
        return self._step(decision, note, record, root, newest, change, rendered_at)

    def _step(
        self,
        decision: Decision,
        note: str,
        record: RootRecord | None,
        root: int,
        part: tuple[int, int, str] | None,
        change: InputChange | None,
        rendered_at: int,
    ) -> ExplainStep:
        shard = self._shard
        changed_at = change.changed_at if change is not None else root
        time_ns = shard.sequence.time_ns(changed_at) or (record.accepted_ns if record is not None else 0)
        own = resource_name(shard, self._item[1])
        source = ""
        path: tuple[str, ...] = (own,)
        if part is not None and part[1] != self._item[1]:
            source = resource_name(shard, part[1])
            path = (*_path(shard, part[1], part[2], root), source, own)
        elif part is not None:
            source = own
        elif record is not None and record.change.resource not in ("", own):
            source, path = record.change.resource, (record.change.resource, own)
        return ExplainStep(
            time_ns,
            decision,
            record.change if record is not None else None,
            source,
            part[2] if part is not None else "",
            path,
            changed_at,
            rendered_at,
            _version(shard, rendered_at),
            note,
        )

    def _record(self, root: int) -> RootRecord | None:
        if root not in self._records:
            self._records[root] = read_root(self._shard.store, root)
        return self._records[root]


def _taken_over(record: RootRecord) -> str:
    return f"a newer change of the same inputs took over: {record.superseded_by}"


def _after(record: RootRecord | None, render: ItemRender, note: str) -> str:
    """The note, and how long after the change's acceptance the render was accepted."""
    if record is None:
        return note
    waited = f"{max(0, render.time_ns - record.accepted_ns) / 1e9:.1f} s after the change"
    return f"{note}, {waited}" if note else waited


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
