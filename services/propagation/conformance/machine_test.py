"""A state machine: random commits, folds and restarts against sets of tuples."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pyroaring import BitMap

from services.propagation.conformance.harness import KINDS, Shard, bytes16, change, csr, edges_of, version
from services.propagation.store.interface import InputChange

RESOURCES, INPUTS, VIEWS = 200, 80, 2

numbers = st.integers(0, RESOURCES - 1)
inputs = st.integers(0, INPUTS - 1)
views = st.integers(0, VIEWS - 1)
keys = st.binary(max_size=2)


class Machine(RuleBasedStateMachine):
    """Resources 0..199, inputs 0..79 (of the same resources, or their aspect "title"), two views."""

    kind = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.shard = Shard(self.kind)
        self.store: Any = self.wait(self._open)
        self.edges: set[tuple[int, int, int]] = set()
        self.columns: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.outputs: dict[tuple[int, int], int] = {}
        self.changes: dict[int, InputChange] = {}
        self.records: dict[bytes, bytes] = {}
        self.sequence = 0
        self.epoch = 1

    def wait(self, make: Any) -> Any:
        """Runs a coroutine function on the machine's loop."""
        return self.loop.run_until_complete(make())

    async def _open(self) -> Any:
        return self.shard.open()

    def commit(self, fill: Any, *, durable: bool) -> None:
        """Fills a commit and writes it, waiting for durability or not."""

        async def whole() -> None:
            commit = self.store.begin()
            fill(commit)
            written = self.store.write(commit)
            if durable:
                await written

        self.wait(whole)

    @initialize()
    def number(self) -> None:
        """Gives the numbers."""

        def fill(commit: Any) -> None:
            commit.intern_views(["html", "search"])
            names = [b"r%d" % at for at in range(RESOURCES // 2)]
            commit.intern_resources(names + [b"view/html/" + name for name in names])
            half = np.arange(INPUTS // 2, dtype=np.uint32)
            commit.intern_inputs(half, "content")
            commit.intern_inputs(half + RESOURCES // 2, "content")

        self.commit(fill, durable=True)

    @rule(
        parts=st.lists(
            st.tuples(
                views,
                st.sampled_from([None, False, True]),
                st.dictionaries(numbers, st.lists(inputs, max_size=6), max_size=8),
            ),
            min_size=1,
            max_size=4,
        ),
        durable=st.booleans(),
    )
    def change_edges(self, parts: list[tuple[int, bool | None, dict[int, list[int]]]], durable: bool) -> None:
        """Several changes in one commit, of the same dependents too."""

        def fill(commit: Any) -> None:
            for view, remove, sets in parts:
                named = {(view, owner, one) for owner, inputs in sets.items() for one in inputs}
                if remove is None:
                    delta = commit.replace_dependencies(view, *csr(sets))
                    after = {e for e in self.edges if e[0] != view or e[1] not in sets} | named
                else:
                    delta = commit.change_dependencies(view, *csr(sets), remove=remove)
                    after = self.edges - named if remove else self.edges | named
                added = {(view, *edge) for edge in edges_of(delta.added_dependents, delta.added_inputs)}
                removed = {(view, *edge) for edge in edges_of(delta.removed_dependents, delta.removed_inputs)}
                assert added == after - self.edges and removed == self.edges - after
                self.edges = after

        self.commit(fill, durable=durable)

    @rule(view=views, input_number=inputs, first=numbers, count=st.integers(30, 150), remove=st.booleans())
    def change_a_hub(self, view: int, input_number: int, first: int, count: int, remove: bool) -> None:
        """Many dependents of one input at once."""
        owners = range(first, min(RESOURCES, first + count))
        named = {(view, owner, input_number) for owner in owners}
        sets = {owner: [input_number] for owner in owners}
        self.commit(lambda c: c.change_dependencies(view, *csr(sets), remove=remove), durable=False)
        self.edges = self.edges - named if remove else self.edges | named

    @rule(view=views, marks=st.dictionaries(numbers, st.booleans(), max_size=10), durable=st.booleans())
    def complete(self, view: int, marks: dict[int, bool], durable: bool) -> None:
        """Accepted renders."""
        self.sequence += 2
        sequence = self.sequence
        changed = np.array(list(marks.values()), np.bool_)
        resources = np.array(list(marks), np.uint32)
        hashes = bytes16([version(sequence * 1_000 + at) for at in marks])
        self.commit(lambda c: c.complete(view, resources, sequence, hashes, changed, sequence + 1), durable=durable)
        for at, mark in marks.items():
            self.columns[view, at] = (sequence, version(sequence * 1_000 + at))
            if mark:
                self.outputs[view, at] = sequence + 1

    @rule(some=st.lists(inputs, max_size=5, unique=True))
    def change_inputs(self, some: list[int]) -> None:
        """Changes of inputs."""
        self.sequence += 1
        newest = change(self.sequence)
        self.commit(lambda c: c.change_inputs(np.array(some, np.uint32), newest), durable=True)
        self.changes.update(dict.fromkeys(some, newest))

    @rule(puts=st.dictionaries(keys, keys, max_size=4), prefix=st.none() | st.binary(min_size=1, max_size=1))
    def put_records(self, puts: dict[bytes, bytes], prefix: bytes | None) -> None:
        """Records, and then those with a prefix gone."""

        def fill(commit: Any) -> None:
            for key, value in puts.items():
                commit.put_record("kind", key, value)
            if prefix is not None:
                commit.delete_records("kind", prefix)

        self.commit(fill, durable=False)
        self.records.update(puts)
        if prefix is not None:
            self.records = {key: value for key, value in self.records.items() if not key.startswith(prefix)}

    @rule(budget=st.integers(1, 200))
    def compact(self, budget: int) -> None:
        """Folds."""

        async def fold() -> None:
            self.store.compact(budget)

        self.wait(fold)

    @precondition(lambda self: self.epoch < 4)
    @rule()
    def reopen(self) -> None:
        """Restarts."""
        self.store = self.wait(lambda: self.shard.reopen(self.store))
        self.epoch += 1
        assert self.store.epoch == self.epoch

    @invariant()
    def answers(self) -> None:
        """All that reads answer."""
        if not self.store.resource_count:
            return
        every = np.arange(RESOURCES, dtype=np.uint32)
        assert self.store.edge_count == len(self.edges)
        for view in range(VIEWS):
            counts, found = self.store.dependencies(view, every)
            mine = {edge[1:] for edge in self.edges if edge[0] == view}
            assert edges_of(np.repeat(every, counts), found) == mine
            columns = [self.columns.get((view, at), (0, bytes(16))) for at in range(RESOURCES)]
            assert self.store.rendered_at(view, every).tolist() == [one[0] for one in columns]
            assert self.store.hashes(view, every).tobytes() == b"".join(one[1] for one in columns)
            late = BitMap(at for at in range(RESOURCES) if columns[at][0] < self.sequence // 2)
            assert self.store.pending(view, BitMap(range(RESOURCES)), self.sequence // 2) == late
            wanted = [self.outputs.get((view, at), 0) for at in range(RESOURCES)]
            assert self.store.output_changed_at(view, every).tolist() == wanted
        reverse = {
            (view, owner, one)
            for one in range(INPUTS)
            for view, members in self.store.dependents(one).items()
            for owner in members
        }
        assert reverse == self.edges
        for some in (range(INPUTS), range(3, INPUTS, 7), [40, 2, 2, 79], []):
            union: dict[int, set[int]] = {}
            for view, owner, one in self.edges:
                if one in some:
                    union.setdefault(view, set()).add(owner)
            found = self.store.dependents_of(np.array(some, np.uint32))
            assert {view: set(members) for view, members in found.items()} == union
        made = {one - INPUTS // 2 for _, _, one in self.edges if one >= INPUTS // 2}
        assert set(self.store.outputs_with_dependents(0)) == made
        assert self.store.input_changes(range(INPUTS)) == self.changes
        assert list(self.store.records("kind")) == sorted(self.records.items())

    def teardown(self) -> None:
        """Closes and removes the shard."""
        self.wait(self.store.close)
        self.loop.close()
        self.shard.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_any_sequence_of_commits(kind):
    machine = type("Machine", (Machine,), {"kind": kind})
    quick = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=quick)
