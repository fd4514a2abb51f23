"""The cache's counters as Prometheus metrics, read when they are asked for."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.gateway.domain.cache import PageCache


class CacheCollector(Collector):
    """Metrics of one page cache."""

    def __init__(self, cache: PageCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        """One family for each counter and gauge."""
        counts = self._cache.statistics
        reads = CounterMetricFamily(
            "wellspring_gateway_reads",
            "Page reads, by what the cache had.",
            labels=["cache"],
        )
        reads.add_metric(["hit"], counts.hits)
        reads.add_metric(["miss"], counts.misses)
        yield reads
        yield CounterMetricFamily("wellspring_gateway_purged", "Pages that purges removed.", counts.purged)
        yield CounterMetricFamily("wellspring_gateway_evicted", "Pages removed for room.", counts.evicted)
        yield CounterMetricFamily(
            "wellspring_gateway_refused",
            "Reads of storage that were older than a purge's minimum.",
            counts.refused,
        )
        yield GaugeMetricFamily("wellspring_gateway_cache_bytes", "Bytes held.", self._cache.size_bytes)
        yield GaugeMetricFamily("wellspring_gateway_cache_pages", "Pages held.", len(self._cache))
