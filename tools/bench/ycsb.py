"""The YCSB bench: its workloads A to F, by go-ycsb, on the storage service beside its engine behind bare gRPC; on a
cluster beside the driver behind bare gRPC.

Both servers get the same requests from the same program (tools/go/cmd/ycsb). A table is a namespace, a row a record, a
field an item of it: an update writes one item. Every value that is read is checked against what was written.

./bazelw run //tools/bench:ycsb -- --workload a --workload e --json
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tools.bench.figures import Figures, add_options, log, run_folder, tell_figures
from tools.bench.rpc import Started, started
from tools.bench.rpc_load import LoadError
from tools.bench.rpc_targets import Target
from tools.bench.storage_world import ENGINES, SPACE, cluster_server, environment, server
from tools.dev.servers import locate
from tools.dev.servers.cassandra import Cassandra
from tools.dev.servers.process import ServerError

WORKLOADS: dict[str, dict[str, Any]] = {
    "a": {"readproportion": 0.5, "updateproportion": 0.5},
    "b": {"readproportion": 0.95, "updateproportion": 0.05},
    "c": {"readproportion": 1},
    "d": {"readproportion": 0.95, "insertproportion": 0.05, "requestdistribution": "latest"},
    "e": {
        "scanproportion": 0.95,
        "insertproportion": 0.05,
        "maxscanlength": 100,
        "scanlengthdistribution": "uniform",
    },
    "f": {"readproportion": 0.5, "readmodifywriteproportion": 0.5},
}
"""Beside NOTHING; as the authors of YCSB define them (Cooper et al., 2010, table 2, and their workload files)."""
NOTHING: dict[str, Any] = {
    "readproportion": 0,
    "updateproportion": 0,
    "insertproportion": 0,
    "scanproportion": 0,
    "readmodifywriteproportion": 0,
    "requestdistribution": "zipfian",
}
RAW = "raw"
"""The peer's figures have it before their names."""
_PATIENCE_S = 1_800


def raw_server() -> Target:
    """The engine behind bare grpc.aio."""
    return Target(RAW, lambda folder: [sys.executable, "-m", "tools.bench.ycsb_raw", str(folder / "data")], [])


def raw_cluster_server(address: str) -> Target:
    """The driver behind bare grpc.aio, on the cluster with a node at ``address``."""
    return Target(RAW, lambda folder: [sys.executable, "-m", "tools.bench.ycsb_raw_cluster", address], [])


def sides(asked: argparse.Namespace, stack: ExitStack) -> list[tuple[str, Started]]:
    """The peer and ours, started, each with what stands before its figures' names; for a cluster a node before them.
    Raises ServerError without a node."""
    if asked.backend == "embedded":
        targets = [raw_server(), server(asked.engine, 64, 64)]
    else:
        node = stack.enter_context(Cassandra(commit_log="periodic", heap_mib=asked.heap_mib, measured=True))
        log(f"a node with a heap of {asked.heap_mib} MiB")
        targets = [raw_cluster_server(node.address), cluster_server(node.address, "LWW", 1, asked.engine)]
    peer, ours = (stack.enter_context(started(target)) for target in targets)
    return [(f"{RAW}_", peer), ("", ours)]


