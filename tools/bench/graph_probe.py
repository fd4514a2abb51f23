"""The second client of the graph bench: a process that declares one page with 100 dependencies again and again.

Between its declarations it makes two calls more: one to the same server that declares nothing, and one to a server in a
process of its own that is gRPC and nothing else. What these take is not the declaration's.

It prints a line when it is connected, and when its standard input ends, one JSON object: how many calls it made, and
the percentiles of their milliseconds.

python -m tools.bench.graph_probe --address HOST:PORT --parts 1000000 --seed 1
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc
import numpy as np
import uvloop

from tools.bench.graph_world import PROBE_PREFIX, VIEW, part_name
from wellspring.bench.v1 import echo_pb2, echo_pb2_grpc
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels

DEPENDENCIES = 100
_PAUSE_S = 0.02
_SERVICE = propagation_pb2.DESCRIPTOR.services_by_name["Propagation"]
_Answer = TypeVar("_Answer")


class Probe:
    """`took` are milliseconds of each kind of call."""

    def __init__(self, caller: Caller, bare: Any, parts: int, seed: int) -> None:
        self._caller = caller
        self._bare = bare
        self._parts = parts
        self._rng = np.random.default_rng((seed, 0xBEEF))
        self.took: dict[str, list[float]] = {"declare": [], "noop": [], "bare": []}

    async def round(self) -> None:
        """One call of each kind. Ends the program when a declaration is refused."""
        answer = await self._timed("declare", self._declare(self._page()))
        if answer.results[0].code:
            raise SystemExit(f"a declaration was refused: {answer.results[0].message}")
        await asyncio.sleep(_PAUSE_S)
        await self._timed("noop", self._declare())
        await self._timed("bare", self._bare.Say(echo_pb2.SayRequest(payload=b"")))
        await asyncio.sleep(_PAUSE_S)

    def _page(self) -> propagation_pb2.Declaration:
        chosen = np.unique((self._parts * self._rng.random(DEPENDENCIES) ** 2).astype(np.int64)).tolist()
        return propagation_pb2.Declaration(
            dependent=f"{PROBE_PREFIX}{len(self.took['declare']):09}",
            view=VIEW,
            dependencies=[propagation_pb2.Dependency(resource=part_name(part)) for part in chosen],
        )

    def _declare(
        self, *declarations: propagation_pb2.Declaration
    ) -> Awaitable[propagation_pb2.DeclareDependenciesResponse]:
        request = propagation_pb2.DeclareDependenciesRequest(declarations=declarations)
        answer = propagation_pb2.DeclareDependenciesResponse
        return self._caller.unary(_SERVICE, "DeclareDependencies", request, answer, 60.0)

    async def _timed(self, kind: str, call: Awaitable[_Answer]) -> _Answer:
        began = time.perf_counter()
        answer = await call
        self.took[kind].append(1000 * (time.perf_counter() - began))
        return answer


async def probe(address: str, bare_address: str, parts: int, seed: int) -> dict[str, list[float]]:
    """Calls until standard input ends; answers milliseconds by kind, without those of the first round."""
    caller = Caller(Channels(address, tls=None), 60.0, dict)
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    try:
        async with grpc.aio.insecure_channel(bare_address) as channel:
            stub = echo_pb2_grpc.EchoStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
            calls = Probe(caller, stub, parts, seed)
            await calls.round()
            print("connected", flush=True)
            while not over.done():
                await calls.round()
    finally:
        await caller.close()
    return {kind: took[1:] for kind, took in calls.took.items()}


def main() -> int:
    """Probes until told to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True)
    parser.add_argument("--parts", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args()
    bare = subprocess.Popen([sys.executable, "-m", "tools.bench.rpc_bare"], stdout=subprocess.PIPE)
    try:
        assert bare.stdout is not None
        (bare_address,) = json.loads(bare.stdout.readline())["listen"]
        took = uvloop.run(probe(asked.address, bare_address, asked.parts, asked.seed))
    finally:
        bare.kill()
        bare.wait()
    figures: dict[str, float] = {"declares": len(took["declare"])}
    for kind, milliseconds in took.items():
        p50, p99 = np.percentile(milliseconds, [50, 99]).tolist()
        figures |= {f"{kind}_p50_ms": round(p50, 2), f"{kind}_p99_ms": round(p99, 2)}
    print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
