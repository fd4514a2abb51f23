"""What a service's configuration says about its logs, metrics and traces."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class LogOptions:
    """``calls`` says which calls get a line: failures of ours and slow ones, every failure, or every call."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    calls: Literal["problems", "failures", "all"] = "problems"
    slow_call_s: float = 5.0


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """``endpoint`` is the full URL of an OTLP/HTTP collector (``http://127.0.0.1:4318/v1/traces``); None makes no span
    at all.

    ``ratio`` is the share of calls traced of those that come without a caller's decision, 0 to 1.
    """

    endpoint: str | None = None
    ratio: float = 0.01


@dataclass(frozen=True, slots=True)
class TelemetryOptions:
    """``metrics_listen`` is a loopback ``host:port`` for ``/metrics`` (port 0: any free one), or None for no endpoint.

    With several worker processes worker number ``n`` (from 0) listens on the port plus ``n``.
    """

    metrics_listen: str | None = None
    log: LogOptions = field(default_factory=LogOptions)
    trace: TraceOptions = field(default_factory=TraceOptions)
