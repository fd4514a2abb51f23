"""What every store answers: names, inputs, edges, columns, records, and what it refuses."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pyroaring import BitMap

from libs.embedded.failures import StoreUnavailable
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


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_an_empty_store_has_nothing(kind):
    async def body(shard: Shard, store: Any) -> None:
        assert (store.resource_count, store.edge_count, store.views) == (0, 0, {})
        assert store.find_resources([b"a", b"b"]).tolist() == [-1, -1]
        assert store.find_resources([]).tolist() == []
        assert store.find_input(7, "content") == -1
        assert store.dependents(3) == {} and store.count_dependents(3) == {}
        counts, inputs = store.dependencies(0, u32(5, 1, 5))
        assert counts.tolist() == [0, 0, 0] and inputs.tolist() == []
        assert store.rendered_at(0, u32(9, 1_000_000)).tolist() == [0, 0]
        assert store.output_changed_at(0, u32(9)).tolist() == [0]
        assert store.hashes(0, u32(9, 2)).tobytes() == bytes(32)
        assert store.pending(0, BitMap(), 5) == BitMap()
        assert store.pending(0, BitMap([1, 9_000_000]), 5) == BitMap([1, 9_000_000])
        assert store.input_changes([1, 2]) == {} and store.input_changes([]) == {}
        assert store.outputs_with_dependents(0) == BitMap()
        assert store.get_record("roots", b"x") is None and list(store.records("roots")) == []
        assert store.packed_names(u32()) == b"" and store.resource_names(u32()) == []
        assert store.input_parts(u32()) == [] and store.inputs_of_resource(4) == []
        assert store.compact(100) == 0 and not store.needs_compaction
        await store.write(store.begin())

    run(kind, body)


def test_names_are_numbered_densely_and_once(kind):
    async def body(shard: Shard, store: Any) -> None:
        commit = store.begin()
        names = [b"enwiki/page/A", "dewiki/page/Ä\u2028ß".encode(), b"enwiki/page/A", b"x" * 1024]
        assert commit.intern_resources(names).tolist() == [0, 1, 0, 2]
        assert store.find_resources(names[:1]).tolist() == [-1], "visible before the write"
        assert store.resource_count == 0
        await store.write(commit)
        again = store.begin()
        assert again.intern_resources([b"new", *reversed(names)]).tolist() == [3, 2, 0, 1, 0]
        assert again.intern_resources([]).tolist() == []
        await store.write(again)
        for _ in range(2):
            assert store.find_resources([*names, b"new", b"none"]).tolist() == [0, 1, 0, 2, 3, -1]
            assert store.resource_names(u32(3, 0, 0, 2)) == [b"new", names[0], names[0], names[3]]
            assert store.packed_names(u32(0, 1, 3)) == b"\0".join([names[0], names[1], b"new"])
            assert store.resource_count == 4
            store = await shard.reopen(store)
        await store.close()

    run(kind, body)


def test_many_names_cross_blocks_in_any_order_of_writing(kind):
    async def body(shard: Shard, store: Any) -> None:
        late, early = store.begin(), store.begin()
        names = [b"site/page/%d" % number for number in range(3_000)]
        late.intern_resources(names[:130])
        early.intern_resources(names[100:1_500])
        await store.write(early)
        assert store.resource_count == 1_500
        with pytest.raises(UnknownNumber):
            store.resource_names(u32(99, 100))
        with pytest.raises(UnknownNumber):
            store.packed_names(np.arange(90, 110, dtype=np.uint32))
        await store.write(late)
        last = store.begin()
        assert last.intern_resources(names).tolist() == list(range(3_000))
        await store.write(last)
        for _ in range(2):
            assert store.find_resources(names).tolist() == list(range(3_000))
            assert store.resource_names(np.arange(3_000, dtype=np.uint32)) == names
            some = np.array([0, 127, 128, 255, 256, 1_499, 1_500, 2_999], np.uint32)
            assert store.packed_names(some) == b"\0".join(names[at] for at in some)
            store = await shard.reopen(store)
        await store.close()

    run(kind, body)


def test_a_dropped_commit_leaves_no_name_twice(kind):
    async def body(shard: Shard, store: Any) -> None:
        dropped = store.begin()
        assert dropped.intern_resources([b"a", b"b"]).tolist() == [0, 1]
        assert dropped.intern_inputs(u32(0, 1), "content").tolist() == [0, 1]
        kept = store.begin()
        assert kept.intern_resources([b"c", b"b"]).tolist() == [2, 1]
        assert kept.intern_inputs(u32(2, 1), "content").tolist() == [2, 1]
        await store.write(kept)
        assert store.find_resources([b"a", b"b", b"c"]).tolist() == [-1, 1, 2]
        assert store.find_input(0, "content") == -1 and store.find_input(1, "content") == 1
        for number in (0, 3, 500, 2**31):
            with pytest.raises(UnknownNumber):
                store.resource_names(u32(number))
            with pytest.raises(UnknownNumber):
                store.input_parts(u32(number))
        store = await shard.reopen(store)
        commit = store.begin()
        given = commit.intern_resources([b"a", b"d", b"b"]).tolist()
        await store.write(commit)
        assert given[2] == 1 and len({*given, 2}) == 4, "a number is used twice"
        assert store.resource_names(u32(*given)) == [b"a", b"d", b"b"]
        await store.close()

    run(kind, body)


def test_inputs_are_pairs_of_resource_and_aspect(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 300)
        commit = store.begin()
        first = commit.intern_inputs(u32(5, 5, 7, 5), ["content", "title", "existence", "content"])
        assert first.tolist()[0] == first.tolist()[3] and len(set(first.tolist())) == 3
        more = commit.intern_inputs(np.arange(300, dtype=np.uint32)[::-1].copy(), "content")
        assert len(set(more.tolist()) | set(first.tolist())) == 302
        assert commit.intern_inputs(u32(), "content").tolist() == []
        await store.write(commit)
        content, title, existence, _ = first.tolist()
        for _ in range(2):
            assert store.find_input(5, "title") == title and store.find_input(7, "existence") == existence
            assert store.find_input(5, "nothing") == -1 and store.find_input(9, "title") == -1
            assert store.inputs_of_resource(5) == [(content, "content"), (title, "title")]
            assert store.input_parts(first) == [(5, "content"), (5, "title"), (7, "existence"), (5, "content")]
            assert store.input_parts(more)[:2] == [(299, "content"), (298, "content")]
            store = await shard.reopen(store)
        with pytest.raises(UnknownNumber):
            store.begin().intern_inputs(u32(300), "content")
        with pytest.raises(ValueError):
            store.begin().intern_inputs(u32(1, 2), ["content"])
        await store.close()

    run(kind, body)


def test_views_keep_their_numbers(kind):
    async def body(shard: Shard, store: Any) -> None:
        commit = store.begin()
        assert commit.intern_views(["html", "summary", "html"]) == [0, 1, 0]
        assert store.views == {}
        await store.write(commit)
        store = await shard.reopen(store)
        commit = store.begin()
        assert commit.intern_views(["search", "summary"]) == [2, 1]
        await store.write(commit)
        assert store.views == {"html": 0, "summary": 1, "search": 2}
        for bad in ("", "a/b"):
            with pytest.raises(ValueError):
                store.begin().intern_views([bad])
        await store.close()

    run(kind, body)


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
        assert fold_all(store) in (0, 5)
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


def test_columns_by_batch(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 1_000, views=("html", "summary"))
        rng = np.random.default_rng(5)
        rendered, outputs, hashes = (
            np.zeros(1_000, np.uint64),
            np.zeros(1_000, np.uint64),
            np.zeros((1_000, 16), np.uint8),
        )
        for sequence in range(1, 30):
            some = rng.permutation(1_000)[: rng.integers(0, 300)].astype(np.uint32)
            if sequence % 2:
                some.sort()
            made = rng.integers(0, 256, (len(some), 16), dtype=np.uint8)
            changed = rng.random(len(some)) < 0.3
            commit = store.begin()
            commit.complete(0, some, sequence, made.view("V16").reshape(-1), changed, sequence + 1_000)
            # What is gathered is what counts, whatever becomes of the arrays.
            rendered[some], hashes[some], outputs[some[changed]] = sequence, made, sequence + 1_000
            some[:], made[:] = 0, 0
            await store.write(commit)
        every = np.arange(1_000, dtype=np.uint32)
        for order in (every, every[::-1].copy(), rng.integers(0, 1_000, 500).astype(np.uint32)):
            assert (store.rendered_at(0, order) == rendered[order]).all()
            assert (store.output_changed_at(0, order) == outputs[order]).all()
            assert store.hashes(0, order).tobytes() == hashes[order].tobytes()
        assert not store.rendered_at(1, every).any()
        wanted = BitMap(int(number) for number in every[::3] if rendered[number] < 15)
        assert store.pending(0, BitMap(range(0, 1_000, 3)), 15) == wanted
        assert store.pending(1, BitMap([1, 999, 5_000_000]), 1) == BitMap([1, 999, 5_000_000])
        assert store.pending(0, BitMap(range(1_000)), 0) == BitMap()

    run(kind, body)


def test_changes_of_inputs(kind):
    async def body(shard: Shard, store: Any) -> None:
        await numbered(store, 200, 200)
        commit = store.begin()
        commit.change_inputs(u32(1, 150), change(7))
        commit.change_inputs(u32(150, 2), InputChange(2**63, bytes(range(16)), 9))
        await store.write(commit)
        store = await shard.reopen(store)
        assert store.input_changes([150, 3, 1, 1]) == {150: InputChange(2**63, bytes(range(16)), 9), 1: change(7)}
        assert store.input_changes(iter([2, 199])) == {2: InputChange(2**63, bytes(range(16)), 9)}
        await store.close()

    run(kind, body)


def test_records_by_kind_and_key(kind):
    async def body(shard: Shard, store: Any) -> None:
        commit = store.begin()
        for key in (b"", b"a", b"a\x00", b"ab", b"b", b"\xff", b"\xff\xff"):
            commit.put_record("roots", key, b"v" + key)
        commit.put_record("root", b"z", b"other")
        commit.put_record("roots2", b"a", b"other")
        commit.put_record("roots", b"gone", b"")
        commit.delete_record("roots", b"gone")
        commit.delete_record("roots", b"never")
        await store.write(commit)
        store = await shard.reopen(store)
        keys = [b"", b"a", b"a\x00", b"ab", b"b", b"\xff", b"\xff\xff"]
        assert list(store.records("roots")) == [(key, b"v" + key) for key in keys]
        assert [key for key, _ in store.records("roots", reverse=True)] == keys[::-1]
        assert [key for key, _ in store.records("roots", b"a", b"b")] == [b"a", b"a\x00", b"ab"]
        assert [key for key, _ in store.records("roots", b"a", b"b", reverse=True, limit=2)] == [b"ab", b"a\x00"]
        assert [key for key, _ in store.records("roots", b"b", limit=2)] == [b"b", b"\xff"]
        assert list(store.records("roots", b"b", b"a")) == [] == list(store.records("roots", limit=0))
        assert store.get_record("root", b"z") == b"other" and store.get_record("root", b"a") is None
        commit = store.begin()
        commit.put_record("roots", b"abc", b"new")
        commit.delete_records("roots", b"a")
        commit.put_record("roots", b"aa", b"after")
        await store.write(commit)
        assert [key for key, _ in store.records("roots")] == [b"", b"aa", b"b", b"\xff", b"\xff\xff"]
        commit = store.begin()
        commit.delete_records("roots", b"\xff")
        commit.delete_records("nothing", b"")
        await store.write(commit)
        assert [key for key, _ in store.records("roots")] == [b"", b"aa", b"b"]
        assert store.get_record("roots2", b"a") == b"other"
        await store.close()

    run(kind, body)


def test_each_opening_raises_the_epoch(kind):
    async def body(shard: Shard, store: Any) -> None:
        epochs = [store.epoch]
        for _ in range(3):
            store = await shard.reopen(store)
            epochs.append(store.epoch)
        assert epochs == [1, 2, 3, 4]
        await store.close()
        with pytest.raises(StoreUnavailable):
            store.write(store.begin())

    run(kind, body)