class Ycsb:
    """The program, and how many rows, operations and threads it is given."""

    def __init__(self, folder: Path, records: int, operations: int, threads: int) -> None:
        """Raises ServerUnavailable or ServerRequired where the program cannot be built."""
        self._program = locate.repository("go_tools") / "bin/ycsb"
        self._folder = folder
        self._common: dict[str, Any] = {
            "table": SPACE,
            "silence": "false",
            "recordcount": records,
            "operationcount": operations,
            "threadcount": threads,
            "dataintegrity": "true",
            "fieldlengthdistribution": "constant",
        }

    def load(self, running: Started) -> None:
        """Inserts the rows, and the one behind them: go-ycsb's zipfian choice reaches it. Raises LoadError."""
        self._run(running, {"dotransactions": "false", "recordcount": self._common["recordcount"] + 1})

    def run(self, running: Started, workload: str) -> dict[str, dict[str, float]]:
        """Runs a workload; what go-ycsb measured, by operation. Raises LoadError."""
        return self._run(running, NOTHING | WORKLOADS[workload])

    def _run(self, running: Started, properties: dict[str, Any]) -> dict[str, dict[str, float]]:
        output = self._folder / "measured.json"
        given = self._common | properties | {"measurement.output_file": output}
        words = [f"{name}={value}" for name, value in given.items()]
        done = subprocess.run(
            [self._program, "-target", running.address, *words],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        told = done.stdout + done.stderr
        if done.returncode or "operation err" in told:
            raise LoadError(f"{running.target.name}: go-ycsb failed ({done.returncode}): {told[-2000:]}")
        return read_measured(output.read_text())


def read_measured(text: str) -> dict[str, dict[str, float]]:
    """go-ycsb's output: figures by operation. Raises LoadError when an operation failed."""
    found = {}
    for row in json.loads(text):
        operation = row.pop("Operation")
        if operation.endswith("_ERROR"):
            raise LoadError(f"{row['Count']} operations ended as {operation}")
        found[operation] = {name: float(value) for name, value in row.items()}
    return found


def measure(folder: Path, asked: argparse.Namespace) -> Figures:
    """All workloads asked for, both servers in turn. Raises LoadError."""
    ycsb = Ycsb(folder, asked.records, asked.operations, asked.threads)
    figures: Figures = {"records": asked.records, "operations": asked.operations, "threads": asked.threads}
    with ExitStack() as stack:
        both = sides(asked, stack)
        for _, running in both:
            ycsb.load(running)
        for workload in asked.workload or WORKLOADS:
            for _ in range(asked.rounds):
                for prefix, running in both:
                    before_s = running.cpu_s()
                    measured = ycsb.run(running, workload)
                    cpu_s = (running.cpu_s() - before_s) * 10_000 / asked.operations
                    _keep(figures, f"{prefix}{workload}", measured, cpu_s)
            ours, raw = figures[f"{workload}_per_s"], figures[f"{RAW}_{workload}_per_s"]
            figures[f"{workload}_ratio"] = round(ours / raw, 3)
            log(f"{workload}: {ours:,} a second, what lies behind bare gRPC {raw:,}")
    return figures


def _keep(figures: Figures, name: str, measured: dict[str, dict[str, float]], cpu_s: float) -> None:
    """The best of each figure so far."""
    told: list[tuple[str, float, Callable[..., float]]] = [
        (f"{name}_per_s", round(measured["TOTAL"]["OPS"]), max),
        (f"{name}_cpu_s_per_10k", round(cpu_s, 3), min),
    ]
    for operation in sorted(measured.keys() - {"TOTAL"}):
        told.append((f"{name}_{operation.lower()}_p99_ms", measured[operation]["99th(us)"] / 1000, min))
    for kept, value, better in told:
        figures[kept] = better(figures.get(kept, value), value)


def main(words: Sequence[str] | None = None, tell: Callable[[str], None] = print) -> int:
    """Measures; prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("embedded", "cassandra"), default="embedded")
    parser.add_argument("--heap-mib", type=int, default=512, help="of the node, with --backend cassandra")
    parser.add_argument("--workload", action="append", choices=sorted(WORKLOADS), help="which (default: all)")
    parser.add_argument("--records", type=int, default=10_000, help="rows of ten fields of 100 bytes")
    parser.add_argument("--operations", type=int, default=20_000, help="of each workload and round")
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2, help="the best counts")
    parser.add_argument("--engine", choices=ENGINES, default="grpcio", help="of our server")
    add_options(parser)
    asked = parser.parse_args(words)
    for name, value, most in (
        ("--records", asked.records, 10_000_000),
        ("--operations", asked.operations, 100_000_000),
        ("--threads", asked.threads, 1_000),
        ("--rounds", asked.rounds, 100),
    ):
        if not 1 <= value <= most:
            parser.error(f"{name}: 1 to {most:,} are allowed")
    if not 256 <= asked.heap_mib <= 65_536:
        parser.error("--heap-mib: 256 to 65,536 are allowed")
    if asked.threads > min(asked.records, asked.operations):
        parser.error("--threads: at most --records and --operations, so that each has one")
    try:
        with run_folder("ycsb", asked.folder) as folder:
            figures = measure(folder, asked)
    except (LoadError, ServerError) as error:
        print(f"ycsb bench: {error}", file=sys.stderr)
        return 1
    tell_figures(figures, asked.json, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
