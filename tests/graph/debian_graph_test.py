"""Debian's own dependencies in a running engine: every set and count, what an edit would reach and what it did reach
are compared with a computation that shares nothing with the engine.

Two views of the same packages: "page" depends on the packages themselves, "closure" on the closures of these, so that
an edit goes on from package to package, round every cycle, until nothing changes any more.
"""

import asyncio
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest

from tests.graph import packages
from tests.system.served import Served
from tools.dev.servers import locate
from wellspring.propagation.v1 import propagation_pb2, work_pb2
from wellspring_client import aio, packed

HUB = "libc6"
PREFIX = "debian/"
VIEWS = f"""
views:
  - name: page
    resource_prefixes: ["{PREFIX}"]
    render: {{entry_point: {{function: "example:render"}}}}
    store: {{namespace: pages}}
  - name: closure
    resource_prefixes: ["{PREFIX}"]
    render: {{entry_point: {{function: "example:render"}}}}
    store: {{namespace: closures}}
"""
AT_ONCE = 32
SAMPLE = 4_000
LEASED = 20_000
WAIT_S = 900


@pytest.fixture(scope="module")
def graph():
    """What each package depends on."""
    graph = packages.read(locate.repository("debian_index") / "packages.txt")
    assert len(graph) > 10_000 and graph[HUB]
    return graph


@pytest.fixture(scope="module")
def address(graph, tmp_path_factory):
    """An engine that holds the graph."""
    folder = tmp_path_factory.mktemp("engine")
    (folder / "views.yaml").write_text(VIEWS)
    served = Served(folder / "propagation", "propagation", "grpcio", {"views_file": str(folder / "views.yaml")})
    served.start()
    try:
        asyncio.run(load(served.address, graph))
        yield served.address
    finally:
        served.kill()


async def load(address, graph):
    async with aio.connect(propagation=address, timeout=WAIT_S) as client:
        edges = sum(map(len, graph.values()))
        for view, named in (("page", resource), ("closure", closure)):
            sets = {resource(package): [named(name) for name in names] for package, names in graph.items()}
            assert await client.propagation.declare(view, sets) == edges
            # The same again is nothing new.
            some = dict(random.Random(1).sample(sorted(sets.items()), 1_000))
            assert await client.propagation.declare(view, some) == 0
        assert (await client.propagation.admin.status()).edges == 2 * edges


def resource(package):
    return PREFIX + package


def closure(package):
    """The output of the view "closure"."""
    return f"view/closure/{PREFIX}{package}"


