"""Dependency sets: declared by callers, replaced by completions; and changes that came before the edge did.

An edge may arrive after its input changed: while a lease was out, or because a caller declares it late. Such a
dependent is pending although no fan-out met it; `late` finds those edges and `pend_late` makes their dependents pending
under the root of the change, opened again if it had finished. Where the view declares a settle delay, an edge is late
too if its input had changed so shortly before the lease began that the render may have read an older copy: no fan-out
of the change met the dependent, so it gets a second pass of its own.
"""

import dataclasses
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from pyroaring import BitMap

from services.propagation.domain import reopening
from services.propagation.domain.errors import BatchInvalid, ResourceInvalid, SelfDependency, TooManyDependencies
from services.propagation.domain.fanout import settle, want
from services.propagation.domain.leases import Lease
from services.propagation.domain.names import CONTENT, OUTPUT_PREFIX, output_parts
from services.propagation.domain.paths import Item
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Shard, Step
from services.propagation.domain.views import RETIRED
from services.propagation.store.interface import EdgeDelta, Numbers
from services.propagation.store.numbers import to_numbers, to_set

_OUTPUT_PREFIX = OUTPUT_PREFIX.encode()

Outputs = dict[int, Item]
"""Input number -> (view, resource) of the item whose output it is."""


class Mode(IntEnum):
    """What a declaration does to a set, with the contract's numbers."""

    REPLACE = 1
    ADD = 2
    REMOVE = 3


@dataclass(frozen=True, slots=True)
class Declared:
    """Sets by name: dependent i has the next counts[i] entries of `index`, each an index into (names, aspects).

    `dependents` are numbers in any order; `path` names the field for errors. Once `numbered` was here, `inputs` are
    the numbers of (names, aspects) and `outputs` the outputs among them, and the names are not needed any more.
    """

    dependents: Numbers
    counts: Numbers
    names: list[bytes]
    aspects: list[str] | str
    index: Numbers
    path: str = "dependencies"
    inputs: Numbers | None = None
    outputs: "Outputs | None" = None


@dataclass(frozen=True, slots=True)
class Declaration:
    """What happens to the sets of the dependents `names` of a view.

    Once declared.inputs has the inputs' numbers, theirs are in declared.dependents and the names are not looked at.
    """

    view_name: str
    names: list[bytes]
    declared: Declared
    mode: Mode


@dataclass(frozen=True, slots=True)
class Late:
    """Dependents whose new input had changed at `changed_at`, after what they were rendered from.

    `root` is 0 for an output that changed when nobody depended on it: no root was told. `item` is what it is made by,
    None for an output of another shard.
    `unsettled`: they were rendered after it, but within the view's settle delay.
    """

    view: int
    input: int
    changed_at: int
    root: int
    dependents: BitMap
    item: Item | None = None
    unsettled: bool = False


def declare(
    shard: Shard, view_name: str, names: list[bytes], declared: Declared, mode: Mode
) -> tuple[EdgeDelta, Awaitable[None]]:
    """Changes the sets of the dependents `names`; declared.dependents is ignored. Answers the edges, and durability."""
    deltas, durable = declare_all(shard, [Declaration(view_name, names, declared, mode)])
    return deltas[0], durable


def declare_all(
    shard: Shard, declarations: Sequence[Declaration], *, patient: bool = False, awaited: bool = True
) -> tuple[list[EdgeDelta], Awaitable[None]]:
    """As declare, all of them in order or none: whatever one is refused for, none of the others has an effect."""
    views = [shard.views.number(one.view_name) for one in declarations]
    step = shard.step()
    step.commit.patient, step.commit.awaited = patient, awaited
    changes: list[tuple[int, EdgeDelta, Outputs]] = []
    for view, one in zip(views, declarations, strict=True):
        declared = one.declared
        if declared.inputs is None:
            declared = dataclasses.replace(declared, dependents=step.commit.intern_resources(one.names))
        changes.append((view, *change(step, view, declared, one.mode)))
    for view, delta, outputs in changes:
        for late_edges in _late_of(shard, view, delta, outputs):
            pend_late(step, None, late_edges)
    return [delta for _, delta, _ in changes], step.write()


def number_resources(shard: Shard, names: Sequence[bytes]) -> Numbers:
    """The numbers of resources, new ones given and written: that they have one is all that changes."""
    step = shard.step()
    numbers = step.commit.intern_resources(names)
    _write_numbers(step)
    return numbers


def number_inputs(shard: Shard, names: Sequence[bytes], aspects: Sequence[str] | str) -> Numbers:
    """As number_resources, for inputs."""
    step = shard.step()
    numbers = step.commit.intern_named_inputs(names, aspects)
    _write_numbers(step)
    return numbers


