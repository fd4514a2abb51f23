"""Each namespace as metrics: what came to it, what its quota refused, what it holds.

Requests are counted as they come, in this process. What a namespace holds is asked of the store now and then; on a
cluster every server tells the same sum, an estimate. Figures that the store does not tell now are left out.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from libs.clock.clock import Clock
from libs.errors.errors import WellspringError
from services.storage.registry import Registry
from services.storage.store.interface import Store, Usage

_EVERY_S: Final = 15.0
"""Between two looks at what namespaces hold: as often as Prometheus usually asks."""
_NAMESPACE: Final = ["namespace"]


class Measures(Collector):
    """The metrics of all namespaces of ``registry``; :meth:`run` is background work."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self._registry = registry
        self._store = store
        self._held: dict[int, Usage] = {}

    async def run(self, clock: Clock) -> None:
        """Looks for ever."""
        while True:
            await self.look()
            await clock.sleep(_EVERY_S)

    async def look(self) -> None:
        """Asks the store once what each namespace holds."""
        held: dict[int, Usage] = {}
        for gate in self._registry.gates():
            try:
                held[gate.namespace.number] = await self._store.usage(gate.namespace)
            except WellspringError:  # its health check says why
                continue
            await asyncio.sleep(0)  # callers come between
        self._held = held

    def collect(self) -> Iterator[Metric]:
        """The families, with a label for the namespace."""
        reads = CounterMetricFamily("wellspring_storage_reads", "Reads let in, each of a batch.", labels=_NAMESPACE)
        writes = CounterMetricFamily("wellspring_storage_writes", "Writes let in, each of a batch.", labels=_NAMESPACE)
        refused = CounterMetricFamily(
            "wellspring_storage_refused", "Requests refused for a rate or their number.", labels=[*_NAMESPACE, "quota"]
        )
        in_flight = GaugeMetricFamily("wellspring_storage_in_flight", "Requests under way.", labels=_NAMESPACE)
        for gate in self._registry.gates():
            name, traffic = gate.namespace.name, gate.traffic
            reads.add_metric([name], traffic.reads)
            writes.add_metric([name], traffic.writes)
            in_flight.add_metric([name], gate.in_flight)
            for quota, count in traffic.refused.items():
                refused.add_metric([name, quota], count)
        yield from (reads, writes, refused, in_flight)
        yield from self._holdings()

    def _holdings(self) -> Iterator[Metric]:
        records = GaugeMetricFamily("wellspring_storage_records", "Records held.", labels=_NAMESPACE)
        items = GaugeMetricFamily("wellspring_storage_items", "Items held.", labels=_NAMESPACE)
        size = GaugeMetricFamily("wellspring_storage_bytes", "Bytes held, as the quota counts them.", labels=_NAMESPACE)
        most_records = GaugeMetricFamily(
            "wellspring_storage_quota_records", "Records that a namespace may hold, if bounded.", labels=_NAMESPACE
        )
        most_bytes = GaugeMetricFamily(
            "wellspring_storage_quota_bytes", "Bytes that a namespace may hold, if bounded.", labels=_NAMESPACE
        )
        for gate in self._registry.gates():
            name, quota = gate.namespace.name, gate.namespace.settings.quota
            held = self._held.get(gate.namespace.number)
            if held is not None:
                records.add_metric([name], held.records)
                items.add_metric([name], held.items)
                size.add_metric([name], held.size_bytes)
            if quota.max_records:
                most_records.add_metric([name], quota.max_records)
            if quota.max_bytes:
                most_bytes.add_metric([name], quota.max_bytes)
        yield from (records, items, size, most_records, most_bytes)
