"""The purge bench: purges a second through libs/purge to a real Varnish and to a stub, each beside the raw client's
limit in the same run, with the same connections and as many requests unanswered on each.

The caches are processes of their own on the same machine; CPU seconds are the client's. Ours builds each purge from its
URL, puts it on the wire and accounts for its answer; the raw client sends bytes that were built before the clock ran.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from libs.purge.caches import Caches
from libs.purge.client import Purge, purge_of_url
from tools.bench.purge_raw import send_all
from tools.dev.servers.varnish import Varnish
from wellspring.config.v1 import propagation_pb2

SLICE = 256
"""Purges that a caller gives at once, as a slice of an executor's batch has them."""
VERSION = (1 << 64).to_bytes(16, "big")
VCL = Path(os.path.abspath(__file__)).parents[2] / "deploy/varnish"


class BenchError(Exception):
    """What was measured is not what was meant; one sentence."""


@dataclass
class Figure:
    """Purges a second and the client's CPU seconds for 10,000 of them; the best of the rounds."""

    per_s: float
    cpu_s_per_10k: float

    def best_of(self, other: "Figure | None") -> "Figure":
        """The better of each."""
        if other is None:
            return self
        return Figure(max(self.per_s, other.per_s), min(self.cpu_s_per_10k, other.cpu_s_per_10k))


@contextmanager
def stub() -> Iterator[int]:
    """The stub's port while it runs."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "tools.bench.purge_stub"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def varnish() -> Varnish:
    """A Varnish with the deployed VCL; nobody fetches, so it has no gateway."""
    site = (VCL / "site.vcl").read_text(encoding="utf-8")
    return Varnish("127.0.0.1:9", vcl=site.replace("/etc/varnish/", f"{VCL}/"))


async def timed(count: int, work: Callable[[], Awaitable[int]]) -> Figure:
    """Runs the work once. Raises BenchError when it says that some purges were not acknowledged."""
    began, cpu = time.perf_counter(), time.process_time()
    bad = await work()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    if bad:
        raise BenchError(f"{bad} of {count} purges were not acknowledged")
    return Figure(count / took, used / count * 10_000)


def target(port: int, connections: int, depth: int) -> propagation_pb2.CacheTarget:
    """The cache as a configuration would name it."""
    found = propagation_pb2.CacheTarget(name="cache", urls=[f"http://127.0.0.1:{port}"])
    found.kind = propagation_pb2.CacheTarget.KIND_VARNISH
    found.max_concurrency, found.pipeline = connections * depth, depth
    found.timeout.FromSeconds(60)
    return found


async def ours(port: int, keys: Sequence[str], tags: bool, connections: int, depth: int) -> Figure:
    """Through libs/purge: twice as many callers as connections, each with a slice after the other."""
    caches = Caches.of([target(port, connections, depth)])
    slices = iter(range(0, len(keys), SLICE))

    async def caller() -> int:
        bad = 0
        for start in slices:
            part = keys[start : start + SLICE]
            if tags:
                purges = [Purge(min_version=VERSION, tags=(key,)) for key in part]
            else:
                purges = [purge_of_url(key, VERSION) for key in part]
            bad += len(await caches.purge(purges))
        return bad

    async def work() -> int:
        return sum(await asyncio.gather(*(caller() for _ in range(2 * connections))))

    try:
        return await timed(len(keys), work)
    finally:
        await caches.close()


async def raw(port: int, keys: Sequence[str], tags: bool, connections: int, depth: int) -> Figure:
    """The same requests, byte for byte, by the raw client."""
    caches = Caches.of([target(port, connections, depth)])
    client = caches.layers[0].instances[0]
    purges = [Purge(min_version=VERSION, tags=(k,)) if tags else purge_of_url(k, VERSION) for k in keys]
    requests = [client.request(purge) for purge in purges]
    return await timed(len(keys), lambda: send_all(port, requests, connections, depth))


def run(count: int, rounds: int, connections: int, depth: int) -> dict[str, Figure]:
    """The best figures by name, all kinds in turn, `rounds` times. Raises BenchError."""
    best: dict[str, Figure] = {}
    urls = [f"/wiki/Page_number_{n}" for n in range(count)]
    names = [f"page-{n}" for n in range(count)]
    with stub() as stub_port, varnish() as cache:
        plan = [("stub", stub_port, urls, False), ("varnish", cache.port, urls, False)]
        plan.append(("varnish_tags", cache.port, names, True))
        for number in range(rounds):
            for name, port, keys, tags in plan:
                for prefix, measure in (("", ours), ("raw_", raw)):
                    found = uvloop.run(measure(port, keys, tags, connections, depth))
                    best[prefix + name] = found.best_of(best.get(prefix + name))
                    print(
                        f"round {number + 1}, {prefix}{name}: {found.per_s:,.0f} purges/s, "
                        f"{found.cpu_s_per_10k:.3f} CPU s per 10,000",
                        file=sys.stderr,
                        flush=True,
                    )
    return best


def summary(best: dict[str, Figure]) -> dict[str, float]:
    """One flat object: `<name>_per_s`, `<name>_cpu_s_per_10k`, and ours by the raw client's as `<name>_ratio`."""
    told: dict[str, float] = {}
    for name, figure in best.items():
        told[f"{name}_per_s"] = round(figure.per_s)
        told[f"{name}_cpu_s_per_10k"] = round(figure.cpu_s_per_10k, 4)
        if f"raw_{name}" in best:
            told[f"{name}_ratio"] = round(figure.per_s / best[f"raw_{name}"].per_s, 3)
    return told


def main() -> int:
    """Measures, prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--purges", type=int, default=100_000, help="in a round of each kind")
    parser.add_argument("--rounds", type=int, default=3, help="the best counts")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--depth", type=int, default=32, help="unanswered on a connection")
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    told = parser.parse_args()
    if min(told.purges, told.rounds, told.connections, told.depth) < 1:
        parser.error("--purges, --rounds, --connections and --depth are 1 or more")
    try:
        figures = summary(run(told.purges, told.rounds, told.connections, told.depth))
    except (BenchError, OSError) as error:
        print(f"purge bench: {error}", file=sys.stderr)
        return 1
    if told.json:
        print(json.dumps(figures))
    else:
        width = max(map(len, figures))
        print("\n".join(f"{name:<{width}}  {value:>12,}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
