"""The store in memory, plain: for tests and simulation. Its "disk" is the log of its commits, which a crash cuts.

Nothing is packed. What it answers is what the embedded store answers: one suite covers both (conformance/).
"""

from bisect import bisect_left
from collections.abc import Awaitable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from libs.embedded.failures import StoreUnavailable
from services.propagation.store import edges, memory_numbers, outputs
from services.propagation.store.interface import (
    Bytes16,
    EdgeDelta,
    InputChange,
    Numbers,
    Sequences,
    StaleCommit,
    UnknownNumber,
)
from services.propagation.store.memory_state import Column, MemoryDisk, Op, State, apply
from services.propagation.store.numbered import Numbered
from services.propagation.store.numbers import to_numbers, to_set

__all__ = ["MemoryCommit", "MemoryDisk", "MemoryStore"]

_NO_INPUTS = np.empty(0, np.uint32)


class MemoryCommit:
    """See `interface.Commit`."""

    def __init__(self, store: "MemoryStore") -> None:
        self._store = store
        self._sets: dict[tuple[int, int], Numbers] = {}
        self.ops: list[Op] = []
        self.edges_seen: int | None = None
        self.used = False
        self.patient = False
        self.awaited = True

    @property
    def empty(self) -> bool:
        """See `interface.Commit.empty`."""
        return not self.ops

    def intern_views(self, names: Sequence[str]) -> list[int]:
        """See `interface.Commit.intern_views`."""
        numbers = [self._store.view_number(outputs.check_view(name)) for name in names]
        new = {name: n for name, n in zip(names, numbers, strict=True) if name not in self._store.state.views}
        if new:
            self.ops.append(("add_views", (new,)))
        return numbers

    def intern_resources(self, names: Sequence[bytes]) -> Numbers:
        """See `interface.Commit.intern_resources`."""
        every = outputs.with_sources(list(names))
        numbers = [self._store.resource_number(name) for name in every]
        new = {name: n for name, n in zip(every, numbers, strict=True) if name not in self._store.state.numbers}
        if new:
            self.ops.append(("add_names", (new,)))
        return np.array(numbers[: len(names)], np.uint32)

    def intern_inputs(self, resources: Numbers, aspects: Sequence[str] | str) -> Numbers:
        """See `interface.Commit.intern_inputs`."""
        edges.check_known(resources, self._store.next_resource, "resource")
        each = [aspects] * len(resources) if isinstance(aspects, str) else aspects
        parts = list(zip(resources.tolist(), each, strict=True))
        numbers = [self._store.input_number(part) for part in parts]
        known = self._store.state.input_numbers
        new = {part: n for part, n in zip(parts, numbers, strict=True) if part[1] not in known.get(part[0], ())}
        if new:
            self.ops.append(("add_inputs", (new,)))
        return np.array(numbers, np.uint32)

    def intern_named_inputs(self, names: Sequence[bytes], aspects: Sequence[str] | str) -> Numbers:
        """See `interface.Commit.intern_named_inputs`."""
        return self.intern_inputs(self.intern_resources(names), aspects)

    def numbered(self) -> Numbered:
        """See `numbered.NumberedCommit.numbered`."""
        return memory_numbers.numbered(self.ops, self._store.next_resource, self._store.next_input)

    def renumber(self, given: Numbered) -> None:
        """See `numbered.NumberedCommit.renumber`."""
        inputs = memory_numbers.input_parts(given.inputs)
        self._store.give(given, inputs)
        new = (("add_views", given.views), ("add_names", given.names), ("add_inputs", inputs))
        self.ops += [(method, (dict(numbers),)) for method, numbers in new if numbers]

    def replace_dependencies(self, view: int, dependents: Numbers, counts: Numbers, inputs: Numbers) -> EdgeDelta:
        """See `interface.Commit.replace_dependencies`."""
        old, new = self._before(view, dependents, counts, inputs)
        return self._gather(view, dependents, old, new)

    def change_dependencies(
        self,
        view: int,
        dependents: Numbers,
        counts: Numbers,
        inputs: Numbers,
        *,
        remove: bool,
    ) -> EdgeDelta:
        """See `interface.Commit.change_dependencies`."""
        old, named = self._before(view, dependents, counts, inputs)
        return self._gather(view, dependents, old, edges.merge(old, named, remove=remove))

    def complete(
        self,
        view: int,
        resources: Numbers,
        sequence: int,
        hashes: Bytes16,
        changed: npt.NDArray[np.bool_],
        changed_at: int,
    ) -> None:
        """See `interface.Commit.complete`."""
        edges.check_known(resources, self._store.next_resource, "resource")
        self._store.check_view(view)
        if not len(resources) == len(hashes) == len(changed):
            raise ValueError(f"{len(resources)} resources have {len(hashes)} hashes and {len(changed)} marks of change")
        arguments = (view, resources.copy(), sequence, hashes.copy(), resources[changed], changed_at)
        self.ops.append(("complete", arguments))

    def change_inputs(self, inputs: Numbers, change: InputChange) -> None:
        """See `interface.Commit.change_inputs`."""
        edges.check_known(inputs, self._store.next_input, "input")
        if len(change.version) != 16:
            raise ValueError(f"a version has 16 bytes, not {len(change.version)}")
        self.ops.append(("change_inputs", (inputs.tolist(), change)))

    def change_each(self, inputs: Numbers, changes: Sequence[InputChange]) -> None:
        """See `interface.Commit.change_each`."""
        for number, change in zip(inputs, changes, strict=True):
            self.change_inputs(np.array([number], np.uint32), change)

    def put_record(self, kind: str, key: bytes, value: bytes) -> None:
        """See `interface.Commit.put_record`."""
        self.ops.append(("put_record", (kind, key, value)))

    def delete_record(self, kind: str, key: bytes) -> None:
        """Removes a record, whether it is there or not."""
        self.ops.append(("delete_record", (kind, key)))

    def delete_records(self, kind: str, prefix: bytes) -> None:
        """Removes the records whose keys begin with `prefix`."""
        self.ops.append(("delete_records", (kind, prefix)))

    def _before(
        self, view: int, dependents: Numbers, counts: Numbers, inputs: Numbers
    ) -> tuple[edges.Keys, edges.Keys]:
        self._store.check_view(view)
        edges.check(
            dependents,
            counts,
            inputs,
            self._store.next_resource,
            self._store.next_input,
        )
        if self.edges_seen is None:
            self.edges_seen = self._store.edge_commits
        forward = self._store.state.forward
        old = [self._sets.get((view, d), forward.get((view, d), _NO_INPUTS)) for d in dependents.tolist()]
        lengths = np.array([len(inputs_) for inputs_ in old], np.uint32)
        return edges.keys_of(lengths, np.concatenate([_NO_INPUTS, *old])), edges.keys_of(counts, inputs)

    def _gather(self, view: int, dependents: Numbers, old: edges.Keys, new: edges.Keys) -> EdgeDelta:
        change = edges.delta(dependents, *edges.difference(old, new))
        counts, inputs = edges.split(new, len(dependents))
        ends = np.cumsum(counts).tolist()
        sets = {d: inputs[end - n : end] for d, n, end in zip(dependents.tolist(), counts.tolist(), ends, strict=True)}
        self._sets.update({(view, dependent): members for dependent, members in sets.items()})
        self.ops.append(("set_edges", (view, sets, change)))
        return change


