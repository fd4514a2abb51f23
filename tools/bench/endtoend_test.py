"""The end-to-end bench itself: a short run ends with every figure, and its pages are what the edit made."""

import json
import subprocess
import sys

from libs.rpc.testing.harness import environment
from tools.bench import endtoend_loop
from tools.bench.endtoend_world import declarations, page

WANTED = {
    "pages_per_s",
    "cpu_s_per_10k_pages",
    "executor_cpu_s_per_10k",
    "engine_cpu_s_per_10k",
    "storage_cpu_s_per_10k",
    "bare_loop_per_s",
    "bare_loop_cpu_s_per_10k",
    "bare_loop_ratio",
}


def test_a_short_run_ends_with_every_figure() -> None:
    command = [sys.executable, "-m", "tools.bench.endtoend", "--pages", "600", "--executors", "2", "--loop", "memory"]
    done = subprocess.run([*command, "--json"], env=environment(), capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) >= WANTED
    assert all(isinstance(value, int | float) for value in figures.values())
    assert figures["bare_loop_kafka"] == 0 and figures["cpu_s_per_10k_pages"] > 0


def test_every_page_depends_on_its_template() -> None:
    pieces = list(declarations(10, 60_000, "a/template"))
    names = [name for piece in pieces for name in piece.dependents.decode().split("\0")]
    assert names == [page(n) for n in range(10, 60_010)]
    assert all(piece.inputs == b"a/template" and set(piece.counts[::4]) == {1} for piece in pieces)


def test_the_bare_loop_gets_as_many_events_as_there_are_pages() -> None:
    batches = list(endtoend_loop.batches_from_memory(1_234))
    assert [name for batch in batches for name in batch] == [page(n) for n in range(1_234)]
