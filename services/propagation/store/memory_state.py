"""What the in-memory store knows, as dictionaries, and the log of commits that it can be built from again."""

import asyncio
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from services.propagation.store import outputs
from services.propagation.store.edges import pair, unpair
from services.propagation.store.interface import (
    Bytes16,
    EdgeDelta,
    InputChange,
    Numbers,
)
from services.propagation.store.numbers import group_starts, to_numbers, to_set

Op = tuple[str, tuple[Any, ...]]


class Column:
    """A growing array: one value a resource, zero where none was set."""

    def __init__(self, dtype: str) -> None:
        self._values: npt.NDArray[Any] = np.zeros(1024, dtype)

    def get(self, at: Numbers) -> npt.NDArray[Any]:
        """The values at these places."""
        there = at < len(self._values)
        if there.all():
            return self._values[at]
        found = np.zeros(len(at), self._values.dtype)
        found[there] = self._values[at[there]]
        return found

    def set(self, at: Numbers, value: Any) -> None:
        """Sets the values at these places: one for all, or an array."""
        if len(at) and (top := int(at.max())) >= len(self._values):
            grown = np.zeros(max(top + 1, 2 * len(self._values)), self._values.dtype)
            grown[: len(self._values)] = self._values
            self._values = grown
        self._values[at] = value


class State:
    """Everything that commits change. The methods named in `Op`s apply them."""

    def __init__(self) -> None:
        self.views: dict[str, int] = {}
        self.names: dict[int, bytes] = {}
        self.numbers: dict[bytes, int] = {}
        self.resource_count = 0
        self.inputs: dict[int, tuple[int, str]] = {}
        self.input_numbers: dict[int, dict[str, int]] = {}
        self.forward: dict[tuple[int, int], Numbers] = {}
        self.reverse: dict[int, dict[int, BitMap]] = {}
        self.edge_count = 0
        self.rendered_at: dict[int, Column] = {}
        self.output_changed_at: dict[int, Column] = {}
        self.hashes: dict[int, Column] = {}
        self.changes: dict[int, InputChange] = {}
        self.records: dict[str, dict[bytes, bytes]] = {}
        self.output_members: dict[int, BitMap] = {}
        self.output_inputs: dict[tuple[int, int], int] = {}

    def add_views(self, views: dict[str, int]) -> None:
        """New views; names that are their outputs may be there already."""
        self.views.update(views)
        for name, number in list(self.numbers.items()):
            parts = outputs.split(name)
            if parts and parts[0].decode() in views:
                self._note_output(self.input_numbers.get(number, {}).get("content"))

    def add_names(self, names: dict[bytes, int]) -> None:
        """New resources."""
        self.numbers.update(names)
        for name, number in names.items():
            self.names[number] = name
            self.resource_count = max(self.resource_count, number + 1)

    def add_inputs(self, inputs: dict[tuple[int, str], int]) -> None:
        """New inputs."""
        for (resource, aspect), number in inputs.items():
            self.inputs[number] = (resource, aspect)
            self.input_numbers.setdefault(resource, {})[aspect] = number

    def set_edges(self, view: int, sets: dict[int, Numbers], change: EdgeDelta) -> None:
        """New sets of dependents, and what that changes."""
        for dependent, inputs in sets.items():
            if len(inputs):
                self.forward[view, dependent] = inputs
            else:
                self.forward.pop((view, dependent), None)
        self._turn(view, change.added_inputs, change.added_dependents, remove=False)
        self._turn(view, change.removed_inputs, change.removed_dependents, remove=True)

    def complete(
        self,
        view: int,
        at: Numbers,
        sequence: int,
        hashes: Bytes16,
        changed: Numbers,
        when: int,
    ) -> None:
        """Accepted renders."""
        self.rendered_at.setdefault(view, Column("u8")).set(at, sequence)
        self.hashes.setdefault(view, Column("V16")).set(at, hashes)
        self.output_changed_at.setdefault(view, Column("u8")).set(changed, when)

    def change_inputs(self, inputs: Sequence[int], change: InputChange) -> None:
        """The newest change of inputs."""
        self.changes.update(dict.fromkeys(inputs, change))

    def put_record(self, kind: str, key: bytes, value: bytes) -> None:
        """A record."""
        self.records.setdefault(kind, {})[key] = value

    def delete_record(self, kind: str, key: bytes) -> None:
        """A record less."""
        self.records.get(kind, {}).pop(key, None)

    def delete_records(self, kind: str, prefix: bytes) -> None:
        """Records less."""
        kept = {key: value for key, value in self.records.get(kind, {}).items() if not key.startswith(prefix)}
        self.records[kind] = kept

    def output_of(self, resource: int) -> tuple[int, int] | None:
        """(view, resource) that this resource is the output of."""
        parts = outputs.split(self.names.get(resource, b""))
        if parts is None or (view := self.views.get(parts[0].decode())) is None:
            return None
        return view, self.numbers[parts[1]]

    def _turn(self, view: int, inputs: Numbers, dependents: Numbers, *, remove: bool) -> None:
        ordered = np.sort(pair(inputs, dependents))
        keys, members = unpair(ordered)
        starts = group_starts(keys)
        for number, group in zip(keys[starts].tolist(), np.split(members, starts[1:]), strict=False):
            sets = self.reverse.setdefault(number, {})
            held = sets.setdefault(view, BitMap())
            if remove:
                held -= to_set(group)
                if not held:
                    del sets[view]
            else:
                held |= to_set(group)
            self._note_output(number)
        self.edge_count += -len(members) if remove else len(members)

    def _note_output(self, number: int | None) -> None:
        if number is None or self.inputs[number][1] != "content":
            return
        if (output := self.output_of(self.inputs[number][0])) is None:
            return
        members = self.output_members.setdefault(output[0], BitMap())
        if self.reverse.get(number):
            members.add(output[1])
            self.output_inputs[output] = number
        else:
            members.discard(output[1])


