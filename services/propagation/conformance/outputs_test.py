"""Outputs: resources that views make of others, told by their names, and which of them anything depends on."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from pyroaring import BitMap

from services.propagation.conformance.harness import KINDS, Shard, change, csr, fold_all, run, u32

pytestmark = pytest.mark.parametrize("kind", KINDS)


async def declare(store: Any, view: str, dependent: bytes, inputs: Iterable[bytes], aspect: str = "content") -> None:
    """Replaces one dependent's set, interning all names."""
    commit = store.begin()
    [number] = commit.intern_views([view])
    resource = commit.intern_resources([dependent])
    named = commit.intern_inputs(commit.intern_resources(list(inputs)), aspect)
    commit.replace_dependencies(number, resource, u32(len(named)), named)
    await store.write(commit)


def numbers(store: Any, *names: bytes) -> list[int]:
    """Numbers of names that are there."""
    found: list[int] = store.find_resources(names).tolist()
    assert -1 not in found
    return found


def test_an_output_is_depended_on_while_it_is(kind):
    async def body(shard: Shard, store: Any) -> None:
        await declare(store, "html", b"a", [b"t"])
        await declare(store, "search", b"a", [b"view/html/a", b"b"])
        await declare(store, "search", b"c", [b"view/html/a", b"view/html/c/d"])
        for _ in range(2):
            a, cd, output = numbers(store, b"a", b"c/d", b"view/html/a")
            assert store.outputs_with_dependents(0) == BitMap([a, cd])
            assert store.outputs_with_dependents(1) == BitMap()
            assert store.output_inputs(0, u32(a)).tolist() == [store.find_input(output, "content")]
            assert store.dependents(store.output_inputs(0, u32(a))[0]) == {1: BitMap(numbers(store, b"a", b"c"))}
            store = await shard.reopen(store)
        await declare(store, "search", b"c", [b"b"])
        assert store.outputs_with_dependents(0) == BitMap([a])
        await declare(store, "html", b"x", [b"view/html/c/d"])
        await declare(store, "search", b"a", [])
        assert store.outputs_with_dependents(0) == BitMap([cd])
        fold_all(store)
        store = await shard.reopen(store)
        assert store.outputs_with_dependents(0) == BitMap([cd])
        await declare(store, "search", b"a", [b"view/html/a"])
        assert store.outputs_with_dependents(0) == BitMap([a, cd])
        await store.close()

    run(kind, body)


def test_a_view_that_comes_after_its_outputs(kind):
    async def body(shard: Shard, store: Any) -> None:
        await declare(store, "search", b"a", [b"view/html/a", b"view/html/b"])
        await declare(store, "search", b"b", [b"view/html/b", b"view/htm/b"])
        await declare(store, "search", b"a", [b"view/html/a"])
        await declare(store, "search", b"b", [])
        assert store.outputs_with_dependents(1) == BitMap()
        commit = store.begin()
        assert commit.intern_views(["html"]) == [1]
        await store.write(commit)
        for _ in range(2):
            assert store.outputs_with_dependents(1) == BitMap(numbers(store, b"a"))
            assert store.outputs_with_dependents(0) == BitMap()
            store = await shard.reopen(store)
        await declare(store, "search", b"b", [b"view/html/b"])
        assert store.outputs_with_dependents(1) == BitMap(numbers(store, b"a", b"b"))
        await store.close()

    run(kind, body)


def test_a_view_and_its_outputs_in_one_commit_with_edges_both_ways(kind):
    async def body(shard: Shard, store: Any) -> None:
        commit = store.begin()
        names = commit.intern_resources([b"view/html/a", b"view/search/view/html/a", b"p"])
        inputs = commit.intern_inputs(names, "content")
        html, search = commit.intern_views(["html", "search"])
        commit.replace_dependencies(html, *csr({int(names[2]): [int(inputs[0]), int(inputs[1])]}))
        commit.replace_dependencies(html, *csr({int(names[2]): [int(inputs[1])]}))
        await store.write(commit)
        a, output = numbers(store, b"a", b"view/html/a")
        assert store.outputs_with_dependents(html) == BitMap()
        assert store.outputs_with_dependents(search) == BitMap([output])
        assert store.output_inputs(search, u32(output)).tolist() == [int(inputs[1])]
        assert a != output

    run(kind, body)


def test_only_the_content_of_an_output_is_the_output(kind):
    async def body(shard: Shard, store: Any) -> None:
        await declare(store, "html", b"a", [b"view/html/b"], "existence")
        assert store.outputs_with_dependents(0) == BitMap()
        commit = store.begin()
        content = commit.intern_inputs(u32(*numbers(store, b"view/html/b")), "content")
        commit.change_inputs(content, change(3))
        await store.write(commit)
        assert store.outputs_with_dependents(0) == BitMap(), "changed, but nothing depends on it"

    run(kind, body)


def test_names_that_look_like_outputs_and_are_none(kind):
    async def body(shard: Shard, store: Any) -> None:
        odd = [
            b"view",
            b"view/",
            b"view/html",
            b"view/html/",
            b"view//a",
            b"views/html/a",
            b"view/html//",
            b"xview/html/a",
        ]
        await declare(store, "html", b"a", odd)
        assert store.outputs_with_dependents(0) == BitMap(numbers(store, b"/"))
        assert store.edge_count == len(odd)

    run(kind, body)


def test_many_outputs_at_once(kind):
    async def body(shard: Shard, store: Any) -> None:
        commit = store.begin()
        commit.intern_views(["html", "search"])
        pages = commit.intern_resources([b"p%d" % number for number in range(5_000)])
        made = commit.intern_resources([b"view/html/p%d" % number for number in range(5_000)])
        inputs = commit.intern_inputs(made, "content")
        one = np.ones(5_000, np.uint32)
        commit.replace_dependencies(1, pages, one, inputs)
        await store.write(commit)
        assert len(store.outputs_with_dependents(0)) == 5_000
        assert store.output_inputs(0, pages).tolist() == inputs.tolist()
        commit = store.begin()
        commit.replace_dependencies(1, pages[::2].copy(), one[::2] * 0, inputs[:0])
        await store.write(commit)
        for _ in range(2):
            assert store.outputs_with_dependents(0) == BitMap(pages[1::2])
            assert store.edge_count == 2_500
            store = await shard.reopen(store)
        await store.close()

    run(kind, body)
