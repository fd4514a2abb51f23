"""The storage bench measures what it says: a small run has every figure, and a mutation that did nothing spoils it."""

import json
import subprocess
import sys
from typing import Any

import pytest

from libs.rpc.testing.harness import environment
from tools.bench.rpc_load import LoadError
from tools.bench.storage import RATIOS
from tools.bench.storage_world import Requests, check, check_many, pieces
from wellspring.storage.v1 import storage_pb2 as pb


def run_bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tools.bench.storage", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, check=False)


def test_a_small_run_has_every_figure() -> None:
    small = ["--seconds", "0.05", "--rounds", "1", "--batch", "20", "--items", "3000"]
    done = run_bench(*small, "--scan-mib", "2", "--blob-mib", "3", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for name in (
        "put",
        "get",
        "put_many",
        "batch_records",
        "batch_items",
        "native_put",
        "native_get",
        "native_put_many",
    ):
        # So few calls may take less than one tick of the kernel's count.
        assert told[f"{name}_per_s"] > 0 and told[f"{name}_cpu_s_per_10k"] >= 0
    for ratio, ours, raw in RATIOS:
        assert told[raw] > 0 and told[ratio] == pytest.approx(told[ours] / told[raw], abs=0.001)
    assert told["scan_records"] == 2_048 - 2_048 % 20 + 8 * 20  # one request on each connection comes before
    for name in ("upload", "download"):
        assert told[f"{name}_mib_per_s"] > 0 and told[f"{name}_memory_mib"] >= 0
    assert told["resident_items"] >= 3000 and told["memory_bound_mib"] == 128 and told["memory_idle_mib"] > 0


def test_nonsense_is_refused() -> None:
    for wrong in (
        ["--batch", "501"],
        ["--seconds", "0"],
        ["--rounds", "0"],
        ["--items", "-1"],
        ["--scan-mib", "0"],
        ["--blob-mib", "1025"],
        ["--backend", "sqlite"],
    ):
        done = run_bench(*wrong)
        assert done.returncode == 2 and wrong[0] in done.stderr


def test_every_mutation_is_a_new_one() -> None:
    requests = Requests(10, 10, 5)
    made: list[Any] = [pb.PutRequest.FromString(raw) for raw in requests.puts(7)]
    for raw in [*requests.record_batches(3), *requests.item_batches(4, 2)]:
        made += pb.BatchMutateRequest.FromString(raw).requests
    assert len(made) == 7 + 3 * 5 + 4 * 2
    assert len({one.token.nonce for one in made}) == len({one.record for one in made}) == len(made)
    assert {len(one.mutations) for one in made[22:]} == {5}
    many = [pb.PutManyRequest.FromString(raw) for raw in requests.many(3)]
    records = [record for one in many for record in one.records]
    assert len({*records, *(one.record for one in made)}) == 15 + len(made)
    assert len({one.token.nonce for one in many}) == 3 and all(len(one.values) == 5 for one in many)
    there = {one.record for one in made[:22]} | set(records)
    assert all(pb.GetRequest.FromString(raw).record in there for raw in requests.gets(50))


def test_a_mutation_that_did_nothing_spoils_the_measurement() -> None:
    good = pb.BatchMutateResponse.Result(receipt=pb.Receipt(outcome=pb.OUTCOME_APPLIED))
    superseded = pb.BatchMutateResponse.Result(receipt=pb.Receipt(outcome=pb.OUTCOME_SUPERSEDED))
    refused = pb.BatchMutateResponse.Result()
    refused.status.code = 5
    check([pb.BatchMutateResponse(results=[good, good]).SerializeToString()])
    for bad in ([good, superseded], [refused], []):
        with pytest.raises(LoadError):
            check([pb.BatchMutateResponse(results=bad).SerializeToString()])


def test_a_put_of_many_that_did_nothing_spoils_it_too() -> None:
    check_many([pb.PutManyResponse(outcomes=b"\1\1\1").SerializeToString()])
    for bad in (b"", b"\1\0", b"\1\3", b"\2"):
        with pytest.raises(LoadError):
            check_many([pb.PutManyResponse(outcomes=bad).SerializeToString()])


def test_pieces() -> None:
    assert list(pieces(10, 4)) == [4, 4, 2] and list(pieces(0, 4)) == []
