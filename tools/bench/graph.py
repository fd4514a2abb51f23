"""The graph bench: hundreds of millions of edges, loaded through the real server, and a second client beside it.

Every page depends on one input, a tenth on another, all of them on parts of a long tail; members are random by the
seed. The second client declares pages one by one while the graph is loaded. Afterwards counts of both hubs and of a
sample of parts are compared with what was declared. At the end the embedded engine alone writes the same bytes, for
the ratio.

./bazelw run //tools/bench:graph -- --resources 10000000 --edges 200000000 --seed 1 --json
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from google.protobuf.message import Message

from libs.embedded.store import EmbeddedStore
from services.propagation.store.embedded_layout import FAMILIES, SCHEMA, VERSION
from tools.bench import graph_raw, graph_world
from tools.bench.fanout_engine import Engine
from tools.bench.figures import Figures, add_options, log, run_folder, tell_figures
from tools.bench.graph_world import LARGEST, SECOND, VIEWS, Sizes, declaration, part_name
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels

_MIB = 1 << 20
_UNDER_WAY = 3
# Of each 10 ms: less than the default, because a second client waits for it; folding keeps up all the same.
_COMPACTION_BUDGET = "2ms"
_SAMPLED_PARTS = 200
_TOLD_EVERY_S = 15.0
_COUNTS = 9
_Answer = TypeVar("_Answer", bound=Message)


class Probe:
    """The second client's process."""

    def __init__(self, address: str, parts: int, seed: int) -> None:
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
        command = [sys.executable, "-m", "tools.bench.graph_probe", "--address", address]
        command += ["--parts", str(parts), "--seed", str(seed)]
        self._process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise SystemExit("the second client ended before it was connected")

    def end(self) -> Figures:
        """Stops it; answers how many calls it made, and the percentiles of their milliseconds."""
        said, _ = self._process.communicate("", timeout=60)
        if self._process.returncode:
            raise SystemExit(f"the second client ended with status {self._process.returncode}")
        told: Figures = json.loads(said)
        return told

    def kill(self) -> None:
        """Ends it if it still runs."""
        self._process.kill()
        self._process.wait()


