"""The session bench on a cluster measures what it says: a small run on a real node has every figure."""

import json
import subprocess
import sys

import pytest

from libs.rpc.testing.harness import environment

ONE_ENGINE = {"create": "put", "validate_store": "get", "validate_warm": "get"}
OURS = ONE_ENGINE | {f"{name}_native": peer for name, peer in ONE_ENGINE.items()}
CACHED = {"validate_cached": "get", "validate_cached_warm": "get"}


def test_a_small_run_has_every_figure() -> None:
    command = [sys.executable, "-m", "tools.bench.session", "--backend", "cassandra", "--seconds", "0.1"]
    command += ["--rounds", "1", "--warm-up", "0", "--redis", "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=1000, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for name, peer in (OURS | CACHED).items():
        for whose in (name, f"driver_{peer}"):
            for kind in ("per_s", "p50_ms", "p99_ms"):
                assert told[f"{whose}_{kind}"] > 0
            assert told[f"{whose}_node_cpu_s_per_10k"] >= 0  # by hundredths of a second, as many as a round takes here
    pairs = {"create": ("create", "put"), "create_rows": ("create", "login"), "validate": ("validate_store", "get")}
    pairs |= {
        f"{name}_native": (f"{ours}_native", peer) for name, (ours, peer) in pairs.items() if name != "create_rows"
    }
    pairs |= {"create_native_rows": ("create_native", "login"), "validate_cached": ("validate_cached", "get")}
    for ratio, (ours, peer) in pairs.items():
        beside = told[f"{ours}_driver_{peer}_per_s"]
        assert 0 < beside <= told[f"driver_{peer}_per_s"]
        assert told[f"{ratio}_ratio"] == pytest.approx(told[f"{ours}_per_s"] / beside, abs=0.001)
    assert told["driver_login_cpu_s_per_10k"] > 0 and told["driver_login_node_cpu_s_per_10k"] >= 0
    assert told["p99_ratio"] > 0 and told["p99_native_ratio"] > 0 and told["servers"] == 2
