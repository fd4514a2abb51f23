"""Large sets, many small ones, and folding them: what a reader sees never changes by it."""

from typing import Any

import numpy as np
import pytest
from pyroaring import BitMap

from services.propagation.conformance.harness import (
    KINDS,
    Shard,
    csr,
    fold_all,
    forward_edges,
    numbered,
    reverse_edges,
    run,
    u32,
)
from services.propagation.store import embedded_recent
from services.propagation.store.numbers import to_set

both = pytest.mark.parametrize("kind", KINDS)


async def load(store: Any, members: np.ndarray, wanted: int, step: int = 100_000) -> None:
    """Makes the members depend on one input, and nothing else, some at a time."""
    for start in range(0, len(members), step):
        part = members[start : start + step]
        commit = store.begin()
        commit.replace_dependencies(0, part, np.ones(len(part), np.uint32), np.full(len(part), wanted, np.uint32))
        durable = store.write(commit)
    await durable


@both
def test_a_million_dependents(kind):
    async def body(shard: Shard, store: Any) -> None:
        size = 1_000_000 if kind == "embedded" else 100_000  # the plain one is slow
        await numbered(store, size + 100_000, 3)
        members = np.arange(50_000, size + 50_000, dtype=np.uint32)
        await load(store, members, 1)
        commit = store.begin()
        commit.replace_dependencies(0, members[::10].copy(), np.zeros(size // 10, np.uint32), u32())
        commit.change_dependencies(0, *csr({7: [1], 60_001: [2]}), remove=False)
        await store.write(commit)
        wanted = to_set(members)
        wanted -= to_set(members[::10])
        wanted.add(7)
        for _ in range(3):
            assert store.dependents(1) == {0: wanted} and store.count_dependents(1) == {0: len(wanted)}
            assert store.dependents(2) == {0: BitMap([60_001])}
            assert store.edge_count == len(wanted) + 1
            fold_all(store, 1_000)
            store = await shard.reopen(store)
        gone = np.fromiter(wanted, np.uint32)
        commit = store.begin()
        commit.replace_dependencies(0, gone, np.zeros(len(gone), np.uint32), u32())
        await store.write(commit)
        for _ in range(2):
            assert store.dependents(1) == {} and store.count_dependents(1) == {} and store.edge_count == 0
            fold_all(store)
        await store.close()

    run(kind, body)


@both
def test_one_dependent_with_many_dependencies(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 200_000, 200_000)
        every = np.arange(200_000, dtype=np.uint32)
        commit = store.begin()
        commit.replace_dependencies(0, u32(5), u32(200_000), np.random.default_rng(1).permutation(every))
        await store.write(commit)
        fold_all(store, 50_000)
        counts, inputs = store.dependencies(0, u32(4, 5))
        assert counts.tolist() == [0, 200_000] and (inputs == every).all()
        assert store.dependents(0) == store.dependents(199_999) == {0: BitMap([5])}
        commit = store.begin()
        delta = commit.replace_dependencies(0, u32(5), u32(1), u32(3))
        assert len(delta.removed_inputs) == 199_999 and not len(delta.added_inputs)
        await store.write(commit)
        assert store.dependents(0) == {} and store.dependents(3) == {0: BitMap([5])} and store.edge_count == 1

    run(kind, body)


@both
def test_an_input_between_small_and_hub_through_many_folds(kind):
    """Toggles of one edge land in shared records, records of a hub and folded sets by turns; their count matters."""

    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 6_000, 70)
        rng = np.random.default_rng(11)
        wanted: set[int] = set()
        for turn in range(60):
            some = np.sort(rng.permutation(6_000)[: int(rng.choice([1, 5, 31, 33, 400, 5_000]))]).astype(np.uint32)
            remove = bool(rng.random() < 0.45)
            commit = store.begin()
            ones = np.ones(len(some), np.uint32)
            commit.change_dependencies(0, some, ones, ones * 65, remove=remove)
            await store.write(commit)
            wanted = wanted - set(some.tolist()) if remove else wanted | set(some.tolist())
            assert store.dependents(65) == ({0: BitMap(wanted)} if wanted else {})
            if turn % 3 == 0:
                store.compact(int(rng.integers(1, 3_000)))
                assert store.dependents(65) == ({0: BitMap(wanted)} if wanted else {})
            if turn % 20 == 19:
                store = await shard.reopen(store)
        fold_all(store)
        assert store.dependents(65) == {0: BitMap(wanted)} and store.edge_count == len(wanted)
        assert forward_edges(store, 0) == reverse_edges(store, 0, 70)
        await store.close()

    run(kind, body)


@both
def test_a_long_tail_folded_a_little_at_a_time(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 20_000, 1_500, views=("html", "summary"))
        rng = np.random.default_rng(3)
        wanted: list[dict[int, set[int]]] = [{}, {}]
        for _ in range(40):
            view = int(rng.integers(0, 2))
            some = np.sort(rng.permutation(20_000)[:500]).astype(np.uint32)
            counts = rng.integers(0, 8, 500).astype(np.uint32)
            # Few are popular, most are rare.
            inputs = (1_500 * rng.random(int(counts.sum())) ** 3).astype(np.uint32)
            commit = store.begin()
            commit.replace_dependencies(view, some, counts, inputs)
            await store.write(commit)
            ends = np.cumsum(counts)
            for dependent, end, count in zip(some.tolist(), ends.tolist(), counts.tolist(), strict=True):
                wanted[view][dependent] = set(inputs[end - count : end].tolist())
            store.compact(300)
        edges = [{(owner, one) for owner, inputs in view.items() for one in inputs} for view in wanted]
        for _ in range(3):
            for view in (0, 1):
                assert forward_edges(store, view) == edges[view]
                assert reverse_edges(store, view, 1_500) == edges[view]
            assert store.edge_count == len(edges[0]) + len(edges[1])
            thirds = set(range(0, 1_500, 3))
            union = store.dependents_of(np.array(sorted(thirds), np.uint32))
            for view in (0, 1):
                assert union[view] == BitMap(owner for owner, one in edges[view] if one in thirds)
            store = await shard.reopen(store)
            fold_all(store, 2_000)
        assert store.compact(10) == 0 and not store.needs_compaction
        await store.close()

    run(kind, body)


def test_folding_is_asked_for_when_much_waits(monkeypatch):
    monkeypatch.setattr(embedded_recent, "_DUE", 250)

    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 10_000, 10)
        for turn in range(100):
            commit = store.begin()
            commit.replace_dependencies(0, *csr({turn: [3], 5_000 + turn: [4, 5]}))
            await store.write(commit)
        assert store.needs_compaction
        assert store.compact(1) > 0
        assert not store.needs_compaction
        assert store.count_dependents(3) == {0: 100} == store.count_dependents(5)

    run("embedded", body)


