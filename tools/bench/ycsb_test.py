"""The YCSB bench runs all six workloads on a real server, what is read being what was written; an error spoils it."""

import json
import subprocess
import sys

import pytest

from libs.rpc.testing.harness import environment
from tools.bench import ycsb
from tools.bench.rpc_load import LoadError

OPERATIONS = {
    "a": {"read", "update"},
    "b": {"read", "update"},
    "c": {"read"},
    "d": {"read", "insert"},
    "e": {"scan", "insert"},
    "f": {"read", "update", "read_modify_write"},
}


def run_bench(*arguments):
    command = [sys.executable, "-m", "tools.bench.ycsb", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, check=False)


def test_all_workloads_have_their_figures():
    done = run_bench("--records", "300", "--operations", "1000", "--threads", "8", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for workload, operations in OPERATIONS.items():
        for whose in (workload, f"raw_{workload}"):
            assert told[f"{whose}_per_s"] > 0 and told[f"{whose}_cpu_s_per_10k"] >= 0
            measured = {name for name in told if name.startswith(f"{whose}_") and name.endswith("_p99_ms")}
            assert measured == {f"{whose}_{operation}_p99_ms" for operation in operations}
        ratio = told[f"{workload}_per_s"] / told[f"raw_{workload}_per_s"]
        assert told[f"{workload}_ratio"] == pytest.approx(ratio, abs=0.001)


def test_an_operation_that_failed_spoils_the_measurement():
    good = {"Operation": "READ", "Count": "3", "99th(us)": "7"}
    assert ycsb.read_measured(json.dumps([good])) == {"READ": {"Count": 3.0, "99th(us)": 7.0}}
    with pytest.raises(LoadError, match="3 operations ended as READ_ERROR"):
        ycsb.read_measured(json.dumps([good | {"Operation": "READ_ERROR"}]))


def test_a_namespace_that_is_not_there_is_an_error(tmp_path):
    with ycsb.started(ycsb.server("grpcio", 16, 16)) as running:
        program = ycsb.Ycsb(tmp_path, records=10, operations=10, threads=1)
        program.load(running)
        assert program.run(running, "c")["READ"]["Count"] == 10
        program._common["table"] = "nowhere"
        with pytest.raises(LoadError, match=r"operation err.*no namespace"):
            program.run(running, "c")


@pytest.mark.parametrize("wrong", [["--threads", "0"], ["--records", "5", "--threads", "8"], ["--workload", "g"]])
def test_nonsense_is_refused(wrong):
    done = run_bench(*wrong)
    assert done.returncode == 2 and wrong[-2] in done.stderr
