"""The storage bench: puts, gets and batches through gRPC to a real server, beside its engine called directly; on a
cluster (``storage_cluster``) beside the driver alone.

Singles, batches of flat records and batches of the items of a record, each with 64 requests in flight, in several
rounds, of which the best counts: noise on a shared machine only ever takes away. Every mutation is new, and must say
that it was applied. A namespace is scanned, a big value sent and fetched. Then millions of items are made resident, and
the server's memory is compared with what its configuration allows.

./bazelw run //tools/bench:storage -- --backend embedded --items 10000000 --json
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tools.bench.figures import Figures, add_options, log, run_folder, tell_figures
from tools.bench.rpc import Started, started
from tools.bench.rpc_load import CONNECTIONS, LoadError, Outcome
from tools.bench.storage_calls import IN_FLIGHT, TRIAL, Work, call
from tools.bench.storage_cluster import ClusterBench
from tools.bench.storage_streams import big_value, scan
from tools.bench.storage_world import (
    ENGINES,
    Requests,
    check,
    check_many,
    environment,
    forget_peak,
    memory_mib,
    pieces,
    server,
)
from tools.dev.servers.process import ServerError

RATIOS = (
    ("put_ratio", "put_per_s", "raw_put_per_s"),
    ("native_put_ratio", "native_put_per_s", "raw_put_per_s"),
    ("get_ratio", "get_per_s", "raw_get_per_s"),
    ("batch_ratio", "put_many_per_s", "raw_batch_records_per_s"),
    ("native_batch_ratio", "native_put_many_per_s", "raw_batch_records_per_s"),
    ("batch_rows_ratio", "put_many_per_s", "raw_batch_rows_per_s"),
    ("batch_records_ratio", "batch_records_per_s", "raw_batch_records_per_s"),
    ("batch_items_ratio", "batch_items_per_s", "raw_batch_items_per_s"),
    ("scan_ratio", "scan_mib_per_s", "raw_scan_mib_per_s"),
)
_RESIDENT_AT_ONCE = 500_000
"""Items whose requests exist at once in the bench."""
_RESIDENT_RECORDS = 10
"""Records of a request that loads items."""
_TOLD_EVERY_S = 15.0
_RAW_ROUNDS = 5
_RAW_TIMEOUT_S = 600


class Bench:
    """One run, in a folder of its own."""

    def __init__(self, folder: Path, asked: argparse.Namespace) -> None:
        self._folder = folder
        self._asked = asked
        self._figures: Figures = {"value_bytes": asked.value_bytes, "item_bytes": asked.item_bytes}

    def run(self) -> Figures:
        """All of it. Raises LoadError when the service did not do what it was asked."""
        asked = self._asked
        self._raw()
        for engine in ENGINES:
            with started(server(engine, asked.cache_mib, asked.write_buffer_mib)) as running:
                self._measure(engine, running)
        self._streams()
        figures = self._figures
        for ratio, ours, raw in RATIOS:
            figures[ratio] = round(figures[ours] / figures[raw], 3)
        if asked.items:
            with started(server("grpcio", asked.cache_mib, asked.write_buffer_mib)) as running:
                self._resident(running)
        return figures

    def _raw(self) -> None:
        asked = self._asked
        command = [sys.executable, "-m", "tools.bench.storage_raw", "--folder", str(self._folder)]
        for name, value in (
            ("seconds", asked.seconds),
            ("value-bytes", asked.value_bytes),
            ("item-bytes", asked.item_bytes),
            ("in-flight", IN_FLIGHT),
            ("batch", asked.batch),
        ):
            command += [f"--{name}", str(value)]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=_RAW_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise LoadError(f"the engine alone failed: {done.stderr[-2000:]}")
        self._figures |= json.loads(done.stdout.splitlines()[-1])
        log(f"the engine alone: {done.stdout.splitlines()[-1]}")

    def _measure(self, engine: str, running: Started) -> None:
        asked = self._asked
        requests = Requests(asked.value_bytes, asked.item_bytes, asked.batch)
        works = [
            Work("put", "Put", requests.puts, 1),
            Work("get", "Get", requests.gets, 1),
            Work("put_many", "PutMany", requests.many, asked.batch, check_many),
        ]
        if engine == "grpcio":
            works += [
                Work("batch_records", "BatchMutate", requests.record_batches, asked.batch, check),
                Work("batch_items", "BatchMutate", requests.item_batches, asked.batch, check),
            ]
        prefix = "" if engine == "grpcio" else f"{engine}_"
        for work in works:
            rate, cpu_us, outcome = self._rounds(running, work)
            self._figures[f"{prefix}{work.name}_per_s"] = int(rate)
            self._figures[f"{prefix}{work.name}_cpu_s_per_10k"] = round(cpu_us / 100, 3)
            self._figures[f"{prefix}{work.name}_p50_ms"] = round(outcome.quantile_ms(0.5), 2)
            self._figures[f"{prefix}{work.name}_p99_ms"] = round(outcome.quantile_ms(0.99), 2)
            log(f"{engine}: {work.name} {rate:,.0f} a second, {cpu_us:.1f} us of CPU each")

    def _rounds(self, running: Started, work: Work) -> tuple[float, float, Outcome]:
        """The best rate, what an item costs (microseconds of CPU), and the fastest round."""
        trial = call(running, work, TRIAL)[0]
        calls = max(TRIAL, int(trial * self._asked.seconds / work.items))
        rounds = [call(running, work, calls) for _ in range(self._asked.rounds)]
        rate, _, outcome = max(rounds, key=lambda one: one[0])
        return rate, min(cpu_us for _, cpu_us, _ in rounds), outcome

    def _streams(self) -> None:
        """Scans, and a big value, on a server whose buffers have been filled by what is scanned."""
        asked = self._asked
        requests = Requests(asked.value_bytes, asked.item_bytes, asked.batch)
        with started(server("grpcio", asked.cache_mib, asked.write_buffer_mib)) as running:
            self._figures |= scan(running, requests, asked.scan_mib, asked.value_bytes, asked.rounds)
            if asked.blob_mib:
                self._figures |= big_value(running, asked.blob_mib)

    def _resident(self, running: Started) -> None:
        """Makes ``--items`` items resident; the server's memory before, at its peak, and what it may have."""
        asked, pid = self._asked, running.pids[0]
        requests = Requests(asked.value_bytes, asked.item_bytes, asked.batch)
        works = [Work("put", "Put", requests.puts, 1), Work("get", "Get", requests.gets, 1)]
        for work in works:
            call(running, work, TRIAL)  # what every server has after its first calls is no growth
        before_mib = memory_mib(pid, "VmRSS")
        forget_peak(pid)
        began = told = time.monotonic()
        done = 0
        each = _RESIDENT_RECORDS * asked.batch
        work = Work("load", "BatchMutate", lambda count: requests.item_batches(count, _RESIDENT_RECORDS), each, check)
        for piece in pieces(-(-asked.items // each), _RESIDENT_AT_ONCE // each):
            call(running, work, max(1, piece - CONNECTIONS))
            done += max(piece, CONNECTIONS + 1) * each
            if time.monotonic() - told > _TOLD_EVERY_S:
                told = time.monotonic()
                log(f"{done:,} items resident, {memory_mib(pid, 'VmRSS'):,.0f} MiB")
        self._figures["resident_items"] = done
        self._figures["resident_s"] = round(time.monotonic() - began, 1)
        self._figures["memory_idle_mib"] = round(before_mib, 1)
        self._figures["memory_growth_mib"] = round(memory_mib(pid, "VmHWM") - before_mib, 1)
        self._figures["memory_bound_mib"] = asked.cache_mib + asked.write_buffer_mib


def main(tell: Callable[[str], None] = print) -> int:
    """Measures; prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("embedded", "cassandra"), default="embedded")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--value-bytes", type=int, default=1_024, help="of a single put, and of a record in a batch")
    parser.add_argument("--item-bytes", type=int, default=100, help="of an item of a wide record")
    parser.add_argument("--batch", type=int, default=100, help="records of a batch, and items of a wide record")
    parser.add_argument("--items", type=int, default=1_000_000, help="made resident at the end; 0: that is left out")
    parser.add_argument("--scan-mib", type=int, default=192, help="of records that are scanned")
    parser.add_argument("--blob-mib", type=int, default=1_024, help="of one big value; 0: that is left out")
    parser.add_argument("--cache-mib", type=int, default=64)
    parser.add_argument("--write-buffer-mib", type=int, default=64)
    cluster = parser.add_argument_group("with --backend cassandra")
    cluster.add_argument("--mode", choices=("LWW", "CAS"), default="LWW", help="of the namespace")
    cluster.add_argument("--servers", type=int, default=2, help="server processes")
    cluster.add_argument("--warm-up", type=float, default=10.0, help="seconds of each kind of work before its rounds")
    cluster.add_argument("--engine", choices=ENGINES, default="grpcio", help="that answers gRPC in them")
    cluster.add_argument("--heap-mib", type=int, default=512, help="of the node")
    cluster.add_argument("--commit-log", choices=("periodic", "group", "batch"), default="periodic")
    add_options(parser)
    asked = parser.parse_args()
    for name, value, least, most in (
        ("--seconds", asked.seconds, 0.01, 600),
        ("--rounds", asked.rounds, 1, 100),
        ("--value-bytes", asked.value_bytes, 1, 1 << 20),
        ("--item-bytes", asked.item_bytes, 1, 4_096),
        ("--batch", asked.batch, 1, 500),
        ("--items", asked.items, 0, 1_000_000_000),
        ("--scan-mib", asked.scan_mib, 1, 4_096),
        ("--blob-mib", asked.blob_mib, 0, 1_024),
        ("--cache-mib", asked.cache_mib, 1, 65_536),
        ("--write-buffer-mib", asked.write_buffer_mib, 1, 65_536),
        ("--servers", asked.servers, 1, 64),
        ("--warm-up", asked.warm_up, 0, 3_600),
        ("--heap-mib", asked.heap_mib, 256, 65_536),
    ):
        if not least <= value <= most:
            parser.error(f"{name}: {least:,} to {most:,} are allowed")
    try:
        with run_folder("storage", asked.folder) as folder:
            figures = Bench(folder, asked).run() if asked.backend == "embedded" else ClusterBench(folder, asked).run()
    except (LoadError, ServerError) as error:
        print(f"storage bench: {error}", file=sys.stderr)
        return 1
    tell_figures(figures, asked.json, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