def test_edges_that_came_lately_are_spilled_once_whatever_comes_between(monkeypatch):
    """Slices of a spill, more commits and restarts by turns: every toggle counts once, and memory keeps its bound."""
    for name, value in {"_DUE": 600, "_MOST": 2_000, "_SLICE": 60, "_MERGED": 128, "LARGE": 900}.items():
        monkeypatch.setattr(embedded_recent, name, value)

    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 3_000, 400, views=("html", "summary"))
        rng = np.random.default_rng(21)
        wanted: list[dict[int, set[int]]] = [{}, {}]
        for turn in range(150):
            view = int(rng.integers(0, 2))
            some = np.sort(rng.permutation(3_000)[: int(rng.choice([1, 10, 40, 250]))]).astype(np.uint32)
            counts = rng.integers(0, 8, len(some)).astype(np.uint32)
            inputs = (400 * rng.random(int(counts.sum())) ** 2).astype(np.uint32)
            commit = store.begin()
            commit.replace_dependencies(view, some, counts, inputs)
            await store.write(commit)
            for dependent, chosen in zip(some.tolist(), np.split(inputs, np.cumsum(counts)[:-1]), strict=True):
                wanted[view][dependent] = set(chosen.tolist())
            if rng.random() < 0.5:
                store.compact(int(rng.integers(1, 300)))
            if turn % 10 == 9:
                edges = [{(owner, one) for owner, chosen in of.items() for one in chosen} for of in wanted]
                asked = np.sort(rng.permutation(400)[:50]).astype(np.uint32)
                union = store.dependents_of(asked)
                for of in (0, 1):
                    assert reverse_edges(store, of, 400) == edges[of]
                    told = BitMap(owner for owner, one in edges[of] if one in set(asked.tolist()))
                    assert union.get(of, BitMap()) == told
                store = await shard.reopen(store)
        fold_all(store, 500)
        for of in (0, 1):
            edges_of = {(owner, one) for owner, chosen in wanted[of].items() for one in chosen}
            assert reverse_edges(store, of, 400) == edges_of == forward_edges(store, of)
        await store.close()

    run("embedded", body)


def test_no_value_on_disk_is_large():
    """One commit with 1.4 million edges, and what folding makes of it, stay in values of about 512 KiB."""

    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 700_000, 40)
        members = np.arange(700_000, dtype=np.uint32)
        commit = store.begin()
        commit.replace_dependencies(0, members, np.full(len(members), 2, np.uint32), np.tile(u32(7, 8), len(members)))
        await store.write(commit)
        for _ in range(2):
            for name in ("reverse", "arrivals", "forward"):
                sizes = [len(value) for _, value in store.database.family(name).scan()]
                assert max(sizes, default=0) < 600_000
            fold_all(store, 100_000)

    run("embedded", body)
