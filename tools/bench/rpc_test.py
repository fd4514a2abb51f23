"""The rpc bench itself: its load generator tells good answers from bad, and a short run ends with every figure."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from libs.rpc.testing.harness import ENGINES, echo_server, environment
from tools.bench.rpc_load import LoadError, run_load
from wellspring.bench.v1 import echo_pb2 as pb

SAY = "wellspring.bench.v1.Echo/Say"


def request(**fields: Any) -> bytes:
    return pb.SayRequest(**fields).SerializeToString()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_load_generator_makes_exactly_its_calls(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            requests = [request(payload=bytes(size)) for size in (0, 1, 1000, 16_380, 16_384, 60_000)]
            outcome = await run_load(running.server.addresses[0], SAY, requests, calls=500, connections=3, streams=4)
            assert outcome.calls == 500
            assert running.servicer.worked == 500 + 3
            assert 0 < outcome.quantile_ms(0.5) <= outcome.quantile_ms(0.99)

    asyncio.run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_call_that_fails_spoils_the_measurement(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            bad = request(behaviour=pb.Behaviour(fail_with="NotFound"))
            for requests in ([bad], [request(), request(), bad]):
                with pytest.raises(LoadError, match="without an answer"):
                    await run_load(running.server.addresses[0], SAY, requests, calls=20, connections=1, streams=1)
            with pytest.raises(LoadError):
                await run_load(running.server.addresses[0], "no.Such/Method", [b""], calls=1)

    asyncio.run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_answers_are_kept_whole_and_requests_of_any_size_get_through(engine: str) -> None:
    payloads = [bytes([n]) * size for n, size in enumerate((0, 1, 70_000, 300_000, 1_000_000, 5))]

    async def main() -> None:
        async with echo_server(engine=engine) as running:
            requests = [request(payload=payload) for payload in payloads]
            address = running.server.addresses[0]
            outcome = await run_load(address, SAY, requests, calls=58, connections=2, streams=4, keep_answers=True)
            told = sorted(pb.SayResponse.FromString(answer).payload for answer in outcome.answers)
            assert told == sorted(payloads * 10)

    asyncio.run(main())


def run_bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tools.bench.rpc", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=580, check=False)


def test_a_short_run_ends_with_every_figure() -> None:
    done = run_bench("--seconds", "0.02", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    wanted = {"echo_per_s", "pipeline_cpu_ratio", "workers_ratio", "native_ratio", "echo_batch_ratio"}
    for engine in ("", "_native"):
        for load in ("storage{}_get", "storage{}_put", "propagation{}_publish", "propagation{}_work"):
            wanted |= {load.format(engine) + end for end in ("_per_s", "_cpu_s_per_10k", "_batch_ratio")}
        wanted.add(f"session{engine}_validate_per_s")
    assert wanted <= set(figures)
    assert all(isinstance(value, int | float) and value >= 0 for value in figures.values())


def test_mistakes_on_the_command_line_are_named() -> None:
    done = run_bench("--only", "nothing")
    assert done.returncode == 1 and "--only names none of: bare, echo" in done.stderr
    done = run_bench("--seconds", "0")
    assert done.returncode == 2 and "--seconds is above 0" in done.stderr
