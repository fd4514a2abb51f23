"""Echo servers for tests: in this process, or as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from libs.auth.options import AuthOptions
from libs.rpc.errors import DETAILS_KEY
from libs.rpc.options import ServerOptions
from libs.rpc.server import Server
from libs.rpc.testing.echo import POLICIES, SERVICE, EchoServicer
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from wellspring.bench.v1 import echo_pb2_grpc

ENGINES = ("grpcio", "native")
_STOP_S = 120


@dataclass
class Running:
    """An echo server in this process, and a channel to it."""

    server: Server
    servicer: EchoServicer
    telemetry: Telemetry
    channel: grpc.aio.Channel
    stub: Any


@asynccontextmanager
async def echo_server(
    *,
    policies: dict[str, Any] | None = None,
    auth: AuthOptions | None = None,
    telemetry: Telemetry | None = None,
    **options: Any,
) -> AsyncIterator[Running]:
    """Serves the echo service in this process; ``options`` are fields of ``ServerOptions``."""
    telemetry = telemetry or Telemetry(TelemetryOptions(), "echo")
    given: dict[str, Any] = {"service": "echo", "drain_wait_s": 0.0, "drain_grace_s": 2.0} | options
    server = Server(ServerOptions(**given), telemetry, auth=auth)
    servicer = EchoServicer()
    server.add_service(SERVICE, servicer, POLICIES | (policies or {}))
    async with server, grpc.aio.insecure_channel(server.addresses[0]) as channel:
        yield Running(server, servicer, telemetry, channel, echo_pb2_grpc.EchoStub(channel))


@dataclass
class Details:
    """What a failed call carried: its code, text, ErrorInfo, wrong fields, the time to come back, and its trailers."""

    code: grpc.StatusCode
    text: str
    reason: str
    metadata: dict[str, str]
    violations: list[tuple[str, str]] = field(default_factory=list)
    retry_s: float | None = None
    trailers: dict[str, Any] = field(default_factory=dict)


def details(error: grpc.RpcError) -> Details:
    """The details of ``error``; fails when it carries no rich status, or one that says otherwise than the call."""
    found: Any = error
    trailers = dict(found.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers[DETAILS_KEY])
    assert status.code == found.code().value[0]
    assert status.message == found.details()
    told = Details(found.code(), found.details(), "", {}, trailers=trailers)
    for packed in status.details:
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            packed.Unpack(info)
            assert info.domain == "wellspring"
            told.reason, told.metadata = info.reason, dict(info.metadata)
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            wrong = error_details_pb2.BadRequest()
            packed.Unpack(wrong)
            told.violations = [(violation.field, violation.description) for violation in wrong.field_violations]
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            packed.Unpack(retry)
            told.retry_s = retry.retry_delay.ToNanoseconds() / 1e9
    return told


@dataclass
class Process:
    """An echo server as a process: its ready line, and its standard error in a file."""

    process: "subprocess.Popen[str]"
    ready: dict[str, Any]
    errors: Path

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self.ready["listen"][0])

    def stderr(self) -> str:
        """What it wrote to standard error so far."""
        return self.errors.read_text(encoding="utf-8")

    def terminate(self) -> int:
        """Sends SIGTERM and returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Waits for the end and returns the exit status."""
        return self.process.wait(_STOP_S)


def command(told: dict[str, Any]) -> list[str]:
    """The command line of an echo server as ``told`` (see echo_main)."""
    return [sys.executable, "-m", "libs.rpc.testing.echo_main", json.dumps(told)]


def environment() -> dict[str, str]:
    """The environment in which a child finds the modules that this process finds."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextmanager
def echo_process(**told: Any) -> Iterator[Process]:
    """An echo server as a process of its own; killed, with its workers, when the block ends.

    ``ready`` is empty when the process ended before it was ready.
    """
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder, "stderr")
        with errors.open("w") as sink:
            process = subprocess.Popen(
                command(told),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                start_new_session=True,
            )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            yield Process(process, json.loads(line) if line else {}, errors)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(_STOP_S)
            process.stdout.close()
