"""The counters of cache and read reports as Prometheus metrics, read when they are asked for."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.gateway.domain.cache import PageCache
from services.gateway.reporting import ReadReporter


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


class ReportCollector(Collector):
    """Metrics of the reports of reads."""

    def __init__(self, reporter: ReadReporter) -> None:
        self._reporter = reporter

    def collect(self) -> Iterator[Metric]:
        """Reads by what became of their report, and reports that failed."""
        reads = CounterMetricFamily(
            "wellspring_gateway_reported_reads",
            "Reads of pages that belong to a view: told to propagation, lost because it could not be told, or of pages "
            "read too little to be kept count of.",
            labels=["outcome"],
        )
        reads.add_metric(["told"], self._reporter.reported)
        reads.add_metric(["lost"], self._reporter.lost)
        reads.add_metric(["let_go"], self._reporter.counts.let_go)
        yield reads
        yield CounterMetricFamily(
            "wellspring_gateway_report_failures", "Reports of reads that were not taken.", self._reporter.failures
        )
