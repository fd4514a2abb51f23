"""The rpc bench: what a call costs a server, beside a bare echo on the raw library in the same run.

Servers run as processes of their own; their CPU seconds are read from the kernel. Every target is measured in several
short rounds, all targets in turn, and the round that took the least CPU counts: noise on a shared machine only ever
adds.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import uvloop

from tools.bench.rpc_load import Outcome, run_load
from tools.bench.rpc_targets import BATCH_ITEMS, Target, echo_targets, service_targets

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
START_S = 60


@dataclass
class Round:
    """One round of one target: calls a second, CPU seconds of the server for 10,000 calls, latencies."""

    per_s: float
    cpu_s_per_10k: float
    p50_ms: float
    p99_ms: float

    def best_of(self, other: "Round") -> "Round":
        """The better of each figure."""
        return Round(
            max(self.per_s, other.per_s),
            min(self.cpu_s_per_10k, other.cpu_s_per_10k),
            min(self.p50_ms, other.p50_ms),
            min(self.p99_ms, other.p99_ms),
        )


@dataclass
class Started:
    """A target's server while it runs."""

    target: Target
    address: str
    pids: list[int]

    def cpu_s(self) -> float:
        """CPU seconds that its processes have used."""
        return sum(map(_cpu_s, self.pids))


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS_PER_S


@contextmanager
def started(target: Target) -> Iterator[Started]:
    """Starts the server of ``target`` in a folder of its own; stops it and removes the folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bench-rpc-"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            target.command(folder), env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{target.name} did not start:\n{(folder / 'stderr').read_text()}")
        ready: dict[str, Any] = json.loads(line)
        if target.prepare is not None:
            target.prepare(ready["listen"][0])
        yield Started(target, ready["listen"][0], [process.pid, *ready["workers"]])
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def measure(server: Started, *, batch: bool, calls: int) -> Round:
    """One round."""
    target = server.target
    method = target.batch_method if batch else target.method
    requests = (target.batch if batch and target.batch is not None else target.single)()
    before = server.cpu_s()
    outcome: Outcome = uvloop.run(run_load(server.address, method, requests, calls=calls))
    cpu_s = server.cpu_s() - before
    return Round(
        outcome.calls / outcome.seconds,
        cpu_s / outcome.calls * 10_000,
        outcome.quantile_ms(0.5),
        outcome.quantile_ms(0.99),
    )


@contextmanager
def collector() -> Iterator[str]:
    """A collector of traces that throws them away; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/traces"
        finally:
            server.shutdown()
            thread.join()


def run(calls: int, rounds: int) -> dict[str, dict[str, Round]]:
    """All targets in turn, ``rounds`` times; for each its best figures, single and batch."""
    best: dict[str, dict[str, Round]] = {}
    with ExitStack() as stack:
        targets = echo_targets(stack.enter_context(collector())) + service_targets()
        servers = [stack.enter_context(started(target)) for target in targets]
        for number in range(rounds):
            for server in servers:
                kinds = ["single", "batch"] if server.target.batch is not None else ["single"]
                for kind in kinds:
                    share = server.target.calls_share / (5 if kind == "batch" else 1)
                    found = measure(server, batch=kind == "batch", calls=max(64, int(calls * share)))
                    _progress(f"round {number + 1}, {server.target.name}, {kind}: {found.per_s:,.0f} calls/s, ", found)
                    kinds_best = best.setdefault(server.target.name, {})
                    kinds_best[kind] = found.best_of(kinds_best.get(kind, found))
    return best


def _progress(text: str, found: Round) -> None:
    print(f"{text}{found.cpu_s_per_10k:.2f} CPU s per 10,000, p99 {found.p99_ms:.1f} ms", file=sys.stderr, flush=True)


def summary(best: dict[str, dict[str, Round]]) -> dict[str, float]:
    """One flat object: figures with their units in the names, and the ratios."""
    told: dict[str, float] = {}
    for name, kinds in best.items():
        single = kinds["single"]
        told[f"{name}_calls_per_s"] = round(single.per_s)
        told[f"{name}_cpu_s_per_10k"] = round(single.cpu_s_per_10k, 3)
        told[f"{name}_p50_ms"] = round(single.p50_ms, 2)
        told[f"{name}_p99_ms"] = round(single.p99_ms, 2)
        if "batch" in kinds:
            told[f"{name}_batch_items_per_s"] = round(kinds["batch"].per_s * BATCH_ITEMS)
            told[f"{name}_batch_ratio"] = round(kinds["batch"].per_s * BATCH_ITEMS / single.per_s, 1)
    cost = {name: max(kinds["single"].cpu_s_per_10k, 1e-3) for name, kinds in best.items()}
    told["pipeline_cpu_ratio"] = round(cost["echo"] / cost["bare"], 3)
    told["workers_ratio"] = round(best["workers"]["single"].per_s / best["echo"]["single"].per_s, 2)
    told["native_ratio"] = round(cost["echo"] / cost["native"], 2)
    told["native_bare_ratio"] = round(cost["bare"] / cost["native_bare"], 2)
    return told


def main() -> int:
    """Measures, prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000, help="calls a round")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of every target")
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    told = parser.parse_args()
    figures = summary(run(told.calls, told.rounds))
    if told.json:
        print(json.dumps(figures))
    else:
        width = max(map(len, figures))
        print("\n".join(f"{name:<{width}}  {value:>12,}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
