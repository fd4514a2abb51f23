"""Edges in both directions, what a commit says that it changes, and what is refused."""

from typing import Any

import numpy as np
import pytest
from pyroaring import BitMap

from services.propagation.conformance.harness import (
    KINDS,
    Shard,
    bytes16,
    change,
    csr,
    edges_of,
    fold_all,
    forward_edges,
    numbered,
    reverse_edges,
    run,
    u32,
    version,
)
from services.propagation.store.interface import InputChange, StaleCommit, UnknownNumber

pytestmark = pytest.mark.parametrize("kind", KINDS)


def test_deltas_of_replacing_adding_and_removing(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 200, 20)
        commit = store.begin()
        delta = commit.replace_dependencies(0, *csr({1: [3, 4, 3], 64: [4], 100: []}))
        assert edges_of(delta.added_dependents, delta.added_inputs) == {(1, 3), (1, 4), (64, 4)}
        assert len(delta.removed_dependents) == 0
        assert store.edge_count == 0
        await store.write(commit)
        assert store.edge_count == 3 and store.count_dependents(4) == {0: 2}

        commit = store.begin()
        delta = commit.replace_dependencies(0, *csr({1: [4, 9], 2: [9], 64: []}))
        assert edges_of(delta.added_dependents, delta.added_inputs) == {(1, 9), (2, 9)}
        assert edges_of(delta.removed_dependents, delta.removed_inputs) == {(1, 3), (64, 4)}
        delta = commit.change_dependencies(0, *csr({1: [9, 4, 0]}), remove=True)
        assert edges_of(delta.removed_dependents, delta.removed_inputs) == {(1, 4), (1, 9)}
        delta = commit.change_dependencies(0, *csr({1: [3], 64: [4, 5]}), remove=False)
        assert edges_of(delta.added_dependents, delta.added_inputs) == {(1, 3), (64, 4), (64, 5)}
        await store.write(commit)
        wanted = {(1, 3), (2, 9), (64, 4), (64, 5)}
        for _ in range(2):
            assert forward_edges(store, 0) == wanted and reverse_edges(store, 0, 20) == wanted
            assert store.edge_count == 4
            counts, inputs = store.dependencies(0, u32(64, 1, 64, 3))
            assert counts.tolist() == [2, 1, 2, 0] and inputs.tolist() == [4, 5, 3, 4, 5]
            fold_all(store)
            store = await shard.reopen(store)
        same = store.begin()
        delta = same.replace_dependencies(0, *csr({64: [5, 4], 1: [3]}))
        assert not len(delta.added_inputs) and not len(delta.removed_inputs)
        await store.write(same)
        assert store.edge_count == 4
        await store.close()

    run(kind, body)


def test_views_do_not_share_edges(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 10, 5, views=("html", "summary", "search"))
        commit = store.begin()
        commit.replace_dependencies(0, *csr({1: [2]}))
        commit.replace_dependencies(2, *csr({1: [2], 5: [2]}))
        await store.write(commit)
        assert store.dependents(2) == {0: BitMap([1]), 2: BitMap([1, 5])}
        assert store.count_dependents(2) == {0: 1, 2: 2} and store.edge_count == 3
        commit = store.begin()
        commit.replace_dependencies(2, *csr({1: [], 5: []}))
        await store.write(commit)
        assert store.dependents(2) == {0: BitMap([1])}
        fold_all(store)
        assert store.dependents(2) == {0: BitMap([1])}

    run(kind, body)


def test_sets_read_belong_to_the_caller(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 10, 5)
        commit = store.begin()
        commit.replace_dependencies(0, *csr({1: [2], 3: [2]}))
        await store.write(commit)
        store.dependents(2)[0].clear()
        assert store.dependents(2) == {0: BitMap([1, 3])}

    run(kind, body)


def test_what_edges_are_refused(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 10, 5)
        commit = store.begin()
        for dependents, counts, inputs in (
            (u32(3, 2), u32(1, 1), u32(1, 1)),
            (u32(2, 2), u32(1, 1), u32(1, 1)),
            (u32(2), u32(1, 1), u32(1, 1)),
            (u32(2), u32(3), u32(1, 1)),
        ):
            with pytest.raises(ValueError):
                commit.replace_dependencies(0, dependents, counts, inputs)
        for view, dependents, counts, inputs in (
            (0, u32(10), u32(1), u32(1)),
            (0, u32(1), u32(1), u32(5)),
            (1, u32(1), u32(1), u32(1)),
        ):
            with pytest.raises(UnknownNumber):
                commit.change_dependencies(view, dependents, counts, inputs, remove=False)
        with pytest.raises(UnknownNumber):
            commit.change_inputs(u32(5), change(1))
        with pytest.raises(ValueError):
            commit.change_inputs(u32(1), InputChange(1, b"short", 1))
        with pytest.raises(UnknownNumber):
            commit.complete(0, u32(10), 1, bytes16([version(1)]), np.array([True]), 2)
        with pytest.raises(ValueError):
            commit.complete(0, u32(1, 2), 1, bytes16([version(1)]), np.array([True]), 2)
        await store.write(commit)
        assert store.edge_count == 0 and store.rendered_at(0, u32(1, 2)).tolist() == [0, 0]

    run(kind, body)


def test_a_commit_is_written_once_and_not_behind_others_edges(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 10, 5)
        slow, quick, records = store.begin(), store.begin(), store.begin()
        slow.replace_dependencies(0, *csr({1: [2]}))
        slow.put_record("roots", b"slow", b"1")
        quick.replace_dependencies(0, *csr({1: [3]}))
        records.put_record("roots", b"late", b"1")
        await store.write(quick)
        with pytest.raises(StaleCommit):
            store.write(slow)
        await store.write(records)
        for written in (quick, records):
            with pytest.raises(ValueError):
                store.write(written)
        assert forward_edges(store, 0) == {(1, 3)} == reverse_edges(store, 0, 5)
        assert [key for key, _ in store.records("roots")] == [b"late"]

    run(kind, body)


def test_commits_to_the_same_blocks_before_any_is_durable(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 200, 70)
        waits, wanted = [], {}
        for step in range(50):
            commit = store.begin()
            sets = {step % 64: [step, step % 7], 64 + step % 3: [step]}
            commit.replace_dependencies(0, *csr(sets))
            wanted.update({dependent: set(inputs) for dependent, inputs in sets.items()})
            commit.complete(
                0, u32(step % 9, 100), step + 1, bytes16([version(step)] * 2), np.array([True, False]), step
            )
            commit.intern_resources([b"more%d" % step])
            waits.append(store.write(commit))
            edges = {(dependent, one) for dependent, inputs in wanted.items() for one in inputs}
            assert forward_edges(store, 0) == edges and store.edge_count == len(edges)
            assert store.rendered_at(0, u32(100)).tolist() == [step + 1]
            assert store.find_resources([b"more%d" % step]).tolist() == [200 + step]
        assert reverse_edges(store, 0, 70) == edges
        for wait in waits:
            await wait
        store = await shard.reopen(store)
        assert forward_edges(store, 0) == edges == reverse_edges(store, 0, 70)
        assert store.resource_count == 250
        await store.close()

    run(kind, body)
