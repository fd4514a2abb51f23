"""The storage bench on a cluster: server processes on one Cassandra node, beside the driver alone on the same node.

Each round is the driver's and then ours, of the same kind of work, with as many requests under way: the node is as warm
for one as for the other. Where ours write many rows for a record, the driver alone given the same rows is a third. The
best of the rounds counts. What a server does is measured from outside, by gRPC; which tables serve a namespace does not
matter here.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from tools.bench.cluster_driver import Driver, keep_best
from tools.bench.figures import Figures, log
from tools.bench.rpc import Started, cpu_s, started
from tools.bench.rpc_load import CONNECTIONS
from tools.bench.storage_calls import IN_FLIGHT, TRIAL, Work, call
from tools.bench.storage_rows import STEP
from tools.bench.storage_world import Requests, check, check_many, cluster_server
from tools.dev.servers.cassandra import Cassandra

BATCHES_IN_FLIGHT = 8
"""Batches under way at once: 800 writes."""
_TRIALS = 2
"""At least: the first one tells nothing."""
_TRIAL_S = 0.5
SINGLES = ("put", "get")
BATCHES = ("batch_records", "batch_items")
ROWS = {"put": "put_rows", "batch_records": "batch_rows"}
"""What the driver alone does with the rows that ours have, by what it does with one cell."""
_LONGEST = 4
"""Times the warm-up asked for that it takes at most."""
_SETTLED = 0.9
"""A work is warm when it costs the node no less than this share of what it cost some trials before."""


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
        for name, rows in ROWS.items():
            if f"driver_{rows}_per_s" in figures:
                figures[f"{rows}_ratio"] = round(figures[f"{name}_per_s"] / figures[f"driver_{rows}_per_s"], 3)
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
            bench = _WorkBench(driver, running, node, work, width, ROWS.get(work.name) if asked.mode == "LWW" else None)
            bench.warm_up(asked.warm_up, asked.seconds)
            for _ in range(asked.rounds):
                self._keep(f"driver_{work.name}", bench.driver(), width=width)
                self._keep(work.name, bench.ours(), width=width)
                if bench.rows is not None:
                    self._keep(f"driver_{bench.rows}", bench.driver_rows(), width=width)

    def _keep(self, name: str, found: dict[str, float], width: int) -> None:
        """The best of each figure so far; tells what a round came to."""
        keep_best(self._figures, name, found)
        if "per_s" in found:
            log(f"{name}: {found['per_s']:,.0f} a second, {found['cpu_us']:.0f} us of CPU each, {width} under way")


class _WorkBench:
    """Rounds of one kind of work. ``rows``: what the driver alone does with the rows that ours have, if there is
    such."""

    def __init__(self, driver: Driver, running: Started, node: int, work: Work, width: int, rows: str | None) -> None:
        self.rows = rows
        self._driver = driver
        self._running = running
        self._node = node
        self._work = work
        self._width = width
        self._least = width if work.items > 1 else TRIAL
        self._calls = {"driver": self._least, "ours": self._least, "rows": self._least}

    def driver(self) -> dict[str, float]:
        """Figures of a round of the driver alone."""
        calls = self._calls["driver"]
        return self._by_driver(self._work.name, calls, self._width, calls * self._work.items)

    def driver_rows(self) -> dict[str, float]:
        """The same with all rows."""
        assert self.rows is not None
        if self._work.items > 1:
            calls = self._calls["rows"]
            return self._by_driver(self.rows, calls, self._width, calls * self._work.items)
        steps = -(-self._calls["rows"] // STEP)
        return self._by_driver(self.rows, steps, self._width // STEP, steps * STEP)

    def ours(self) -> dict[str, float]:
        """Figures of a round of ours."""
        calls, items = self._calls["ours"], self._work.items
        before = cpu_s(self._node)
        per_s, cpu_us, outcome = call(self._running, self._work, calls, self._width)
        used_s = cpu_s(self._node) - before
        return {
            "per_s": per_s,
            "cpu_us": cpu_us,
            "p50_ms": outcome.quantile_ms(0.5),
            "p99_ms": outcome.quantile_ms(0.99),
            "node_cpu_us": used_s * 1e6 / ((calls + CONNECTIONS) * items),
        }

    def warm_up(self, warm_up_s: float, seconds: float) -> None:
        """Trials, in turn, for as long as asked for, and then until ours cost the node no less than before: it compiles
        what it runs often, and our statements are many. Afterwards a round has so many ``seconds``."""
        began_s = time.monotonic()
        costs: list[float] = []
        while True:
            self._trial("driver", self.driver(), _TRIAL_S)
            found = self.ours()
            self._trial("ours", found, _TRIAL_S)
            costs.append(found["node_cpu_us"])
            if self.rows is not None:
                self._trial("rows", self.driver_rows(), _TRIAL_S)
            took_s = time.monotonic() - began_s
            if len(costs) < _TRIALS or took_s < warm_up_s:
                continue
            if settled(costs) or took_s >= _LONGEST * warm_up_s:
                break
        for name in self._calls:
            self._calls[name] = max(self._least, int(self._calls[name] * seconds / _TRIAL_S))

    def _trial(self, name: str, found: dict[str, float], seconds: float) -> None:
        self._calls[name] = max(self._least, int(found["per_s"] * seconds / self._work.items))

    def _by_driver(self, work: str, calls: int, width: int, items: int) -> dict[str, float]:
        before = cpu_s(self._node)
        found = self._driver.round(work, calls, width)
        return {**found, "node_cpu_us": (cpu_s(self._node) - before) * 1e6 / items}


def settled(costs: Sequence[float]) -> bool:
    """Whether a work is warm, by what its trials cost the node."""
    return len(costs) >= 6 and sum(costs[-3:]) >= _SETTLED * sum(costs[-6:-3])
