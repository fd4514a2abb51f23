"""Logs, metrics and traces of one process, opened and closed together."""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TextIO

from opentelemetry.sdk.trace.export import SpanExporter
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from libs.telemetry.logs import Logs
from libs.telemetry.metrics_http import MetricsServer, split_loopback
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.rpc_metrics import RpcMetrics
from libs.telemetry.trace import Tracing


class Telemetry:
    """What a process tells about itself.

    ``registry`` takes a service's own metrics; ``rpc`` counts the calls; ``tracing`` decides and makes spans. ``start``
    and ``stop`` (or ``async with``) open and close the logs and the ``/metrics`` endpoint, whose address is
    ``metrics_address``.

    ``worker`` is the number of this process among its likes, from 0. ``exporter`` and ``log_stream`` are for tests.
    """

    def __init__(
        self,
        options: TelemetryOptions,
        service: str,
        *,
        worker: int = 0,
        exporter: SpanExporter | None = None,
        log_stream: TextIO | None = None,
    ) -> None:
        self.options = options
        self.service = service
        self.registry = CollectorRegistry()
        self.rpc = RpcMetrics()
        self.registry.register(self.rpc)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.tracing = Tracing(options.trace, service, exporter)
        self._log_stream = log_stream
        self._logs: Logs | None = None
        self._http: MetricsServer | None = None
        if options.metrics_listen is not None:
            host, port = split_loopback(options.metrics_listen)
            self._http = MetricsServer(self.registry, f"[{host}]:{port + worker if port else 0}")

    @property
    def metrics_address(self) -> str | None:
        """``host:port`` of ``/metrics`` once started, None without one."""
        return None if self._http is None else self._http.address

    def add_page(self, path: str, content: Callable[[], Mapping[str, object]]) -> None:
        """Serves a page of JSON beside ``/metrics``, if that is served."""
        if self._http is not None:
            self._http.pages[path] = content

    async def start(self) -> None:
        """Opens logs and endpoint. Raises OSError when the endpoint's port is taken."""
        if self._http is not None:
            await self._http.start()
        self._logs = Logs(self.options.log, self.service, self._log_stream)

    async def stop(self) -> None:
        """Closes the endpoint, sends the spans and writes the lines that wait."""
        if self._http is not None:
            await self._http.stop()
        if self.tracing.enabled:
            await asyncio.to_thread(self.tracing.close)
        if self._logs is not None:
            self._logs.close()
            self._logs = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()