class MemoryStore:
    """See `interface.Store`. Opening it on the disk of another one is a restart: its epoch is one higher."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.disk = disk if disk is not None else MemoryDisk()
        self.disk.epoch += 1
        self.epoch = self.disk.epoch
        self.state: State = self.disk.replay()
        self.next_resource = self.state.resource_count
        self.next_input = max(self.state.inputs, default=-1) + 1
        self.edge_commits = 0
        self._new_views: dict[str, int] = {}
        self._new_names: dict[bytes, int] = {}
        self._new_inputs: dict[tuple[int, str], int] = {}
        self._closed = False
        self._generation = self.disk.generation

    # -- numbers, given at once ---------------------------------------------------------------------------------------

    def view_number(self, name: str) -> int:
        """The view's number, new when it has none."""
        known = self.state.views.get(name)
        if known is None:
            known = self._new_views.setdefault(name, len(self.state.views.keys() | self._new_views.keys()))
        return known

    def resource_number(self, name: bytes) -> int:
        """The resource's number, new when it has none."""
        known = self.state.numbers.get(name)
        if known is None and (known := self._new_names.get(name)) is None:
            known = self._new_names[name] = self.next_resource
            self.next_resource += 1
        return known

    def input_number(self, part: tuple[int, str]) -> int:
        """The input's number, new when it has none."""
        known = self.state.input_numbers.get(part[0], {}).get(part[1])
        if known is None and (known := self._new_inputs.get(part)) is None:
            known = self._new_inputs[part] = self.next_input
            self.next_input += 1
        return known

    def give(self, given: Numbered, inputs: dict[tuple[int, str], int]) -> None:
        """These have these numbers: another store gave them."""
        self._new_views |= given.views
        self._new_names |= given.names
        self._new_inputs |= inputs
        self.next_resource = max(self.next_resource, given.next_resource)
        self.next_input = max(self.next_input, given.next_input)

    def check_view(self, view: int) -> None:
        """Raises UnknownNumber for a view never given."""
        if view >= len(self.state.views.keys() | self._new_views.keys()):
            raise UnknownNumber(f"view number {view} was never given")

    # -- life ---------------------------------------------------------------------------------------------------------

    def begin(self) -> MemoryCommit:
        """See `interface.Store.begin`."""
        return MemoryCommit(self)

    def write(self, commit: MemoryCommit) -> Awaitable[None]:
        """See `interface.Store.write`."""
        if self._closed or self._generation != self.disk.generation:
            raise StoreUnavailable("the store is closed")
        if commit.used:
            raise ValueError("this commit was written before; begin a new one")
        if commit.edges_seen is not None:
            if commit.edges_seen != self.edge_commits:
                raise StaleCommit("edges were written since this commit began to gather its own")
            self.edge_commits += 1
        commit.used = True
        ops = tuple(commit.ops)
        apply(self.state, ops)
        return self.disk.append(ops)

    def compact(self, budget_items: int) -> int:
        """There is nothing to fold."""
        return 0

    @property
    def needs_compaction(self) -> bool:
        """Never."""
        return False

    async def close(self) -> None:
        """Makes everything durable and takes no more."""
        if not self._closed and self._generation == self.disk.generation:
            self.disk.sync()
        self._closed = True

    # -- names --------------------------------------------------------------------------------------------------------

    @property
    def views(self) -> dict[str, int]:
        """See `interface.Store.views`."""
        return self.state.views

    def find_resources(self, names: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """See `interface.Store.find_resources`."""
        return np.array([self.state.numbers.get(name, -1) for name in names], np.int64)

    def find_input(self, resource: int, aspect: str) -> int:
        """See `interface.Store.find_input`."""
        return self.state.input_numbers.get(resource, {}).get(aspect, -1)

    def resource_names(self, resources: Numbers) -> list[bytes]:
        """See `interface.Store.resource_names`."""
        try:
            return [self.state.names[number] for number in resources.tolist()]
        except KeyError as error:
            raise UnknownNumber(f"resource number {error} was never given") from None

    def packed_names(self, resources: Numbers) -> bytes:
        """See `interface.Store.packed_names`."""
        return b"\0".join(self.resource_names(resources))

    def input_parts(self, inputs: Numbers) -> list[tuple[int, str]]:
        """See `interface.Store.input_parts`."""
        try:
            return [self.state.inputs[number] for number in inputs.tolist()]
        except KeyError as error:
            raise UnknownNumber(f"input number {error} was never given") from None

    def inputs_of_resource(self, resource: int) -> list[tuple[int, str]]:
        """See `interface.Store.inputs_of_resource`."""
        return [(number, aspect) for aspect, number in sorted(self.state.input_numbers.get(resource, {}).items())]

    @property
    def resource_count(self) -> int:
        """See `interface.Store.resource_count`."""
        return self.state.resource_count

    @property
    def edge_count(self) -> int:
        """See `interface.Store.edge_count`."""
        return self.state.edge_count

    # -- edges --------------------------------------------------------------------------------------------------------

    def dependents(self, input_number: int) -> dict[int, BitMap]:
        """See `interface.Store.dependents`."""
        return {view: members.copy() for view, members in self.state.reverse.get(input_number, {}).items()}

    def dependents_of(self, inputs: Numbers) -> dict[int, BitMap]:
        """See `interface.Store.dependents_of`."""
        found: dict[int, BitMap] = {}
        for number in inputs.tolist():
            for view, members in self.state.reverse.get(number, {}).items():
                found[view] = found.get(view, BitMap()) | members
        return found

    def dependents_each(self, inputs: Numbers) -> list[dict[int, BitMap]]:
        """See `interface.Store.dependents_each`."""
        return [self.dependents(number) for number in inputs.tolist()]

    def count_dependents(self, input_number: int) -> dict[int, int]:
        """See `interface.Store.count_dependents`."""
        return {view: len(members) for view, members in self.state.reverse.get(input_number, {}).items()}

    def dependencies(self, view: int, resources: Numbers) -> tuple[Numbers, Numbers]:
        """See `interface.Store.dependencies`."""
        sets = [self.state.forward.get((view, dependent), _NO_INPUTS) for dependent in resources.tolist()]
        return np.array([len(inputs) for inputs in sets], np.uint32), np.concatenate([_NO_INPUTS, *sets])

    def outputs_with_dependents(self, view: int) -> BitMap:
        """See `interface.Store.outputs_with_dependents`."""
        return self.state.output_members.get(view, BitMap())

    def output_inputs(self, view: int, resources: Numbers) -> Numbers:
        """See `interface.Store.output_inputs`."""
        return np.array([self.state.output_inputs[view, resource] for resource in resources.tolist()], np.uint32)

    # -- columns ------------------------------------------------------------------------------------------------------

    def rendered_at(self, view: int, resources: Numbers) -> Sequences:
        """See `interface.Store.rendered_at`."""
        return self.state.rendered_at.get(view, Column("u8")).get(resources)

    def output_changed_at(self, view: int, resources: Numbers) -> Sequences:
        """See `interface.Store.output_changed_at`."""
        return self.state.output_changed_at.get(view, Column("u8")).get(resources)

    def hashes(self, view: int, resources: Numbers) -> Bytes16:
        """See `interface.Store.hashes`."""
        return self.state.hashes.get(view, Column("V16")).get(resources)

    def pending(self, view: int, resources: BitMap, changed_at: int) -> BitMap:
        """See `interface.Store.pending`."""
        numbers = to_numbers(resources)
        return to_set(numbers[self.rendered_at(view, numbers) < changed_at])

    def input_changes(self, inputs: Iterable[int]) -> dict[int, InputChange]:
        """See `interface.Store.input_changes`."""
        return {number: self.state.changes[number] for number in inputs if number in self.state.changes}

    # -- records ------------------------------------------------------------------------------------------------------

    def get_record(self, kind: str, key: bytes) -> bytes | None:
        """See `interface.Store.get_record`."""
        return self.state.records.get(kind, {}).get(key)

    def records(
        self,
        kind: str,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """See `interface.Store.records`."""
        held = self.state.records.get(kind, {})
        keys = sorted(held)
        keys = keys[bisect_left(keys, start) : None if end is None else bisect_left(keys, end)]
        if reverse:
            keys.reverse()
        return iter([(key, held[key]) for key in keys[:limit]])
