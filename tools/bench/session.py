"""The session bench: logins and validations through gRPC to a real server, beside its engine behind bare grpc.aio.

Validate is measured from the store (no answer is kept) and from the server's own warm cache, on both server engines,
and from the warm cache of a verifier of the SDK, all with tokens that are good; Create in a realm without a limit for
each subject. 64 requests are in flight; of several rounds the best counts. Then many sessions are made resident: the
server's memory, listing a subject, and sweeping after all of them were revoked at once.

With ``--backend cassandra``: server processes on a cluster, beside the driver alone (`session_cluster.py`).

./bazelw run //tools/bench:session -- --sessions 1000000 --json
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import uvloop

import wellspring_client
from tools.bench.figures import Figures, add_options, log, run_folder, tell_figures
from tools.bench.rpc import Started, started
from tools.bench.rpc_load import CONNECTIONS, LoadError, Outcome, run_load
from tools.bench.session_cluster import SessionClusterBench
from tools.bench.session_raw import READ, WRITE
from tools.bench.session_world import (
    CROWD,
    REALM,
    SERVICE,
    SESSIONS,
    check_listed,
    creates,
    list_requests,
    make_listed,
    raw,
    raw_reads,
    raw_writes,
    server,
    swept_s,
    tokens,
    validations,
)
from tools.bench.storage_world import forget_peak, memory_mib, pieces
from tools.dev.servers.process import ServerError
from wellspring_client.verifier import Verifier

IN_FLIGHT = 64
_TRIAL = 64
_LISTS = 200
_CROWD_AT_ONCE = 50_000
_VERIFIED = 500
"""Tokens that the SDK's verifier knows."""
_SWEEP_PATIENCE_S = 3600.0
_TOLD_EVERY_S = 15.0


class Bench:
    """One run."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._asked = asked
        self._memory = {"cache_mib": asked.cache_mib, "write_buffer_mib": asked.write_buffer_mib}
        self._figures: Figures = {}

    def run(self) -> Figures:
        """All of it. Raises LoadError when a service did not do what it was asked."""
        figures = self._figures
        with started(raw()) as running:
            self._rounds(running, "raw_read", READ, partial(_again, raw_reads()))
            self._rounds(running, "raw_write", WRITE, raw_writes)
        for engine, suffix in (("grpcio", ""), ("native", "_native")):
            with started(server(engine, warm=0, **self._memory)) as running:
                requests = validations(self._logins(running, SESSIONS))
                self._rounds(running, f"validate_store{suffix}", f"{SERVICE}/Validate", partial(_again, requests))
                self._rounds(running, f"create{suffix}", f"{SERVICE}/Create", creates)
            with started(server(engine, warm=2 * SESSIONS, **self._memory)) as running:
                known = self._logins(running, SESSIONS)
                requests = validations(known)
                self._rounds(running, f"validate_warm{suffix}", f"{SERVICE}/Validate", partial(_again, requests))
                if not suffix:
                    cached = uvloop.run(verifier_per_s(running.address, known[:_VERIFIED], self._asked.seconds))
                    figures["cached_per_s"] = int(cached)
        for name, ours, peer in (
            ("validate_ratio", "validate_store_per_s", "raw_read_per_s"),
            ("p99_ratio", "validate_store_p99_ms", "raw_read_p99_ms"),
            ("create_ratio", "create_per_s", "raw_write_per_s"),
            ("cached_ratio", "cached_per_s", "raw_read_per_s"),
        ):
            figures[name] = round(figures[ours] / max(figures[peer], 0.001), 3)
        if self._asked.sessions:
            with started(server("grpcio", warm=0, **self._memory)) as running:
                self._crowd(running)
        return figures

    def _logins(self, running: Started, count: int) -> list[bytes]:
        return tokens(_call(running, f"{SERVICE}/Create", creates(count + CONNECTIONS), count, keep=True)[1].answers)

    def _rounds(self, running: Started, name: str, method: str, make: Callable[[int], Sequence[bytes]]) -> None:
        """The best rate, the least CPU and the lowest quantiles of the rounds."""
        trial = _call(running, method, make(_TRIAL + CONNECTIONS), _TRIAL)[1]
        calls = max(_TRIAL, int(_TRIAL / trial.seconds * self._asked.seconds))
        rounds = [_call(running, method, make(calls + CONNECTIONS), calls) for _ in range(self._asked.rounds)]
        figures = self._figures
        figures[f"{name}_per_s"] = int(max(outcome.calls / outcome.seconds for _, outcome in rounds))
        figures[f"{name}_cpu_s_per_10k"] = round(min(cpu_s for cpu_s, _ in rounds), 3)
        for share, text in ((0.5, "p50"), (0.99, "p99")):
            figures[f"{name}_{text}_ms"] = round(min(outcome.quantile_ms(share) for _, outcome in rounds), 2)
        log(f"{name}: {figures[f'{name}_per_s']:,} a second, {figures[f'{name}_cpu_s_per_10k']} CPU s for 10,000")

    def _crowd(self, running: Started) -> None:
        """Many sessions beside: what they cost in memory, what a list costs, how they go."""
        asked, figures, pid = self._asked, self._figures, running.pids[0]
        make_listed(running.address)
        self._logins(running, SESSIONS)  # what every server has after its first calls is no growth
        figures["list_p50_ms"] = self._list_ms(running)
        idle_mib = memory_mib(pid, "VmRSS")
        forget_peak(pid)
        began = told = time.monotonic()
        done = 0
        for piece in pieces(asked.sessions, _CROWD_AT_ONCE):
            count = max(piece - CONNECTIONS, 1)
            requests = creates(count + CONNECTIONS, CROWD, done)
            _call(running, f"{SERVICE}/Create", requests, count)
            done += len(requests)
            if time.monotonic() - told > _TOLD_EVERY_S:
                told = time.monotonic()
                log(f"{done:,} sessions, {memory_mib(pid, 'VmRSS'):,.0f} MiB resident")
        figures["sessions"] = done
        figures["sessions_s"] = round(time.monotonic() - began, 1)
        figures["memory_idle_mib"] = round(idle_mib, 1)
        figures["memory_growth_mib"] = round(memory_mib(pid, "VmHWM") - idle_mib, 1)
        # Two directories, the sessions and the subjects' keys, with these each.
        figures["memory_bound_mib"] = 2 * (asked.cache_mib + asked.write_buffer_mib)
        figures["list_crowd_p50_ms"] = self._list_ms(running)
        figures["list_ratio"] = round(figures["list_crowd_p50_ms"] / max(figures["list_p50_ms"], 0.001), 3)
        figures["swept_per_s"] = int(done / swept_s(running.address, _SWEEP_PATIENCE_S))

    def _list_ms(self, running: Started) -> float:
        _, outcome = _call(
            running, f"{SERVICE}/ListBySubject", list_requests(), _LISTS, keep=True, connections=1, streams=1
        )
        check_listed(outcome.answers)
        return round(outcome.quantile_ms(0.5), 3)


def _again(requests: Sequence[bytes], count: int) -> Sequence[bytes]:
    """The same ones, however many calls there are."""
    return requests


def _call(
    running: Started,
    method: str,
    requests: Sequence[bytes],
    calls: int,
    *,
    keep: bool = False,
    connections: int = CONNECTIONS,
    streams: int = IN_FLIGHT // CONNECTIONS,
) -> tuple[float, Outcome]:
    """CPU seconds of the server for 10,000 calls, and the calls' outcome. Raises LoadError."""
    before = running.cpu_s()
    load = run_load(
        running.address,
        method,
        requests,
        calls=calls,
        connections=connections,
        streams=streams,
        keep_answers=keep,
    )
    outcome: Outcome = uvloop.run(load)
    return (running.cpu_s() - before) / (calls + connections) * 10_000, outcome


