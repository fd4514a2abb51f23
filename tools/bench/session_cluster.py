"""The session bench on a cluster: server processes on one Cassandra node, beside the driver alone on the same node.

Each round is the driver's and then ours, with as many requests under way: the node is as warm for one as for the other.
The driver reads one row by its key, and writes one, plainly; a second one is given all that a login writes and reads,
in requests as ours are (`session_driver.py`). The servers, on either server engine, validate tokens from the store and
from their warm answers, and log subjects in; with Redis in front the same once more. The best of the rounds counts,
and a ratio is of rounds that took turns. Calls are shared out to the servers, each its half.
"""

import argparse
import asyncio
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
from tools.bench.warming import warm_up
from tools.dev.servers.cassandra import Cassandra
from tools.dev.servers.redis import Redis

IN_FLIGHT = 64
ENGINES = (("grpcio", ""), ("native", "_native"))
"""Server engines, and what the figures' names end with."""
_TRIAL = 64
"""Calls of the first trials; of later ones as many as fill _TRIAL_S."""
_TRIAL_S = 0.5
_COMPARED = ("per_s", "p99_ms")
"""Figures of a driver's that are kept for each work of ours beside it, too."""
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
            ("validate", "validate_store", "get"),
            ("validate_warm", "validate_warm", "get"),
            ("create", "create", "put"),
            ("create_rows", "create", "login"),
            ("validate_native", "validate_store_native", "get"),
            ("validate_warm_native", "validate_warm_native", "get"),
            ("create_native", "create_native", "put"),
            ("create_native_rows", "create_native", "login"),
            ("validate_cached", "validate_cached", "get"),
            ("validate_cached_warm", "validate_cached_warm", "get"),
        ):
            if f"{ours}_per_s" in figures:
                figures[f"{name}_ratio"] = self._ratio(ours, peer, "per_s")
        for name, ours in (("p99_ratio", "validate_store"), ("p99_native_ratio", "validate_store_native")):
            figures[name] = self._ratio(ours, "get", "p99_ms")
        return figures

    def _ratio(self, ours: str, peer: str, kind: str) -> float:
        """Of a work of ours by the driver's in the rounds that took turns with it."""
        return round(self._figures[f"{ours}_{kind}"] / max(self._figures[f"{ours}_driver_{peer}_{kind}"], 0.001), 3)

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
        """Rounds of the drivers' works, by their names, and of ours, in turn, when the node is warm for all of them."""
        works = {peer: partial(self._alone, raw, peer) for peer, raw in peers.items()}
        works[name] = partial(self._ours, running, method, make)
        counts = dict.fromkeys(works, _TRIAL)

        def trial() -> list[float]:
            costs = []
            for work, run in works.items():
                found = run(counts[work])
                counts[work] = max(_TRIAL, int(found["per_s"] * _TRIAL_S))
                costs.append(found["node_cpu_us"])
            return costs

        warm_up(trial, self._asked.warm_up)
        for _ in range(self._asked.rounds):
            for work, run in works.items():
                found = run(max(_TRIAL, int(counts[work] / _TRIAL_S * self._asked.seconds)))
                if work in peers:
                    keep_best(self._figures, f"driver_{work}", found)
                    keep_best(self._figures, f"{name}_driver_{work}", {kind: found[kind] for kind in _COMPARED})
                else:
                    keep_best(self._figures, work, found)
        beside = ", ".join(f"the driver's {peer} {self._figures[f'{name}_driver_{peer}_per_s']:,}" for peer in peers)
        log(f"{name}: {self._figures[f'{name}_per_s']:,} a second, {beside}")

    def _alone(self, raw: Driver, work: str, count: int) -> dict[str, float]:
        """Figures of a round of a driver's."""
        node_s = cpu_s(self._node)
        found = raw.round(work, count, IN_FLIGHT)
        return {**found, "node_cpu_us": (cpu_s(self._node) - node_s) * 1e6 / count}

    def _ours(self, running: Sequence[Started], method: str, make: Make, count: int) -> dict[str, float]:
        """Figures of a round of ours."""
        calls = count + len(running) * CONNECTIONS  # one on each connection comes before those that count
        node_s, servers_s = cpu_s(self._node), sum(one.cpu_s() for one in running)
        outcome = _call(running, method, make(calls), count)
        return {
            "per_s": outcome.calls / outcome.seconds,
            "cpu_us": (sum(one.cpu_s() for one in running) - servers_s) * 1e6 / calls,
            "node_cpu_us": (cpu_s(self._node) - node_s) * 1e6 / calls,
            "p50_ms": outcome.quantile_ms(0.5),
            "p99_ms": outcome.quantile_ms(0.99),
        }


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
