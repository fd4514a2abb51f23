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
            for kind in ("per_s", "p50_ms", "p99_ms", "node_cpu_s_per_10k"):
                assert told[f"{whose}_{kind}"] > 0
    for ratio, name in (
        ("validate_ratio", "validate_store"),
        ("create_ratio", "create"),
        ("validate_native_ratio", "validate_store_native"),
        ("create_native_ratio", "create_native"),
        ("validate_cached_ratio", "validate_cached"),
    ):
        per_s = told[f"driver_{(OURS | CACHED)[name]}_per_s"]
        assert told[ratio] == pytest.approx(told[f"{name}_per_s"] / per_s, abs=0.001)
    for engine in ("", "_native"):
        alone = told["driver_login_per_s"]
        assert alone > 0 and told["driver_login_cpu_s_per_10k"] > 0 and told["driver_login_node_cpu_s_per_10k"] > 0
        assert told[f"create{engine}_rows_ratio"] == pytest.approx(told[f"create{engine}_per_s"] / alone, abs=0.001)
    assert told["p99_ratio"] > 0 and told["p99_native_ratio"] > 0 and told["servers"] == 2