def numbered(shard: Shard, one: Declaration, dependents: Numbers, inputs: Numbers) -> Declaration:
    """The declaration by numbers, dependents ascending: any part of it is refused for nothing that is in it.

    `inputs` are the numbers of declared.names. Raises SelfDependency, ResourceInvalid, and as check_sizes does.
    """
    view = shard.views.number(one.view_name)
    check_sizes(shard, view, one.declared)
    dependents, counts, index = _ascending(dataclasses.replace(one.declared, dependents=dependents))
    # Nothing of this step is written: a resource that is new in it is given its number again by the commit.
    outputs = _outputs(shard.step(), view, one.declared, inputs, np.repeat(dependents, counts), index)
    declared = Declared(dependents, counts, [], one.declared.aspects, index, one.declared.path, inputs, outputs)
    return dataclasses.replace(one, names=[], declared=declared)


def parts(one: Declaration, most_edges: int) -> Iterator[Declaration]:
    """A numbered declaration in parts of so many edges and dependents together at most, or of one dependent."""
    declared = one.declared
    ends = np.cumsum(declared.counts, dtype=np.int64)
    weights = ends + np.arange(1, len(ends) + 1)
    first = edge = 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(weights, first + edge + most_edges, side="right")))
        end = int(ends[last - 1])
        some = dataclasses.replace(
            declared,
            dependents=declared.dependents[first:last],
            counts=declared.counts[first:last],
            index=declared.index[edge:end],
        )
        yield dataclasses.replace(one, declared=some)
        first, edge = last, end


def _write_numbers(step: Step) -> None:
    if not step.commit.empty:
        step.commit.patient, step.commit.awaited = True, False  # nobody is told before what is written next is durable
        step.write()


def replace(step: Step, view: int, declared: Declared) -> tuple[EdgeDelta, Outputs]:
    """Puts new sets into the step's commit."""
    return change(step, view, declared, Mode.REPLACE)


def change(step: Step, view: int, declared: Declared, mode: Mode) -> tuple[EdgeDelta, Outputs]:
    """Puts changed sets into the step's commit. Raises SelfDependency, ResourceInvalid, and as check_sizes does."""
    check_sizes(step.shard, view, declared)
    dependents, counts, index = _ascending(declared)
    numbers = declared.inputs
    if numbers is None:
        numbers = step.commit.intern_named_inputs(declared.names, declared.aspects)
    outputs = declared.outputs
    if outputs is None:
        outputs = _outputs(step, view, declared, numbers, np.repeat(dependents, counts), index)
    inputs = numbers[index] if len(index) else np.empty(0, np.uint32)
    if mode is Mode.REPLACE:
        delta = step.commit.replace_dependencies(view, dependents, counts, inputs)
    else:
        delta = step.commit.change_dependencies(view, dependents, counts, inputs, remove=mode is Mode.REMOVE)
    return delta, outputs


def check_sizes(shard: Shard, view: int, declared: Declared) -> None:
    """Raises TooManyDependencies, BatchInvalid for what can be seen without looking up a name."""
    limit = shard.views.in_use.get(view, RETIRED).max_dependencies
    counts = declared.counts
    if len(counts) and int(counts.max()) > limit:
        raise TooManyDependencies.field(
            f"{declared.path}[{int(counts.argmax())}]",
            f"has {int(counts.max()):,} dependencies; the view allows {limit:,}",
        )
    if int(counts.sum()) != len(declared.index):
        raise BatchInvalid.field(
            declared.path, f"counts sum to {int(counts.sum()):,} but input_index has {len(declared.index):,} entries"
        )
    known = len(declared.names if declared.inputs is None else declared.inputs)
    if len(declared.index) and int(declared.index.max()) >= known:
        raise BatchInvalid.field(
            f"{declared.path}.input_index", f"holds {int(declared.index.max())}; there are {known} inputs"
        )


def _ascending(declared: Declared) -> tuple[Numbers, Numbers, Numbers]:
    dependents, counts, index = declared.dependents, declared.counts, declared.index
    if len(dependents) < 2 or bool((dependents[1:] > dependents[:-1]).all()):
        return dependents, counts, index
    order = np.argsort(dependents, kind="stable")
    ordered = dependents[order]
    doubled = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(doubled):
        second = int(order[int(doubled[0]) + 1])
        raise ResourceInvalid.field(f"{declared.path}[{second}]", "is a dependent that the request names before")
    starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))[:-1][order]
    lengths = counts[order].astype(np.int64)
    ends = np.cumsum(lengths)
    places = np.arange(len(index)) + np.repeat(starts - (ends - lengths), lengths)
    return ordered, counts[order], index[places]


