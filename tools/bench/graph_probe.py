"""The second client of the graph bench: a process that declares one page with 100 dependencies again and again.

It prints a line when it is connected, and when its standard input ends, one JSON object: how many calls it made, and
the percentiles of their milliseconds.

python -m tools.bench.graph_probe --address HOST:PORT --parts 1000000 --seed 1
"""

import argparse
import asyncio
import json
import sys
import time

import numpy as np
import uvloop

from tools.bench.graph_world import PROBE_PREFIX, VIEW, part_name
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels

DEPENDENCIES = 100
_PAUSE_S = 0.05


async def probe(address: str, parts: int, seed: int) -> list[float]:
    """Declares until standard input ends; answers milliseconds."""
    service = propagation_pb2.DESCRIPTOR.services_by_name["Propagation"]
    caller = Caller(Channels(address, tls=None), 60.0, dict)
    rng = np.random.default_rng((seed, 0xBEEF))
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    took: list[float] = []
    try:
        while not over.done():
            chosen = np.unique((parts * rng.random(DEPENDENCIES) ** 2).astype(np.int64)).tolist()
            one = propagation_pb2.Declaration(
                dependent=f"{PROBE_PREFIX}{len(took):09}",
                view=VIEW,
                dependencies=[propagation_pb2.Dependency(resource=part_name(part)) for part in chosen],
            )
            began = time.perf_counter()
            answer = await caller.unary(
                service,
                "DeclareDependencies",
                propagation_pb2.DeclareDependenciesRequest(declarations=[one]),
                propagation_pb2.DeclareDependenciesResponse,
                60.0,
            )
            took.append(1000 * (time.perf_counter() - began))
            if answer.results[0].code:
                raise SystemExit(f"a declaration was refused: {answer.results[0].message}")
            if len(took) == 1:
                print("connected", flush=True)
            await asyncio.sleep(_PAUSE_S)
    finally:
        await caller.close()
    return took[1:]


def main() -> int:
    """Probes until told to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True)
    parser.add_argument("--parts", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args()
    took = uvloop.run(probe(asked.address, asked.parts, asked.seed))
    p50, p99 = np.percentile(took, [50, 99]).tolist()
    print(
        json.dumps({"declares": len(took), "declare_p50_ms": round(p50, 2), "declare_p99_ms": round(p99, 2)}),
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
