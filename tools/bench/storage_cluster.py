"""The storage bench on a cluster: server processes on one Cassandra node, beside the driver alone on the same node.

Each round is the driver's and then ours, of the same kind of work, with as many requests under way: the node is as warm
for one as for the other. Where ours write many rows for a record, the driver alone given the same rows is a third. The
best of the rounds counts. What a server does is measured from outside, by gRPC; which tables serve a namespace does not
matter here.
"""

import argparse
from pathlib import Path

from tools.bench.cluster_driver import Driver, keep_best
from tools.bench.figures import Figures, log
from tools.bench.rpc import Started, cpu_s, started
from tools.bench.rpc_load import CONNECTIONS
from tools.bench.storage_calls import IN_FLIGHT, TRIAL, Work, call
from tools.bench.storage_rows import STEP
from tools.bench.storage_world import Requests, check, check_many, cluster_server
from tools.bench.warming import warm_up
from tools.dev.servers.cassandra import Cassandra

BATCHES_IN_FLIGHT = 8
"""Batches under way at once: 800 writes."""
_TRIAL_S = 0.5
SINGLES = ("put", "get")
BATCHES = ("batch_records", "batch_items")
ROWS = {"put": "put_rows", "batch_records": "batch_rows"}
"""What the driver alone does with the rows that ours have, by what it does with one cell."""


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
        """Runs all that is compared until the node is warm for it. Afterwards a round has so many ``seconds``."""
        warm_up(self._tried, warm_up_s)
        for name in self._calls:
            self._calls[name] = max(self._least, int(self._calls[name] * seconds / _TRIAL_S))

    def _tried(self) -> list[float]:
        """A trial of each, in turn: what one cost the node."""
        works = {"driver": self.driver, "ours": self.ours}
        if self.rows is not None:
            works["rows"] = self.driver_rows
        costs = []
        for name, work in works.items():
            found = work()
            self._calls[name] = max(self._least, int(found["per_s"] * _TRIAL_S / self._work.items))
            costs.append(found["node_cpu_us"])
        return costs

    def _by_driver(self, work: str, calls: int, width: int, items: int) -> dict[str, float]:
        before = cpu_s(self._node)
        found = self._driver.round(work, calls, width)
        return {**found, "node_cpu_us": (cpu_s(self._node) - before) * 1e6 / items}