def _outputs(
    step: Step, view: int, declared: Declared, numbers: Numbers, edge_dependents: Numbers, index: Numbers
) -> Outputs:
    outputs: Outputs = {}
    if _OUTPUT_PREFIX not in b"".join(declared.names):  # one look, where there are thousands of names and no output
        return outputs
    own = np.full(len(numbers), -1, np.int64)
    for at, name in enumerate(declared.names):
        if not name.startswith(_OUTPUT_PREFIX):
            continue
        parts = output_parts(name.decode())
        aspect = declared.aspects if isinstance(declared.aspects, str) else declared.aspects[at]
        source_view = step.shard.store.views.get(parts[0]) if parts is not None else None
        if parts is None or source_view is None or aspect != CONTENT:
            continue
        if not step.shard.settings.part.has(parts[1]):
            continue  # what that shard tells is kept as of any input
        source = int(step.commit.intern_resources([parts[1].encode()])[0])
        outputs[int(numbers[at])] = (source_view, source)
        if source_view == view:
            own[at] = source
    if outputs and len(index):
        circular = np.flatnonzero(own[index] == edge_dependents)
        if len(circular):
            itself = declared.names[int(index[circular[0]])].decode()
            raise SelfDependency.field(declared.path, f"{itself} depends on itself")
    return outputs


def late(
    shard: Shard, lease: Lease, delta: EdgeDelta, outputs: Outputs, changed: BitMap, changed_at: int
) -> list[Late]:
    """Of the edges that a completion adds: those whose input changed after its lease began, or just before it did.

    `changed` are items of the lease's view whose output changes with this completion, at `changed_at`.
    """
    found: list[Late] = []
    for number, at, root in _changes(shard, delta.added_inputs, outputs, lease.view, changed, changed_at):
        if at > lease.settled:
            dependents = to_set(delta.added_dependents[delta.added_inputs == number])
            unsettled = at <= lease.sequence
            found.append(Late(lease.view, number, at, root, dependents, outputs.get(number), unsettled))
    return found


def _late_of(shard: Shard, view: int, delta: EdgeDelta, outputs: Outputs) -> list[Late]:
    """Of declared edges: those whose input changed after the dependent was rendered.

    A dependent never rendered waits for its first change, unless the input's root is still under way.
    """
    found: list[Late] = []
    for number, at, root in _changes(shard, delta.added_inputs, outputs, view, BitMap(), 0):
        dependents = delta.added_dependents[delta.added_inputs == number]
        rendered = shard.store.rendered_at(view, np.sort(dependents))
        stale = (rendered < at) & ((rendered > 0) | (root in shard.roots))
        if stale.any():
            found.append(Late(view, number, at, root, to_set(np.sort(dependents)[stale]), outputs.get(number)))
    return found


def _changes(
    shard: Shard, inputs: Numbers, outputs: Outputs, view: int, changed: BitMap, changed_at: int
) -> list[tuple[int, int, int]]:
    """(input, changed_at, root) of those of the inputs that ever changed; an output's time is in its column."""
    if not len(inputs):
        return []
    ordered = np.sort(inputs)
    distinct = ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))].tolist()
    known = shard.store.input_changes(distinct)
    found: list[tuple[int, int, int]] = []
    for number in distinct if outputs else list(known):
        change = known.get(number)
        at, root = (change.changed_at, change.root) if change is not None else (0, 0)
        item = outputs.get(number)
        if item is not None:
            column = int(shard.store.output_changed_at(item[0], np.array([item[1]], np.uint32))[0])
            column = changed_at if item[0] == view and item[1] in changed else column
            at, root = column, root if at == column else 0
        if at:
            found.append((number, at, root))
    return found


def pend_late(step: Step, lease: Lease | None, late_edges: Late) -> None:
    """Makes the dependents of late edges pending, now or in a second pass: under the change's root, or where that
    is not known their lease's.
    """
    if late_edges.root:
        root = reopening.reopened(step, late_edges.root)
        if root is not None:
            _pend(step, root, late_edges)
        return
    remaining = late_edges.dependents
    for root, items in lease.parts if lease is not None else []:
        mine = remaining & items
        if mine and root.sequence in step.shard.roots:
            _pend(step, root, dataclasses.replace(late_edges, dependents=mine))
            remaining = remaining - mine
    if remaining:
        source = late_edges.item if late_edges.item is not None else late_edges.input
        root = reopening.made_for(step, source)
        _pend(step, root, dataclasses.replace(late_edges, dependents=remaining))


def _pend(step: Step, root: Root, late_edges: Late) -> None:
    level = 1 if late_edges.input in root.record.inputs else max(2, root.levels)
    if late_edges.unsettled:
        settle(step, root, level, late_edges.changed_at, late_edges.view, late_edges.dependents)
    else:
        want(step, root, level, late_edges.changed_at, late_edges.view, late_edges.dependents, settles=True)


def dependencies_of(shard: Shard, view: int, resource: int) -> list[tuple[bytes, str]]:
    """(name, aspect) of each input that an item declared."""
    _, inputs = shard.store.dependencies(view, np.array([resource], np.uint32))
    parts = shard.store.input_parts(inputs)
    ordered = to_numbers(BitMap([part[0] for part in parts]))
    names = dict(zip(ordered.tolist(), shard.store.resource_names(ordered), strict=True))
    return sorted((names[number], aspect) for number, aspect in parts)
