"""The session bench measures what it says: a small run has every figure, and answers that are wrong spoil it."""

import json
import subprocess
import sys

import pytest

from libs.rpc.testing.harness import environment
from tools.bench.rpc_load import LoadError
from tools.bench.session_world import check_listed, creates, tokens
from wellspring.session.v1 import session_pb2 as pb


def run_bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tools.bench.session", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=840, check=False)


def test_a_small_run_has_every_figure() -> None:
    done = run_bench("--seconds", "0.05", "--rounds", "1", "--sessions", "1500", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for name in ("raw_read", "raw_write", "validate_store", "validate_warm", "validate_warm_native", "create"):
        assert told[f"{name}_per_s"] > 0 and told[f"{name}_cpu_s_per_10k"] >= 0 and told[f"{name}_p99_ms"] > 0
    for name, ours, peer in (
        ("validate_ratio", "validate_store_per_s", "raw_read_per_s"),
        ("create_ratio", "create_per_s", "raw_write_per_s"),
        ("cached_ratio", "cached_per_s", "raw_read_per_s"),
    ):
        assert told[name] == pytest.approx(told[ours] / told[peer], abs=0.001)
    assert told["sessions"] >= 1500 and told["memory_bound_mib"] == 128 and told["swept_per_s"] > 0
    assert told["list_ratio"] > 0 and all(isinstance(value, int | float) for value in told.values())


def test_nonsense_is_refused() -> None:
    for wrong in (["--seconds", "0"], ["--rounds", "0"], ["--sessions", "-1"], ["--cache-mib", "0"]):
        done = run_bench(*wrong)
        assert done.returncode == 2 and wrong[0] in done.stderr


def test_every_login_is_a_new_one_and_a_wrong_answer_is_told() -> None:
    made = [pb.CreateRequest.FromString(raw) for raw in creates(9, first=3)]
    assert len({one.request_id for one in made}) == len({one.subject for one in made}) == 9
    with pytest.raises(LoadError, match="without a token"):
        tokens([pb.CreateResponse().SerializeToString()])
    with pytest.raises(LoadError, match="not all sessions"):
        check_listed([pb.ListBySubjectResponse().SerializeToString()])