async def verifier_per_s(address: str, known: Sequence[bytes], seconds: float) -> float:
    """Tokens that a verifier of the SDK checks in a second from what it remembers. Raises LoadError when it asked."""
    texts = [token.decode() for token in known]
    async with wellspring_client.aio.connect(session=address) as client, Verifier(client.session.realm(REALM)) as one:
        async with asyncio.timeout(60):
            while not one.fresh:  # noqa: ASYNC110 - the feed tells nobody
                await asyncio.sleep(0.01)
        for text in texts:
            await one.token(text)
        if one.entries != len(texts):
            raise LoadError(f"the verifier remembers {one.entries:,} of {len(texts):,} tokens")
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for text in texts:
                await one.token(text)
            done += len(texts)
            await asyncio.sleep(0)
        return done / (time.perf_counter() - began)


def measured(asked: argparse.Namespace) -> Figures:
    """The bench that was asked for. Raises LoadError, ServerError."""
    if asked.backend == "embedded":
        return Bench(asked).run()
    with run_folder("session", asked.folder) as folder:
        return SessionClusterBench(folder, asked).run()


def main(tell: Callable[[str], None] = print) -> int:
    """Measures; prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("embedded", "cassandra"), default="embedded")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=100_000, help="made resident at the end; 0: that is left out")
    parser.add_argument("--cache-mib", type=int, default=32)
    parser.add_argument("--write-buffer-mib", type=int, default=32)
    cluster = parser.add_argument_group("with --backend cassandra")
    cluster.add_argument("--servers", type=int, default=2, help="server processes")
    cluster.add_argument("--heap-mib", type=int, default=512, help="of the node")
    cluster.add_argument("--commit-log", choices=("periodic", "group", "batch"), default="periodic")
    cluster.add_argument("--warm-up", type=float, default=10.0, help="seconds of each kind of work before its rounds")
    cluster.add_argument("--redis", action="store_true", help="also with Redis in front")
    add_options(parser)
    asked = parser.parse_args()
    for name, value, least, most in (
        ("--seconds", asked.seconds, 0.01, 600),
        ("--rounds", asked.rounds, 1, 100),
        ("--sessions", asked.sessions, 0, 100_000_000),
        ("--cache-mib", asked.cache_mib, 1, 65_536),
        ("--write-buffer-mib", asked.write_buffer_mib, 1, 65_536),
        ("--servers", asked.servers, 1, 64),
        ("--heap-mib", asked.heap_mib, 256, 65_536),
        ("--warm-up", asked.warm_up, 0, 3_600),
    ):
        if not least <= value <= most:
            parser.error(f"{name}: {least:,} to {most:,} are allowed")
    try:
        figures = measured(asked)
    except (LoadError, ServerError) as error:
        print(f"session bench: {error}", file=sys.stderr)
        return 1
    tell_figures(figures, asked.json, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
