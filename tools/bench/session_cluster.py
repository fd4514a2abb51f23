"""The session bench on a cluster: server processes on one Cassandra node, beside the driver alone on the same node.

Each round is the driver's and then ours, with as many requests under way: the node is as warm for one as for the other.
The driver reads one row by its key, and writes one, plainly; a second one is given all that a login writes and reads,
in requests as ours are (`session_driver.py`). The servers, on either server engine, validate tokens from the store and
from their warm answers, and log subjects in; with Redis in front the same once more. The best of the rounds counts.
Calls are shared out to the servers, each its half.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import uvloop

from tools.bench.cluster_driver import Driver, keep_best
from tools.bench.figures import Figures, log
from tools.bench.rpc import Started, cpu_s, started
from tools.bench.rpc_load import CONNECTIONS, Outcome, run_load
from tools.bench.session_raw import ROW_BYTES
from tools.bench.session_world import SERVICE, cluster_server, creates, tokens, validations
from tools.dev.servers.cassandra import Cassandra
from tools.dev.servers.redis import Redis

IN_FLIGHT = 64
ENGINES = (("grpcio", ""), ("native", "_native"))
"""Server engines, and what the figures' names end with."""
_TRIAL = 64
"""Calls of the first trials; of later ones as many as fill _TRIAL_S, of which there are _TRIALS at least."""
_TRIALS = 2
_TRIAL_S = 0.5
_SESSIONS = 1_000
_ROWS: dict[str, str | int] = {"mode": "LWW", "value-bytes": ROW_BYTES, "item-bytes": 1, "batch": 1}
"""What the driver writes and reads."""

Make = Callable[[int], Sequence[bytes]]


