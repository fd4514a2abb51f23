"""What every store answers: names, inputs, columns and records."""

from typing import Any

import numpy as np
import pytest
from pyroaring import BitMap

from libs.embedded.failures import StoreUnavailable
from services.propagation.conformance.harness import (
    KINDS,
    Shard,
    change,
    numbered,
    run,
    u32,
)
from services.propagation.store.interface import InputChange, UnknownNumber

pytestmark = pytest.mark.parametrize("kind", KINDS)


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


@pytest.mark.parametrize("awaited", [True, False])
def test_a_patient_commit_is_seen_at_once_and_durable_by_itself(kind, awaited):
    async def body(shard: Shard, store: Any) -> None:
        commit = store.begin()
        commit.patient, commit.awaited = True, awaited
        commit.intern_resources([b"a"])
        durable = store.write(commit)
        assert store.find_resources([b"a"]).tolist() == [0]
        await durable

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
