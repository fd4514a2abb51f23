"""The fan-out bench itself: a short run ends with every figure; the pages are what its docstring says."""

import asyncio
import json
import subprocess
import sys

import numpy as np

from libs.rpc.testing.harness import environment
from tools.bench.fanout_executor import Executor
from tools.bench.fanout_kafka import CURVE, chart
from tools.bench.fanout_world import HUB, OTHER, Bits, choose, declarations
from wellspring.propagation.v1 import work_pb2

WANTED = {
    "acknowledged_s",
    "estimate_s",
    "first_lease_s",
    "leases_per_s",
    "completions_per_s",
    "memory_above_idle_mib",
    "bytes_per_edge",
    "restart_to_first_lease_s",
    "rendered_twice",
    "raw_completions_per_s",
    "completions_ratio",
}


def test_a_short_run_ends_with_every_figure() -> None:
    command = [sys.executable, "-m", "tools.bench.fanout", "--dependents", "60000", "--seed", "7", "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) >= WANTED
    assert all(isinstance(value, int | float) for value in figures.values())
    assert figures["rendered_twice"] <= figures["in_flight_at_kill"]


def test_exactly_half_of_the_pages_are_chosen_by_the_seed() -> None:
    chosen = choose(1000, seed=3)
    assert (len(chosen), chosen.sum()) == (2000, 1000)
    assert np.array_equal(chosen, choose(1000, seed=3))
    assert not np.array_equal(chosen, choose(1000, seed=4))


def test_every_page_is_declared_once_with_the_template_that_it_depends_on() -> None:
    chosen = choose(60_000, seed=5)
    names: list[str] = []
    inputs: list[str] = []
    for piece in declarations(chosen):
        known = piece.inputs.decode().split("\0")
        names += piece.dependents.decode().split("\0")
        inputs += [known[at] for at in np.frombuffer(piece.input_index, "<u4")]
    assert [int(name.rpartition("/")[2]) for name in names] == list(range(len(chosen)))
    assert inputs == [HUB if one else OTHER for one in chosen]


def test_a_set_of_bits_tells_what_it_had() -> None:
    bits = Bits(10)
    assert bits.add(np.array([1, 3])) == 0
    assert bits.add(np.array([3, 4])) == 1
    assert bits.count == 3
    assert list(np.flatnonzero(np.unpackbits(np.frombuffer(bits.packed(), np.uint8)))) == [1, 3, 4]


def test_the_curve_has_a_line_and_the_level_without_a_log() -> None:
    lines = chart([270_400, 250_000, 210_000], 330_000.0).splitlines()
    assert lines[0] == "```mermaid"
    assert f"  x-axis shards {list(CURVE)}" in lines
    assert lines[-3:] == ["  line [270, 250, 210]", "  line [330, 330, 330]", "```"]


def test_an_engine_that_has_less_than_the_burst_is_not_waited_for_until_its_leases_end() -> None:
    """As one that shares the shards with others has, whichever share of the pages is its own."""
    batch = work_pb2.LeaseResponse(batches=[work_pb2.Batch(lease_id=1, ids=bytes(4 * 100))])
    answers = [batch, batch, work_pb2.LeaseResponse()]

    class Leasing(Executor):
        async def _lease(self, burst: bool = False, engine: object = None) -> work_pb2.LeaseResponse:
            return answers.pop(0)

    async def main() -> None:
        executor = Leasing("127.0.0.1:1", "change", 1_000, 800, 1, engine_dies=False, successor="")
        assert await executor.lease_burst(200) == [batch, batch]

    asyncio.run(main())
    assert not answers