class SessionClusterBench:
    """One run: a node, the driver's process and the servers, in a folder of its own."""

    def __init__(self, folder: Path, asked: argparse.Namespace) -> None:
        self._folder = folder
        self._asked = asked
        self._figures: Figures = {"servers": asked.servers, "warm_up_s": asked.warm_up}

    def run(self) -> Figures:
        """All of it. Raises LoadError when something did not do what it was asked, ServerError without a node."""
        asked, figures = self._asked, self._figures
        with (
            Cassandra(commit_log=asked.commit_log, heap_mib=asked.heap_mib, measured=True) as node,
            Driver.running(node.address, self._folder, _ROWS) as raw,
            Driver.running(node.address, self._folder, {}, "session_driver") as logins,
        ):
            self._node = node.nodes[0].pid
            raw.round("put", _TRIAL, IN_FLIGHT)
            for engine, suffix in ENGINES:
                with self._servers(node.address, engine, warm=0) as running:
                    peers = {"put": raw, "login": logins}
                    self._rounds(peers, running, f"create{suffix}", "Create", creates)
                    self._validate(raw, running, f"validate_store{suffix}")
                with self._servers(node.address, engine, warm=2 * _SESSIONS) as running:
                    self._validate(raw, running, f"validate_warm{suffix}")
            if asked.redis:
                with Redis() as redis:
                    for warm, name in ((0, "validate_cached"), (2 * _SESSIONS, "validate_cached_warm")):
                        with self._servers(node.address, "grpcio", warm=warm, redis=redis.address) as running:
                            self._validate(raw, running, name)
        for name, ours, peer in (
            ("validate_ratio", "validate_store_per_s", "driver_get_per_s"),
            ("validate_warm_ratio", "validate_warm_per_s", "driver_get_per_s"),
            ("p99_ratio", "validate_store_p99_ms", "driver_get_p99_ms"),
            ("create_ratio", "create_per_s", "driver_put_per_s"),
            ("create_rows_ratio", "create_per_s", "driver_login_per_s"),
            ("validate_native_ratio", "validate_store_native_per_s", "driver_get_per_s"),
            ("validate_warm_native_ratio", "validate_warm_native_per_s", "driver_get_per_s"),
            ("p99_native_ratio", "validate_store_native_p99_ms", "driver_get_p99_ms"),
            ("create_native_ratio", "create_native_per_s", "driver_put_per_s"),
            ("create_native_rows_ratio", "create_native_per_s", "driver_login_per_s"),
            ("validate_cached_ratio", "validate_cached_per_s", "driver_get_per_s"),
            ("validate_cached_warm_ratio", "validate_cached_warm_per_s", "driver_get_per_s"),
        ):
            if ours in figures:
                figures[name] = round(figures[ours] / max(figures[peer], 0.001), 3)
        return figures

    @contextmanager
    def _servers(self, address: str, engine: str, *, warm: int, redis: str = "") -> Iterator[list[Started]]:
        target = cluster_server(address, self._folder, engine=engine, warm=warm, redis=redis)
        with ExitStack() as stack:
            yield [stack.enter_context(started(target)) for _ in range(self._asked.servers)]

    def _validate(self, raw: Driver, running: Sequence[Started], name: str) -> None:
        made = _call(running, "Create", creates(_SESSIONS + len(running) * CONNECTIONS), _SESSIONS, keep=True)
        requests = validations(tokens(made.answers))
        self._rounds({"get": raw}, running, name, "Validate", partial(_again, requests))

    def _rounds(
        self, peers: Mapping[str, Driver], running: Sequence[Started], name: str, method: str, make: Make
    ) -> None:
        """Rounds of the drivers' works, by their names, and of ours, each as many calls as fill its time, after trials
        in turn for as long as all are to warm up: the node compiles what it runs often, and our statements are more."""
        seconds = self._asked.seconds
        extra = len(running) * CONNECTIONS
        ends = time.monotonic() + self._asked.warm_up
        counts = dict.fromkeys(peers, 0)
        calls = trials = 0
        while trials < _TRIALS or time.monotonic() < ends:
            piece = min(1.0, _TRIAL_S / seconds)
            for peer, raw in peers.items():
                found = raw.round(peer, max(_TRIAL, int(counts[peer] * piece)), IN_FLIGHT)
                counts[peer] = int(found["per_s"] * seconds)
            some = max(_TRIAL, int(calls * piece))
            trial = _call(running, method, make(some + extra), some)
            calls = int(trial.calls / trial.seconds * seconds)
            trials += 1
        calls = max(_TRIAL, calls)
        for _ in range(self._asked.rounds):
            for peer, raw in peers.items():
                node_s, count = cpu_s(self._node), max(_TRIAL, counts[peer])
                keep_best(self._figures, f"driver_{peer}", raw.round(peer, count, IN_FLIGHT))
                driver_us = (cpu_s(self._node) - node_s) * 1e6 / count
                keep_best(self._figures, f"driver_{peer}", {"node_cpu_us": driver_us})
            node_s, servers_s = cpu_s(self._node), sum(one.cpu_s() for one in running)
            outcome = _call(running, method, make(calls + extra), calls)
            keep_best(
                self._figures,
                name,
                {
                    "per_s": outcome.calls / outcome.seconds,
                    "cpu_us": (sum(one.cpu_s() for one in running) - servers_s) * 1e6 / (calls + extra),
                    "node_cpu_us": (cpu_s(self._node) - node_s) * 1e6 / (calls + extra),
                    "p50_ms": outcome.quantile_ms(0.5),
                    "p99_ms": outcome.quantile_ms(0.99),
                },
            )
        beside = ", ".join(f"the driver's {peer} {self._figures[f'driver_{peer}_per_s']:,}" for peer in peers)
        log(f"{name}: {self._figures[f'{name}_per_s']:,} a second, {beside}")


def _again(requests: Sequence[bytes], count: int) -> Sequence[bytes]:
    """The same ones, however many calls there are."""
    return requests


def _call(
    running: Sequence[Started], method: str, requests: Sequence[bytes], calls: int, keep: bool = False
) -> Outcome:
    """Calls shared out to all servers at once: what all of them took together. Raises LoadError."""
    shares = len(running)

    async def all_of_them() -> list[Outcome]:
        streams = max(1, IN_FLIGHT // CONNECTIONS // shares)
        loads = (
            run_load(
                one.address,
                f"{SERVICE}/{method}",
                requests[number::shares] or requests,
                calls=-(-calls // shares),
                streams=streams,
                keep_answers=keep,
            )
            for number, one in enumerate(running)
        )
        return list(await asyncio.gather(*loads))

    outcomes: list[Outcome] = uvloop.run(all_of_them())
    return Outcome(
        max(one.seconds for one in outcomes),
        [latency for one in outcomes for latency in one.latencies_s],
        [answer for one in outcomes for answer in one.answers],
    )
