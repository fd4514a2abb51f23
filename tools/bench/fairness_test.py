"""The fairness bench itself: a short run ends with every figure."""

import json
import subprocess
import sys

from libs.rpc.testing.harness import environment

WANTED = {"idle_p50_ms", "idle_p99_ms", "busy_p50_ms", "busy_p99_ms", "p50_ratio", "p99_ratio", "root_pages_per_s"}


def test_a_short_run_ends_with_every_figure() -> None:
    command = [sys.executable, "-m", "tools.bench.fairness", "--pages", "40000", "--edits", "10", "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) >= WANTED
    assert all(isinstance(value, int | float) for value in figures.values())
