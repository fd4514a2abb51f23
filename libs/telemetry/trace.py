"""Traces: W3C trace context in and out, the sampling decision, and spans for the calls that are sampled.

The decision is taken from the caller's header or by one random number, before any span exists: a call that is not
sampled costs the reading of one header, and nothing at all when no exporter is configured.
"""

import random
import re
import secrets
from typing import NamedTuple

from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from libs.telemetry.options import TraceOptions

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII)
_EXPORT_TIMEOUT_S = 5
_FLUSH_TIMEOUT_MS = 3000


class TraceContext(NamedTuple):
    """One place in a trace: ``trace_id`` 32 and ``span_id`` 16 lower-case hexadecimal digits."""

    trace_id: str
    span_id: str
    sampled: bool

    def traceparent(self) -> str:
        """The W3C header, version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse_traceparent(header: str | bytes | None) -> TraceContext | None:
    """The caller's place in its trace; None when ``header`` is absent or no W3C traceparent, and so ignored."""
    if not header:
        return None
    found = _TRACEPARENT.fullmatch(header.decode("ascii", "replace") if isinstance(header, bytes) else header)
    if found is None or found[1] == "0" * 32 or found[2] == "0" * 16 or (header[:2] == "00" and len(header) != 55):
        return None
    return TraceContext(found[1], found[2], bool(int(found[3], 16) & 1))


def below(parent: TraceContext | None) -> TraceContext:
    """A new place below ``parent``, or the first of a new trace that is not sampled."""
    if parent is None:
        return TraceContext(secrets.token_hex(16), secrets.token_hex(8), False)
    return TraceContext(parent.trace_id, secrets.token_hex(8), parent.sampled)


class Tracing:
    """Decides which calls are traced and makes their spans.

    ``exporter`` (for tests) takes the place of the OTLP exporter; with neither it nor an endpoint, ``enabled`` is false
    and no call is traced.
    """

    def __init__(self, options: TraceOptions, service: str, exporter: SpanExporter | None = None) -> None:
        if not 0 <= options.ratio <= 1:
            raise ValueError(f"telemetry.trace.ratio is {options.ratio}; 0 to 1 is allowed")
        if exporter is None and options.endpoint is not None:
            exporter = _otlp(options.endpoint)
        self.enabled = exporter is not None
        self._ratio = options.ratio
        self._random = random.Random()  # noqa: S311  (a sample, not a secret)
        self._provider: TracerProvider | None = None
        if exporter is not None:
            self._provider = TracerProvider(resource=Resource.create({"service.name": f"wellspring-{service}"}))
            self._provider.add_span_processor(
                BatchSpanProcessor(exporter, export_timeout_millis=_EXPORT_TIMEOUT_S * 1000)
            )
            self._tracer = self._provider.get_tracer("wellspring")

    def begin(self, method: str, parent: TraceContext | None) -> otel.Span | None:
        """The span of a call that is traced, None for the others. The caller ends it with ``end``."""
        sampled = self._random.random() < self._ratio if parent is None else parent.sampled
        if not sampled or not self.enabled:
            return None
        context = None
        if parent is not None:
            remote = otel.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), True, otel.TraceFlags(1))
            context = otel.set_span_in_context(otel.NonRecordingSpan(remote))
        service, _, name = method.rpartition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        return self._tracer.start_span(method, context=context, kind=otel.SpanKind.SERVER, attributes=attributes)

    @staticmethod
    def place(span: otel.Span) -> TraceContext:
        """The place in its trace that ``span`` takes."""
        at = span.get_span_context()
        return TraceContext(f"{at.trace_id:032x}", f"{at.span_id:016x}", True)

    @staticmethod
    def end(span: otel.Span, code: int) -> None:
        """Ends the span of a call that finished with gRPC code ``code``; no text of the error goes along."""
        span.set_attribute("rpc.grpc.status_code", code)
        if code:
            span.set_status(otel.StatusCode.ERROR)
        span.end()

    def flush(self) -> None:
        """Sends what is waiting. Blocks, at most three seconds: call it off the event loop."""
        if self._provider is not None:
            self._provider.force_flush(_FLUSH_TIMEOUT_MS)

    def close(self) -> None:
        """Sends what is waiting and stops. Blocks, as ``flush`` does."""
        if self._provider is not None:
            self._provider.force_flush(_FLUSH_TIMEOUT_MS)
            self._provider.shutdown()


def _otlp(endpoint: str) -> SpanExporter:
    # Imported here: it brings an HTTP client that a process without traces need not carry.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
