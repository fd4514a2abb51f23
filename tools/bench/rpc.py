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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import uvloop

from tools.bench.rpc_load import CONNECTIONS, LoadError, Outcome, run_load
from tools.bench.rpc_services import service_targets
from tools.bench.rpc_targets import BATCH_ITEMS, Calls, Load, Target, echo_targets

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_S = 60
TRIAL_CALLS = {"single": 256, "batch": 16}
CPU_RATIOS = (
    ("pipeline_cpu_ratio", "echo", "bare"),
    ("native_ratio", "echo", "native"),
    ("native_bare_ratio", "bare", "native_bare"),
    ("storage_native_ratio", "storage_get", "storage_native_get"),
    ("session_native_ratio", "session_validate", "session_native_validate"),
    ("propagation_native_ratio", "propagation_publish", "propagation_native_publish"),
)
"""CPU of a call of one against the other."""


@dataclass
class Round:
    """One round of one method: calls a second, CPU seconds of the server for 10,000 calls, and the latency that one
    call in a hundred is above."""

    per_s: float
    cpu_s_per_10k: float
    p99_ms: float

    def best_of(self, other: "Round") -> "Round":
        """The better of each figure."""
        return Round(
            max(self.per_s, other.per_s),
            min(self.cpu_s_per_10k, other.cpu_s_per_10k),
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
        return sum(map(cpu_s, self.pids))


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used (proc(5), stat)."""
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
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def measure(server: Started, load: Load, made: Calls, count: int) -> Round:
    """One round of ``count`` calls: singles with 64 under way, batches with 8. Raises LoadError."""
    if load.before is not None:
        load.before(server.address)
    streams = 8 if made is load.single else 1
    total, step, calls = Outcome(0.0), made, count
    cpu_s = 0.0
    while True:
        requests = step.requests(calls + CONNECTIONS)
        keep = step.check is not None or step.then is not None
        before = server.cpu_s()
        outcome: Outcome = uvloop.run(
            run_load(server.address, step.method, requests, calls=calls, streams=streams, keep_answers=keep)
        )
        cpu_s += (server.cpu_s() - before) * calls / (calls + CONNECTIONS)
        total.seconds += outcome.seconds
        total.latencies_s += outcome.latencies_s
        if step.check is not None:
            step.check(outcome.answers)
        if step.then is None:
            return Round(count / total.seconds, cpu_s / count * 10_000, total.quantile_ms(0.99))
        step = step.then(outcome.answers)


def _calls_of(load: Load, made: Calls, trial: Round, seconds: float) -> int:
    """How many calls take about ``seconds``, by a trial."""
    items = 1 if made is load.single else BATCH_ITEMS
    return max(CONNECTIONS, min(int(trial.per_s * seconds), load.most_items // items - 2 * CONNECTIONS))


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


def run(only: Sequence[str], seconds: float, rounds: int) -> dict[str, dict[str, Round]]:
    """All targets whose names begin as one of ``only`` says (all, when it is empty), in turn, ``rounds`` times; for
    each load its best figures, single and batch. Raises LoadError."""
    best: dict[str, dict[str, Round]] = {}
    with ExitStack() as stack:
        targets = echo_targets(stack.enter_context(collector())) + service_targets()
        chosen = [target for target in targets if not only or target.name.startswith(tuple(only))]
        if not chosen:
            raise LoadError(f"--only names none of: {', '.join(target.name for target in targets)}")
        plan: list[tuple[Started, Load, str, Calls, int]] = []
        for server in [stack.enter_context(started(target)) for target in chosen]:
            for load in server.target.loads:
                for kind, made in (("single", load.single), ("batch", load.batch)):
                    if made is not None:
                        trial = measure(server, load, made, TRIAL_CALLS[kind])
                        plan.append((server, load, kind, made, _calls_of(load, made, trial, seconds)))
        for number in range(rounds):
            for server, load, kind, made, calls in plan:
                found = measure(server, load, made, calls)
                _progress(f"round {number + 1}, {load.name}, {kind}: {found.per_s:,.0f} calls/s, ", found)
                kinds = best.setdefault(load.name, {})
                kinds[kind] = found.best_of(kinds.get(kind, found))
    return best


def _progress(text: str, found: Round) -> None:
    print(f"{text}{found.cpu_s_per_10k:.2f} CPU s per 10,000, p99 {found.p99_ms:.1f} ms", file=sys.stderr, flush=True)


def summary(best: dict[str, dict[str, Round]]) -> dict[str, float]:
    """One flat object: figures with their units in the names, and the ratios.

    ``<load>_per_s`` calls a second, ``<load>_cpu_s_per_10k`` CPU seconds of the server for 10,000 calls,
    ``<load>_p99_ms``; of batches ``<load>_batch_items_per_s``, ``<load>_batch_cpu_s_per_10k`` for 10,000 batches, and
    ``<load>_batch_ratio``, items a second against single calls.
    """
    told: dict[str, float] = {}
    for name, kinds in best.items():
        single = kinds["single"]
        told[f"{name}_per_s"] = round(single.per_s)
        told[f"{name}_cpu_s_per_10k"] = round(single.cpu_s_per_10k, 3)
        told[f"{name}_p99_ms"] = round(single.p99_ms, 2)
        if "batch" in kinds:
            batch = kinds["batch"]
            told[f"{name}_batch_items_per_s"] = round(batch.per_s * BATCH_ITEMS)
            told[f"{name}_batch_cpu_s_per_10k"] = round(batch.cpu_s_per_10k, 3)
            told[f"{name}_batch_ratio"] = round(batch.per_s * BATCH_ITEMS / single.per_s, 1)
    cost = {name: max(kinds["single"].cpu_s_per_10k, 1e-3) for name, kinds in best.items()}
    for ratio, above, below in CPU_RATIOS:
        if above in cost and below in cost:
            told[ratio] = round(cost[above] / cost[below], 2)
    if "workers" in best and "echo" in best:
        told["workers_ratio"] = round(best["workers"]["single"].per_s / best["echo"]["single"].per_s, 2)
    return told


def main() -> int:
    """Measures, prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.8, help="of a round of a method, about")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of every method; the best counts")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="targets whose names begin so")
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    told = parser.parse_args()
    if not told.seconds > 0 or told.rounds < 1:
        parser.error("--seconds is above 0, --rounds 1 or more")
    try:
        figures = summary(run(told.only, told.seconds, told.rounds))
    except LoadError as error:
        print(f"rpc bench: {error}", file=sys.stderr)
        return 1
    if told.json:
        print(json.dumps(figures))
    else:
        width = max(map(len, figures))
        print("\n".join(f"{name:<{width}}  {value:>12,}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
