"""Tells of sources that fall silent, and of those that are heard again: in the log, and as metrics."""

import asyncio
import logging
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from libs.telemetry.logs import fields
from services.propagation.domain.canaries import SourceState
from services.propagation.domain.engine import Engine

log = logging.getLogger(__name__)

_LOOK_S = 1.0


class CanaryWatch(Collector):
    """Over the engine's watched sources."""

    def __init__(self, engine: Engine) -> None:
        self._shard = engine.shard
        self._overdue: set[str] = set()

    def states(self) -> list[SourceState]:
        """Of each watched source, now."""
        return self._shard.canaries.states(self._shard.clock.time_ns())

    def look(self) -> None:
        """Logs what changed since the last look."""
        for state in self.states():
            if state.overdue and state.name not in self._overdue:
                self._overdue.add(state.name)
                log.error("a source sends no canaries any more", extra=fields(source=state.name))
            elif not state.overdue and state.name in self._overdue:
                self._overdue.discard(state.name)
                log.info("a source sends canaries again", extra=fields(source=state.name))

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S)

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        overdue = GaugeMetricFamily(
            "wellspring_propagation_source_overdue", "1: no canary for two periods.", labels=["source"]
        )
        last = GaugeMetricFamily(
            "wellspring_propagation_source_last_canary_seconds", "Unix time of the last canary.", labels=["source"]
        )
        for state in self.states():
            overdue.add_metric([state.name], state.overdue)
            last.add_metric([state.name], state.last_ns / 1e9)
        yield overdue
        yield last
        yield CounterMetricFamily(
            "wellspring_propagation_unwatched_canaries",
            "Canaries of sources that are not configured.",
            self._shard.canaries.unwatched,
        )