class MemoryDisk:
    """The log of commits. `automatic`: each is durable at once; else `sync` makes durable what was written before."""

    def __init__(self, *, automatic: bool = True) -> None:
        self.automatic = automatic
        self.epoch = 0
        self.log: list[tuple[Op, ...]] = []
        self.durable = 0
        self.generation = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def append(self, ops: tuple[Op, ...]) -> "Durability":
        """Takes a commit."""
        self.log.append(ops)
        if self.automatic:
            self.durable = len(self.log)
        return Durability(self, len(self.log))

    def sync(self) -> None:
        """Everything written so far is durable; who waits for it goes on."""
        self.durable = len(self.log)
        for _, future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    def crash(self, keep: int = 0) -> None:
        """What was not durable is lost, but for the first `keep` such commits. Those who wait are never answered."""
        del self.log[self.durable + keep :]
        self.durable = len(self.log)
        self.generation += 1
        self._waiting.clear()

    def replay(self) -> State:
        """The state that the log makes."""
        state = State()
        for ops in self.log:
            apply(state, ops)
        return state

    async def wait(self, position: int) -> None:
        """Until the log is durable up to `position`."""
        if self.durable < position:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((position, future))
            await future


class Durability:
    """An awaitable that ends when its commit is durable; nobody need await it."""

    def __init__(self, disk: MemoryDisk, position: int) -> None:
        self._disk = disk
        self._position = position

    def __await__(self) -> Generator[Any, None, None]:
        return self._disk.wait(self._position).__await__()


def apply(state: State, ops: Sequence[Op]) -> None:
    """Applies a commit."""
    for method, arguments in ops:
        getattr(state, method)(*arguments)


__all__ = ["Column", "Durability", "MemoryDisk", "Op", "State", "apply", "to_numbers"]
