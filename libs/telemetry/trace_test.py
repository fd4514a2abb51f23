"""Traces: the W3C header, the decision, and spans that arrive at a collector."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.rpc.testing.harness import ENGINES, echo_server
from libs.telemetry.options import TelemetryOptions, TraceOptions
from libs.telemetry.telemetry import Telemetry
from libs.telemetry.trace import TraceContext, Tracing, below, parse_traceparent
from wellspring.bench.v1 import echo_pb2 as pb

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        PARENT.upper(),
        PARENT + "-extra",
        PARENT[:-1],
        "ff" + PARENT[2:],
        PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        PARENT.replace("b7ad6b7169203331", "0" * 16),
        b"\xff\xfe",
        " " + PARENT,
    ],
)
def test_a_header_that_is_no_traceparent_is_ignored(header: Any) -> None:
    assert parse_traceparent(header) is None


def test_headers_are_read_and_written() -> None:
    assert parse_traceparent(PARENT) == TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)
    assert parse_traceparent(PARENT.encode()) == parse_traceparent(PARENT)
    later = parse_traceparent("cc" + PARENT[2:] + "-what-the-future-brings")
    assert later is not None and later.sampled
    unsampled = parse_traceparent(PARENT[:-2] + "02")
    assert unsampled is not None and not unsampled.sampled
    child = below(parse_traceparent(PARENT))
    assert child.traceparent()[:36] == PARENT[:36] and child.span_id != "b7ad6b7169203331"
    assert parse_traceparent(below(None).traceparent()) is not None


def test_the_caller_decides_and_else_the_ratio() -> None:
    exporter = InMemorySpanExporter()
    sampled, unsampled = parse_traceparent(PARENT), parse_traceparent(PARENT[:-2] + "00")
    never = Tracing(TraceOptions(ratio=0.0), "test", exporter)
    always = Tracing(TraceOptions(ratio=1.0), "test", exporter)
    assert never.begin("a.B/C", None) is None
    assert never.begin("a.B/C", sampled) is not None
    assert always.begin("a.B/C", unsampled) is None
    assert always.begin("a.B/C", None) is not None
    some = Tracing(TraceOptions(ratio=0.1), "test", exporter)
    some._random.seed(7)
    share = sum(some.begin("a.B/C", None) is not None for _ in range(2000)) / 2000
    assert 0.07 < share < 0.13
    off = Tracing(TraceOptions(ratio=1.0), "test")
    assert not off.enabled and off.begin("a.B/C", sampled) is None
    with pytest.raises(ValueError, match="0 to 1 is allowed"):
        Tracing(TraceOptions(ratio=-0.1), "test")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sampled_call_is_a_span_below_its_callers(engine: str) -> None:
    async def main() -> None:
        exporter = InMemorySpanExporter()
        telemetry = Telemetry(TelemetryOptions(trace=TraceOptions(ratio=0.0)), "echo", exporter=exporter)
        async with echo_server(engine=engine, telemetry=telemetry) as running:
            said = await running.stub.Say(pb.SayRequest(), metadata=(("traceparent", PARENT),))
            await running.stub.Say(pb.SayRequest())
            with pytest.raises(Exception, match="NOT_FOUND"):
                request = pb.SayRequest(behaviour=pb.Behaviour(fail_with="NotFound"))
                await running.stub.Say(request, metadata=(("traceparent", PARENT),))
            telemetry.tracing.flush()
        first, failed = exporter.get_finished_spans()
        at = first.context
        assert at is not None and said.traceparent == f"00-{at.trace_id:032x}-{at.span_id:016x}-01"
        assert first.parent is not None and f"{first.parent.span_id:016x}" == "b7ad6b7169203331"
        assert first.attributes is not None and first.attributes["rpc.method"] == "Say"
        assert failed.attributes is not None and failed.attributes["rpc.grpc.status_code"] == 5
        assert failed.status.description is None and not failed.events

    asyncio.run(main())


class Collector(HTTPServer):
    """An OTLP/HTTP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[str] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import gzip

                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sent = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
                for resource in sent.resource_spans:
                    for scope in resource.scope_spans:
                        spans.extend(span.name for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


def test_spans_arrive_at_a_collector_before_the_process_ends() -> None:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{collector.server_port}/v1/traces"

        async def main() -> None:
            options = TelemetryOptions(trace=TraceOptions(endpoint=endpoint, ratio=1.0))
            async with Telemetry(options, "echo") as telemetry, echo_server(telemetry=telemetry) as running:
                for _ in range(3):
                    await running.stub.Say(pb.SayRequest())

        asyncio.run(main())
        collector.shutdown()
        thread.join()
        assert collector.spans == ["wellspring.bench.v1.Echo/Say"] * 3