async def each(items, ask):
    """Asks about every item, some at a time."""
    waiting = iter(items)

    async def ask_on():
        for item in waiting:
            await ask(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(ask_on())


def test_every_set_and_count_is_as_computed(graph, address):
    dependents = packages.reverse(graph)
    print(
        f"{len(graph):,} packages, {sum(map(len, graph.values())):,} edges, {HUB} with {len(dependents[HUB]):,} direct "
        f"dependents, {len(packages.cycles(graph))} cycles"
    )

    async def compare():
        async with aio.connect(propagation=address, timeout=WAIT_S) as client:
            engine = client.propagation

            async def forward(package):
                found = await engine.dependencies(resource(package), "page")
                assert sorted(found) == sorted((resource(name), "content") for name in graph[package]), package

            async def count(view, named, name):
                found = (await engine.count_dependents(named)).views
                assert [(one.view, one.dependents) for one in found] == [(view, len(dependents[name]))], name

            async def nobody(name):
                assert (await engine.count_dependents(resource(name))).total == 0, name

            async def backward(name):
                await count("page", resource(name), name)
                found = [one async for one in engine.dependents(resource(name))]
                assert sorted(found) == sorted(("page", resource(one)) for one in dependents[name]), name

            async def through_outputs(name):
                await count("closure", closure(name), name)
                found = [one async for one in engine.dependents(closure(name))]
                assert sorted(found) == sorted(("closure", resource(one)) for one in dependents[name]), name
                if name in graph:
                    found = await engine.dependencies(resource(name), "closure")
                    assert sorted(found) == sorted((closure(one), "content") for one in graph[name]), name

            await each(graph, forward)
            await each(random.Random(2).sample(sorted(graph.keys() - dependents.keys()), 1_000), nobody)
            await each(dependents, backward)
            await each(chosen(graph, dependents), through_outputs)

    asyncio.run(compare())


def chosen(graph, dependents):
    """The names in cycles, the greatest hubs, and some of the others."""
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print(f"the sample's seed is {seed}")
    circular = set().union(*packages.cycles(graph)) & dependents.keys()
    hubs = sorted(dependents, key=lambda name: -len(dependents[name]))[:50]
    return circular | {*hubs, *random.Random(seed).sample(sorted(dependents), min(SAMPLE, len(dependents)))}


def test_what_an_edit_reaches_was_foretold_and_is_rendered_exactly(graph, address):
    dependents = packages.reverse(graph)
    reachable = packages.reached(dependents, HUB)

    async def touch():
        async with aio.connect(propagation=address, timeout=WAIT_S) as client:
            executor = Executor(client.propagation, graph)
            for edit in (1, 2):
                impact = await client.propagation.estimate(resource(HUB))
                assert {one.view: one.dependents for one in impact.views} == {
                    "page": len(dependents[HUB]) + 1,
                    "closure": 1,
                }
                assert impact.transitive == len(reachable) - 1
                await executor.edit(HUB, edit)
                direct = {view: set(rendered) for view, rendered in executor.rendered.items()}
                assert direct["page"] == dependents[HUB] | {HUB}
                assert set(executor.rendered["page"].values()) == {1}, "rendered again for no reason"
                assert direct["closure"] == reachable
                # Each changed once, however often it was looked at because another way led to it.
                assert executor.changed["closure"] == Counter(dict.fromkeys(reachable, 1))
                assert {executor.newest[package] for package in reachable} == {edit}

    asyncio.run(touch())


@dataclass
class Executor:
    """Renders for the engine. A package's page shows its own edits; its closure the newest edit of all below it."""

    engine: Any
    graph: packages.Graph
    edits: dict[str, int] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    rendered: dict[str, Counter] = field(default_factory=dict)
    changed: dict[str, Counter] = field(default_factory=dict)

    async def edit(self, package, edit):
        """Edits a package and renders until the engine has nothing left to do for it."""
        self.edits[package] = edit
        self.rendered = {"page": Counter(), "closure": Counter()}
        self.changed = {"page": Counter(), "closure": Counter()}
        root = (await self.engine.change(resource(package), edit.to_bytes(16, "big"))).root
        request = work_pb2.LeaseRequest(
            executor="debian",
            capacity=[work_pb2.LeaseRequest.Capacity(view=view, items=LEASED) for view in self.rendered],
        )
        while (now := await self.engine.get_change(root)).state == propagation_pb2.Root.STATE_ACTIVE:
            batches = (await self.engine.work.lease(request)).batches
            completions = [self._complete(batch) for batch in batches]
            answer = await self.engine.work.complete(work_pb2.CompleteRequest(completions=completions))
            assert not [one for one in answer.results if one.status.code], answer
        assert now.state == propagation_pb2.Root.STATE_DONE
        assert now.progress.done == now.progress.total and now.progress.failed == 0
        renders = sum(sum(one.values()) for one in self.rendered.values())
        print(f"edit {edit}: {renders:,} renders, {now.progress.levels} levels, {now.progress.total:,} items")

    def _complete(self, batch):
        names = [name.removeprefix(PREFIX) for name in packed.decode_names(batch.names)]
        self.rendered[batch.view].update(names)
        before = packed.decode_hashes(batch.accepted_hashes)
        hashes = [self._render(batch.view, name) for name in names]
        self.changed[batch.view].update(
            name for name, old, new in zip(names, before, hashes, strict=True) if old != new
        )
        return work_pb2.Completion(
            lease_id=batch.lease_id,
            fencing=batch.fencing,
            done=batch.ids,
            hashes=packed.encode_hashes(hashes),
            renderer_seconds=1e-6 * len(names),
        )

    def _render(self, view, name):
        value = own = self.edits.get(name, 0)
        if view == "closure":
            value = max((self.newest.get(one, 0) for one in self.graph[name]), default=0)
            value = self.newest[name] = max(own, value)
        return blake2b(np.uint64(value).tobytes() + name.encode(), digest_size=16).digest()
