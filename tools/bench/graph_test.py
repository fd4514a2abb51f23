"""The graph bench itself: a short run ends with every figure; the graph is what its docstring says."""

import json
import subprocess
import sys

import numpy as np

from libs.rpc.testing.harness import environment
from tools.bench.graph_world import LARGEST, SECOND, Sizes, block, declaration, part_name

SIZES = Sizes(pages=2_000, edges=20_000, parts=200)
WANTED = {
    "edges_per_s",
    "edges_per_cpu_s",
    "bytes_per_edge",
    "names_bytes",
    "count_hub_ms",
    "declare_p99_ms",
    "noop_p99_ms",
    "bare_p99_ms",
    "memory_mib",
    "memory_bound_mib",
    "raw_edges_per_s",
    "raw_ratio",
}


def test_a_short_run_ends_with_every_figure() -> None:
    command = [sys.executable, "-m", "tools.bench.graph", "--resources", "5000", "--edges", "100000", "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) >= WANTED
    assert all(isinstance(value, int | float) for value in figures.values())
    assert figures["declares"] > 0 and abs(figures["edges"] - 100_000) < 10_000


def test_blocks_are_the_same_by_the_seed_and_have_the_edges_that_were_asked_for() -> None:
    made = [block(SIZES, 3, first, 100) for first in range(0, 2_000, 100)]
    again = block(SIZES, 3, 300, 100)
    assert np.array_equal(again.parts, made[3].parts) and np.array_equal(again.second, made[3].second)
    assert not np.array_equal(block(SIZES, 4, 300, 100).parts, made[3].parts)
    edges = sum(one.edges for one in made)
    assert abs(edges - SIZES.edges) < 0.1 * SIZES.edges
    assert abs(sum(int(one.second.sum()) for one in made) - 200) < 60


def test_a_declaration_says_what_its_block_does() -> None:
    pages = block(SIZES, 5, 100, 50)
    packed = declaration(pages)
    known = packed.inputs.decode().split("\0")
    index = np.frombuffer(packed.input_index, "<u4").tolist()
    counts = np.frombuffer(packed.counts, "<u4").tolist()
    assert len(packed.dependents.decode().split("\0")) == len(counts) == 50
    assert sum(counts) == len(index) == pages.edges
    ends = np.cumsum(pages.counts).tolist()
    for at, count in enumerate(counts):
        mine = [known[one] for one in index[:count]]
        index = index[count:]
        parts = [part_name(part) for part in pages.parts[ends[at] - pages.counts[at] : ends[at]].tolist()]
        assert mine == [LARGEST, *([SECOND] if pages.second[at] else []), *parts]
