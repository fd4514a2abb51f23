"""The storage bench on a cluster: server processes on one Cassandra node, beside the driver alone on the same node.

Each round is the driver's and then ours, of the same kind of work, with as many requests under way: the node is as warm
for one as for the other. The best of the rounds counts. What a server does is measured from outside, by gRPC; which
tables serve a namespace does not matter here.
"""

import argparse
import time
from pathlib import Path

from tools.bench.cluster_driver import Driver, keep_best
from tools.bench.figures import Figures, log
from tools.bench.rpc import Started, cpu_s, started
from tools.bench.rpc_load import CONNECTIONS
from tools.bench.storage_calls import IN_FLIGHT, TRIAL, Work, call
from tools.bench.storage_world import Requests, check, check_many, cluster_server
from tools.dev.servers.cassandra import Cassandra

BATCHES_IN_FLIGHT = 8
"""Batches under way at once: 800 writes."""
_TRIALS = 2
"""At least: the first one tells nothing."""
_TRIAL_S = 0.5
SINGLES = ("put", "get")
BATCHES = ("batch_records", "batch_items")


class ClusterBench:
    """One run: a node, the driver's process and the servers, in a folder of its own."""

    def __init__(self, folder: Path, asked: argparse.Namespace) -> None:
        self._folder = folder
        self._asked = asked
        self._figures: Figures = {
            "value_bytes": asked.value_bytes,
            "item_bytes": asked.item_bytes,
            "servers": asked.servers,
            "warm_up_s": asked.warm_up,
            "native_engine": int(asked.engine == "native"),
        }

    def run(self) -> Figures:
        """All of it. Raises LoadError when something did not do what it was asked, ServerError without a node."""
        asked = self._asked
        with Cassandra(commit_log=asked.commit_log, heap_mib=asked.heap_mib, measured=True) as node:
            log(f"a node with a heap of {asked.heap_mib} MiB, commit log {asked.commit_log}")
            with started(cluster_server(node.address, asked.mode, 1)):
                log(f"a namespace of mode {asked.mode}")
            with (
                Driver.running(node.address, self._folder, self._rows()) as driver,
                started(cluster_server(node.address, None, asked.servers, asked.engine)) as running,
            ):
                self._measure(driver, running, node.nodes[0].pid)
        figures = self._figures
        for name in (*SINGLES, *BATCHES):
            figures[f"{name}_ratio"] = round(figures[f"{name}_per_s"] / figures[f"driver_{name}_per_s"], 3)
        figures["single_ratio"] = min(figures[f"{name}_ratio"] for name in SINGLES)
        figures["batch_ratio"] = figures["batch_records_ratio"]
        figures["p99_ratio"] = max(
            round(figures[f"{name}_p99_ms"] / figures[f"driver_{name}_p99_ms"], 2) for name in SINGLES
        )
        return figures

    def _rows(self) -> dict[str, str | int]:
        """What the driver writes and reads."""
        asked = self._asked
        return {
            "mode": asked.mode,
            "value-bytes": asked.value_bytes,
            "item-bytes": asked.item_bytes,
            "batch": asked.batch,
        }

    def _measure(self, driver: Driver, running: Started, node: int) -> None:
        asked = self._asked
        requests = Requests(asked.value_bytes, asked.item_bytes, asked.batch)
        works = [
            Work("put", "Put", requests.puts, 1),
            Work("get", "Get", requests.gets, 1),
            Work("batch_records", "PutMany", requests.many, asked.batch, check_many),
            Work("batch_items", "BatchMutate", requests.item_batches, asked.batch, check),
        ]
        for work in works:
            width = BATCHES_IN_FLIGHT if work.items > 1 else IN_FLIGHT
            calls = self._calls(driver, running, work, width)
            for _ in range(asked.rounds):
                before = cpu_s(node)
                self._keep(f"driver_{work.name}", driver.round(work.name, calls[0], width), width=width)
                between = cpu_s(node)
                per_s, cpu_us, outcome = call(running, work, calls[1], width)
                after = cpu_s(node)
                ours = {
                    "per_s": per_s,
                    "cpu_us": cpu_us,
                    "p50_ms": outcome.quantile_ms(0.5),
                    "p99_ms": outcome.quantile_ms(0.99),
                    "node_cpu_us": (after - between) * 1e6 / ((calls[1] + CONNECTIONS) * work.items),
                }
                self._keep(work.name, ours, width=width)
                raw_node_us = (between - before) * 1e6 / (calls[0] * work.items)
                self._keep(f"driver_{work.name}", {"node_cpu_us": raw_node_us}, width=width)

    def _calls(self, driver: Driver, running: Started, work: Work, width: int) -> tuple[int, int]:
        """How many calls make a round, the driver's and ours: by trials, in turn, for as long as all concerned are to
        warm up. The node compiles what it runs often: our statements are many, and take it longer than the driver's."""
        least = width if work.items > 1 else TRIAL
        ends = time.monotonic() + self._asked.warm_up
        raw = ours = 0.0
        trials = 0
        while trials < _TRIALS or time.monotonic() < ends:
            raw = driver.round(work.name, max(least, int(raw * _TRIAL_S / work.items)), width)["per_s"]
            ours = call(running, work, max(least, int(ours * _TRIAL_S / work.items)), width)[0]
            trials += 1
        seconds = self._asked.seconds
        return max(least, int(raw * seconds / work.items)), max(least, int(ours * seconds / work.items))

    def _keep(self, name: str, found: dict[str, float], width: int) -> None:
        """The best of each figure so far; tells what a round came to."""
        keep_best(self._figures, name, found)
        if "per_s" in found:
            log(f"{name}: {found['per_s']:,.0f} a second, {found['cpu_us']:.0f} us of CPU each, {width} under way")