class Bench:
    """One run, in a folder of its own."""

    def __init__(self, folder: Path, sizes: Sizes, asked: argparse.Namespace) -> None:
        self._folder = folder
        self._sizes = sizes
        self._seed: int = asked.seed
        self._pages_at_once = max(1, int(asked.edges_at_once * sizes.pages / sizes.edges))
        memory = {"cache_bytes": asked.cache_mib * _MIB, "write_buffer_bytes": asked.write_buffer_mib * _MIB}
        self._bound_mib = asked.cache_mib + asked.write_buffer_mib + asked.name_cache_mib
        limits = {"name_cache_bytes": asked.name_cache_mib * _MIB}
        self._engine = Engine(folder, VIEWS, memory, limits, {"compaction_budget": _COMPACTION_BUDGET})
        self._counts = np.zeros(sizes.parts, np.int64)
        self._second = 0
        self._added = 0
        self._offered = 0
        self._offered_per_s = asked.edges_per_s
        self._probed = 0
        self._figures: Figures = {"resources": sizes.pages, "parts": sizes.parts, "seed": self._seed}

    def run(self) -> Figures:
        """All of it. Ends the program with a sentence when the graph is not what was declared."""
        self._engine.start()
        try:
            idle_mib = self._engine.resident_mib()
            self._engine.forget_peak()
            self._load()
            self._engine.settle()
            self._figures["memory_mib"] = round(self._engine.peak_mib() - idle_mib, 1)
            self._figures["memory_bound_mib"] = self._bound_mib
            asyncio.run(self._compare())
        finally:
            self._engine.stop()
        self._bytes()
        raw_s = graph_raw.write_s(self._engine.data, self._folder / "raw")
        self._figures["raw_edges_per_s"] = int(self._added / raw_s)
        self._figures["raw_ratio"] = round(self._figures["edges_per_s"] / self._figures["raw_edges_per_s"], 3)
        return self._figures

    def _load(self) -> None:
        probe = Probe(self._engine.address, self._sizes.parts, self._seed)
        cpu_s, began = self._engine.cpu_s(), time.monotonic()
        try:
            asyncio.run(self._declare())
            took = time.monotonic() - began
            declared = probe.end()
        finally:
            probe.kill()
        used = self._engine.cpu_s() - cpu_s
        self._engine.settle()
        self._probed = int(declared["declares"]) + 1
        figures = self._figures
        figures["edges"] = self._added
        figures["load_s"] = round(took, 2)
        figures["edges_per_s"] = int(self._added / took)
        figures["edges_per_cpu_s"] = int(self._added / used)
        figures["settled_s"] = round(time.monotonic() - began, 2)
        figures.update(declared)

    async def _declare(self) -> None:
        caller = self._caller()
        blocks = self._blocks()
        began = told = time.monotonic()
        try:

            async def send() -> None:
                nonlocal told
                for block in blocks:
                    await self._pace(began, block.edges)
                    await self._send(caller, block)
                    if time.monotonic() - told >= _TOLD_EVERY_S:
                        told = time.monotonic()
                        rate = self._added / (told - began)
                        log(f"{self._added:,} edges, {rate:,.0f}/s, {self._engine.resident_mib():.0f} MiB resident")

            async with asyncio.TaskGroup() as group:
                for _ in range(_UNDER_WAY):
                    group.create_task(send())
        finally:
            await caller.close()

    async def _pace(self, began_s: float, edges: int) -> None:
        """Waits until so many more may be offered, where the bench was asked not to offer all it can."""
        due_s = began_s + self._offered / self._offered_per_s if self._offered_per_s else began_s
        self._offered += edges
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    def _blocks(self) -> Iterator[graph_world.Block]:
        for first in range(0, self._sizes.pages, self._pages_at_once):
            count = min(self._pages_at_once, self._sizes.pages - first)
            yield graph_world.block(self._sizes, self._seed, first, count)

    async def _send(self, caller: Caller, block: graph_world.Block) -> None:
        np.add.at(self._counts, block.parts, 1)
        self._second += int(block.second.sum())
        request = propagation_pb2.DeclareDependenciesRequest(packed=[declaration(block)])
        answer = await self._call(caller, "DeclareDependencies", request, propagation_pb2.DeclareDependenciesResponse)
        if answer.edges_added != block.edges:
            raise SystemExit(f"{block.edges:,} edges were declared, {answer.edges_added:,} added")
        self._added += block.edges

    async def _compare(self) -> None:
        """Counts as the server tells them against what was declared; the second client's pages apart."""
        caller = self._caller()
        try:
            took: list[float] = []
            for _ in range(_COUNTS):
                began = time.perf_counter()
                largest = await self._count(caller, LARGEST)
                took.append(1000 * (time.perf_counter() - began))
            self._figures["count_hub_ms"] = round(max(took), 2)
            self._figures["count_hub_p50_ms"] = round(float(np.median(took)), 2)
            wrong = [(LARGEST, largest, self._sizes.pages, self._sizes.pages)]
            wrong.append((SECOND, await self._count(caller, SECOND), self._second, self._second))
            sample = np.random.default_rng(self._seed).integers(0, self._sizes.parts, _SAMPLED_PARTS).tolist()
            for part in [0, *sample]:
                declared = int(self._counts[part])
                told = await self._count(caller, part_name(part))
                wrong.append((part_name(part), told, declared, declared + self._probed))
        finally:
            await caller.close()
        for name, told, least, most in wrong:
            if not least <= told <= most:
                raise SystemExit(f"{name} has {told:,} dependents by CountDependents; {least:,} were declared")

    async def _count(self, caller: Caller, name: str) -> int:
        request = propagation_pb2.CountDependentsRequest(resource=name)
        answer = await self._call(caller, "CountDependents", request, propagation_pb2.CountDependentsResponse)
        return int(answer.total)

    def _caller(self) -> Caller:
        return Caller(Channels(self._engine.address, tls=None), 60.0, dict)

    async def _call(self, caller: Caller, method: str, request: Message, kind: type[_Answer]) -> _Answer:
        service = propagation_pb2.DESCRIPTOR.services_by_name["Propagation"]
        return await caller.unary(service, method, request, kind, 60.0)

    def _bytes(self) -> None:
        with EmbeddedStore.open(self._engine.data, schema=SCHEMA, version=VERSION, families=FAMILIES) as store:
            sizes = {name: size.disk_bytes for name, size in store.sizes().items()}
        edges = sum(sizes[name] for name in graph_raw.EDGE_FAMILIES)
        self._figures["bytes_per_edge"] = round(edges / self._added, 2)
        self._figures["names_bytes"] = sum(size for name, size in sizes.items() if name not in graph_raw.EDGE_FAMILIES)
        for name, size in sizes.items():
            log(f"{name}: {size / _MIB:.1f} MiB, {size / self._added:.2f} bytes an edge")


def main(tell: Callable[[str], None] = print) -> int:
    """Measures; prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resources", type=int, default=500_000, help="pages that depend on something")
    parser.add_argument("--edges", type=int, default=10_000_000, help="in all; each page has as many, on average")
    parser.add_argument("--parts", type=int, help="inputs of the long tail (default: a tenth of the resources)")
    parser.add_argument("--edges-at-once", type=int, default=20_000, help="in one request")
    parser.add_argument("--edges-per-s", type=int, default=0, help="offered; 0: as many as the server takes")
    parser.add_argument("--cache-mib", type=int, default=256, help="backend.embedded.cache_bytes")
    parser.add_argument("--write-buffer-mib", type=int, default=128, help="backend.embedded.write_buffer_bytes")
    parser.add_argument("--name-cache-mib", type=int, default=512, help="limits.name_cache_bytes")
    parser.add_argument("--seed", type=int, default=1)
    add_options(parser)
    asked = parser.parse_args()
    parts = asked.parts or max(1, asked.resources // 10)
    if not 100 <= asked.resources <= 100_000_000:
        parser.error("--resources: 100 to 100,000,000 are allowed")
    if not 2 * asked.resources <= asked.edges <= 200 * asked.resources:
        parser.error("--edges: 2 to 200 for each resource are allowed")
    if asked.edges_per_s < 0:
        parser.error("--edges-per-s: 0 or more")
    with run_folder("graph", asked.folder) as folder:
        figures = Bench(folder, Sizes(asked.resources, asked.edges, parts), asked).run()
    tell_figures(figures, asked.json, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
