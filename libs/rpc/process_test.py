"""The server as processes: the ready line, signals, worker processes, and every way to fail at the start."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from libs.rpc.testing.harness import ENGINES, Process, command, echo_process, environment
from wellspring.bench.v1 import echo_pb2 as pb
from wellspring.bench.v1 import echo_pb2_grpc

PATIENCE_S = 60
LONG_MS = 4000
"""So long a call is under way: longer than a busy machine takes to see that it is."""
IN_FLIGHT = 'wellspring_rpc_in_flight{method="wellspring.bench.v1.Echo/Say"} '


def say(address: str, **behaviour: Any) -> pb.SayResponse:
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub: Any = echo_pb2_grpc.EchoStub(channel)
        request = pb.SayRequest(payload=b"x", behaviour=pb.Behaviour(**behaviour))
        answer: pb.SayResponse = stub.Say(request, timeout=PATIENCE_S)
        return answer


def until(condition: Any) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def answering_pids(address: str, wanted: int) -> set[int]:
    """The pids that answer on ``address``: the kernel spreads new connections over the workers."""
    pids: set[int] = set()
    until(lambda: len(pids.add(say(address).pid) or pids) >= wanted)  # type: ignore[func-returns-value]
    return pids


def log_lines(process: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.stderr().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_ready_line_says_where_it_listens_and_sigterm_lets_calls_finish(engine: str, tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    with echo_process(engine=engine, ready_file=str(ready_file), telemetry={"metrics_listen": "127.0.0.1:0"}) as echo:
        assert echo.ready["ready"] is True
        assert (echo.ready["service"], echo.ready["pid"], echo.ready["workers"]) == ("echo", echo.process.pid, [])
        assert json.loads(ready_file.read_text()) == echo.ready
        host, _, port = echo.ready["metrics"][0].rpartition(":")
        with socket.create_connection((host, int(port))) as asking:
            asking.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert b"wellspring_rpc_in_flight" in asking.makefile("rb").read()
        with ThreadPoolExecutor() as threads:
            under_way = threads.submit(say, echo.address, wait_ms=LONG_MS)
            until(lambda: in_flight(echo) == 1)
            assert echo.terminate() == 0
            assert under_way.result().payload == b"x"
        assert [line for line in echo.stderr().splitlines() if line.startswith("closed")] == [
            "closed second",
            "closed first",
        ]


def in_flight(echo: Process) -> int:
    """Calls of Say that its processes work on now."""
    found = 0
    for address in echo.ready["metrics"]:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE_S) as answer:
            lines = answer.read().decode().splitlines()
        found += sum(int(float(line.split()[-1])) for line in lines if line.startswith(IN_FLIGHT))
    return found


def test_a_call_that_outlasts_the_grace_is_ended() -> None:
    metrics = {"metrics_listen": "127.0.0.1:0"}
    with (
        echo_process(drain_wait_s=0.0, drain_grace_s=0.3, telemetry=metrics) as echo,
        ThreadPoolExecutor() as threads,
    ):
        under_way = threads.submit(say, echo.address, wait_ms=50_000)
        until(lambda: in_flight(echo) == 1)
        assert echo.terminate() == 0
        assert isinstance(under_way.exception(), grpc.RpcError)


def test_a_second_signal_ends_it_at_once() -> None:
    with echo_process(drain_wait_s=60.0) as echo:
        echo.process.send_signal(signal.SIGINT)
        until(lambda: "draining" in echo.stderr())
        echo.process.send_signal(signal.SIGTERM)
        assert echo.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_one_clear_line(engine: str, workers: int) -> None:
    with (
        echo_process(engine=engine) as first,
        echo_process(engine=engine, listen=[first.address], workers=workers) as second,
    ):
        assert second.wait() == 78
        assert second.ready == {}
        assert (
            second.stderr().strip().startswith(f"echo: cannot listen on {first.address}: another process listens there")
        )
        assert "Traceback" not in second.stderr()
        say(first.address)


@pytest.mark.parametrize(
    ("told", "status", "says"),
    [
        ({"break": "build"}, 78, "echo: the store in /nowhere cannot be opened"),
        ({"break": "build", "workers": 2}, 78, "echo: the store in /nowhere cannot be opened"),
        ({"break": "crash"}, 1, "the server ends with an error that nobody expected"),
        ({"break": "crash", "workers": 2}, 1, "the server ends with an error that nobody expected"),
        ({"listen": ["0.0.0.0:0"]}, 78, "echo: server.listen: 0.0.0.0:0 is open to other machines"),
        ({"listen": ["0.0.0.0:0"], "workers": 2}, 78, "echo: server.listen: 0.0.0.0:0 is open to other machines"),
        ({"listen": ["unix:/tmp/x.sock"], "workers": 2}, 78, "processes cannot share unix:/tmp/x.sock"),
        ({"telemetry": {"metrics_listen": "0.0.0.0:0"}}, 78, "metrics are served on a loopback address only"),
        ({"telemetry": {"trace": {"ratio": 2}}}, 78, "telemetry.trace.ratio is 2; 0 to 1 is allowed"),
    ],
)
def test_what_cannot_start_says_why_and_leaves(told: dict[str, Any], status: int, says: str) -> None:
    with echo_process(**told) as echo:
        assert echo.ready == {}
        assert echo.wait() == status
        assert says in echo.stderr()
        assert "Traceback" not in echo.stderr()
        assert "nobody expected in a way" not in echo.stderr()


def test_a_metrics_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with echo_process(telemetry={"metrics_listen": address}) as echo:
            assert echo.wait() == 78
            assert f"telemetry.metrics_listen: cannot listen on {address}: Address already in use" in echo.stderr()


def test_background_work_that_fails_ends_the_process_with_a_failure() -> None:
    with echo_process(drain_wait_s=0.0, **{"break": "background"}) as echo:
        say(echo.address)
        echo.process.send_signal(signal.SIGUSR1)
        assert echo.wait() == 1
        assert "closed second\nclosed first" in echo.stderr()


@pytest.mark.parametrize("engine", ENGINES)
def test_workers_share_the_port_and_one_that_crashes_is_started_again(engine: str) -> None:
    with echo_process(engine=engine, workers=2, telemetry={"metrics_listen": "127.0.0.1:0"}) as echo:
        workers = set(echo.ready["workers"])
        assert len(workers) == 2 and echo.process.pid not in workers
        assert len(set(echo.ready["metrics"])) == 2
        assert answering_pids(echo.address, 2) == workers
        with pytest.raises(grpc.RpcError):
            say(echo.address, crash=True)
        until(lambda: sum(map(alive, workers)) == 1)
        survivor = next(pid for pid in workers if alive(pid))
        seen: set[int] = set()

        def replaced() -> bool:
            with contextlib.suppress(grpc.RpcError):
                seen.add(say(echo.address).pid)
            return len(seen - workers) == 1

        until(replaced)
        assert alive(survivor)
        assert any(line["message"] == "a worker ended; it is started again" for line in log_lines(echo))
        assert echo.terminate() == 0
        until(lambda: not any(map(alive, workers | seen)))


def test_workers_finish_their_calls_when_the_supervisor_is_told_to_stop() -> None:
    with echo_process(workers=2, telemetry={"metrics_listen": "127.0.0.1:0"}) as echo, ThreadPoolExecutor() as threads:
        under_way = [threads.submit(say, echo.address, wait_ms=LONG_MS) for _ in range(4)]
        until(lambda: in_flight(echo) == 4)
        assert echo.terminate() == 0
        assert [call.result().payload for call in under_way] == [b"x"] * 4


def test_ctrl_c_in_a_terminal_drains_supervisor_and_workers() -> None:
    with echo_process(workers=2, telemetry={"metrics_listen": "127.0.0.1:0"}) as echo, ThreadPoolExecutor() as threads:
        under_way = threads.submit(say, echo.address, wait_ms=LONG_MS)
        until(lambda: in_flight(echo) == 1)
        os.killpg(echo.process.pid, signal.SIGINT)
        assert echo.wait() == 0
        assert under_way.result().payload == b"x"


def test_workers_do_not_outlive_a_supervisor_that_is_killed() -> None:
    with echo_process(workers=2) as echo:
        workers = echo.ready["workers"]
        os.kill(echo.process.pid, signal.SIGKILL)
        until(lambda: not any(map(alive, workers)))


def test_it_can_end_with_its_parent() -> None:
    # A parent that starts the server, tells its pid and is killed.
    told = command({"die_with_parent": True, "drain_wait_s": 0.0})
    parent_code = f"import subprocess, sys, time; p = subprocess.Popen({told!r}); time.sleep(3600)"
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_code],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert parent.stdout is not None
        ready = json.loads(parent.stdout.readline())
        say(ready["listen"][0])
        parent.kill()
        parent.wait()
        until(lambda: not alive(ready["pid"]))
    finally:
        parent.kill()
        assert parent.stdout is not None
        parent.stdout.close()


def test_nobody_needs_to_read_the_ready_line() -> None:
    process = subprocess.Popen(
        command({"drain_wait_s": 0.0}), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert "serving" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(PATIENCE_S) == 0, rest
    assert "Traceback" not in rest
    process.stderr.close()
