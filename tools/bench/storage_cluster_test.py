"""The benches on a cluster measure what they say: a small run on a real node has every figure."""

import json
import subprocess
import sys

import pytest

from libs.rpc.testing.harness import environment
from tools.bench.storage_cluster import BATCHES, ROWS, SINGLES
from tools.bench.warming import settled, warm_up


def test_a_small_run_has_every_figure() -> None:
    command = [sys.executable, "-m", "tools.bench.storage", "--backend", "cassandra", "--seconds", "0.2"]
    command += ["--rounds", "1", "--batch", "20", "--warm-up", "0", "--engine", "native", "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=1000, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for name in (*SINGLES, *BATCHES):
        for whose in (name, f"driver_{name}"):
            for kind in ("per_s", "p50_ms", "p99_ms"):
                assert told[f"{whose}_{kind}"] > 0
        assert told[f"{name}_ratio"] == pytest.approx(told[f"{name}_per_s"] / told[f"driver_{name}_per_s"], abs=0.001)
    for name, rows in ROWS.items():
        assert told[f"driver_{rows}_node_cpu_s_per_10k"] >= 0 and told[f"driver_{rows}_p50_ms"] > 0
        ratio = told[f"{name}_per_s"] / told[f"driver_{rows}_per_s"]
        assert told[f"{rows}_ratio"] == pytest.approx(ratio, abs=0.001)
    assert told["single_ratio"] == min(told["put_ratio"], told["get_ratio"])
    assert told["batch_ratio"] == told["batch_records_ratio"] and told["p99_ratio"] > 0 and told["servers"] == 2


def test_a_work_is_warm_when_it_costs_the_node_no_less_than_before() -> None:
    assert not settled([9, 8, 7, 6, 5]) and not settled([9, 8, 7, 6, 5, 4])
    assert settled([9, 8, 7, 5, 5, 5, 5, 4, 5]) and not settled([5, 5, 5, 4, 4, 4])


@pytest.mark.parametrize(("asked_s", "takes"), [(0, 2), (2, 8), (6, 20), (40, 40)])
def test_all_works_are_run_until_the_last_is_warm_but_not_for_ever(asked_s: int, takes: int) -> None:
    costs: list[tuple[float, float]] = []

    def trial() -> tuple[float, float]:
        costs.append((5, max(5, 20 - len(costs))))  # falls until the sixteenth; a second each
        return costs[-1]

    warm_up(trial, asked_s, lambda: len(costs))
    assert len(costs) == takes


def test_ycsb_runs_beside_the_driver() -> None:
    command = [sys.executable, "-m", "tools.bench.ycsb", "--backend", "cassandra", "--rounds", "1", "--threads", "8"]
    command += ["--records", "200", "--operations", "300", "--workload", "a", "--workload", "e", "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=1000, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for workload, operations in (("a", ("read", "update")), ("e", ("scan",))):
        for whose in (workload, f"raw_{workload}"):
            assert told[f"{whose}_per_s"] > 0
            assert all(told[f"{whose}_{operation}_p99_ms"] > 0 for operation in operations)
        ratio = told[f"{workload}_per_s"] / told[f"raw_{workload}_per_s"]
        assert told[f"{workload}_ratio"] == pytest.approx(ratio, abs=0.001)
