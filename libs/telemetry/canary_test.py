"""Secrets planted wherever a caller can put them: none comes out in a log, a metric, a trace or an error."""

import asyncio
import io
import logging
import urllib.request
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.errors.errors import InvalidArgument
from libs.rpc.policy import Policy
from libs.rpc.testing.harness import ENGINES, Running, echo_server
from libs.telemetry.logs import fields
from libs.telemetry.options import LogOptions, TelemetryOptions, TraceOptions
from libs.telemetry.telemetry import Telemetry
from wellspring.bench.v1 import echo_pb2 as pb

CANARY = "canary-c0ffee"
METADATA = (
    ("authorization", f"Bearer {CANARY}"),
    ("cookie", CANARY),
    ("x-request-id", "r" * 3),
    ("canary-bin", CANARY.encode()),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)


def planted(**behaviour: Any) -> pb.SayRequest:
    return pb.SayRequest(
        payload=CANARY.encode(),
        secret=pb.Secret(value=CANARY),
        password=CANARY,
        secrets={"a": pb.Secret(value=CANARY)},
        behaviour=pb.Behaviour(**behaviour),
    )


def log_the_request(request: pb.SayRequest) -> None:
    shown = pb.SayRequest()
    shown.CopyFrom(request)
    shown.ClearField("behaviour")  # it tells what text the unexpected exception shall have: no secret where it stands
    logging.getLogger("service").warning("a request", extra=fields(request=shown, raw=request.SerializeToString()))


def reject(request: Any) -> None:
    if not request.payloads:
        raise InvalidArgument.field("payloads", "is empty")
    raise ValueError(f"a validator that fails with what it has seen: {request}")


async def every_way_to_fail(running: Running) -> str:
    """Calls in every way that ends differently; returns all that the caller was told."""
    told: list[str] = []

    async def call(awaited: Any) -> None:
        try:
            await awaited
        except grpc.aio.AioRpcError as error:
            told.append(f"{error.code()} {error.details()} {error.trailing_metadata()} {error.debug_error_string()}")
        else:
            told.append("OK")

    stub = running.stub
    await call(stub.Say(planted(), metadata=METADATA))
    for kind in ("NotFound", "Internal", "DataLoss", CANARY):
        await call(stub.Say(planted(fail_with=kind), metadata=METADATA))
        await call(stub.Repeat(pb.RepeatRequest(payload=CANARY.encode(), fail_with=kind), metadata=METADATA).read())
    await call(stub.Say(planted(wait_ms=60_000), metadata=METADATA, timeout=0.1))
    await call(stub.SayBatch(pb.SayBatchRequest(payloads=[CANARY.encode()]), metadata=METADATA))
    await call(stub.SayBatch(pb.SayBatchRequest(), metadata=METADATA))
    channel: Any = running.channel
    raw = channel.unary_unary("/wellspring.bench.v1.Echo/Say")
    await call(raw(b"\x0a\xff" + CANARY.encode(), metadata=METADATA))
    await call(channel.unary_unary("/wellspring.bench.v1.Echo/Absent")(CANARY.encode(), metadata=METADATA))
    return "\n".join(told)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_planted_secret_comes_out(engine: str) -> None:
    stream, exporter = io.StringIO(), InMemorySpanExporter()
    options = TelemetryOptions("127.0.0.1:0", LogOptions(level="DEBUG", calls="all"), TraceOptions(ratio=1.0))
    telemetry = Telemetry(options, "echo", exporter=exporter, log_stream=stream)
    policies = {"Say": Policy(validator=log_the_request), "SayBatch": Policy(validator=reject)}

    async def main() -> tuple[str, str]:
        async with telemetry, echo_server(engine=engine, telemetry=telemetry, policies=policies) as running:
            told = await every_way_to_fail(running)
            url = f"http://{telemetry.metrics_address}/metrics"
            metrics = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
            telemetry.tracing.flush()
            return told, metrics

    told, metrics = asyncio.run(main())
    traces = "\n".join(span.to_json() for span in exporter.get_finished_spans())
    logs = stream.getvalue()
    assert "INTERNAL" in told and "OK" in told and '"request":{' in logs
    assert 'code="INTERNAL"' in metrics and "rpc.method" in traces
    for name, shown in (("errors", told), ("logs", logs), ("metrics", metrics), ("traces", traces)):
        at = shown.find(CANARY)
        assert at < 0, f"a secret came out in {name}: …{shown[max(0, at - 200) : at + 50]}…"
