"""What the cache did, as numbers, and as metrics."""

import dataclasses
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclasses.dataclass(slots=True)
class Stats:
    """Counters of one process; the comments beside them are what the metrics say."""

    hits: int = 0
    misses: int = 0
    writing: int = 0
    too_big: int = 0
    expired: int = 0
    damaged: int = 0
    bypassed: int = 0
    failures: int = 0
    refused: int = 0
    unmarked: int = 0
    renewals: int = 0
    owed: int = 0


_HELP = {
    "hits": "Reads answered from the cache.",
    "misses": "Reads of records without a page: asked of the store.",
    "writing": "Reads of records that were being written: asked of the store.",
    "too_big": "Reads of records too big to be kept: asked of the store.",
    "expired": "Pages of which an item had expired: asked of the store.",
    "damaged": "Pages that were not what was put: asked of the store.",
    "bypassed": "Reads with a cookie or a strong consistency: asked of the store.",
    "failures": "Exchanges with the cache that failed.",
    "refused": "Exchanges not tried because those before had failed.",
    "unmarked": "Writes of which the cache could not be told: their namespaces begin anew.",
    "renewals": "Times that all entries of a namespace were given up.",
}


class CacheCollector(Collector):
    """The counters, as ``wellspring_storage_cache_*_total``."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """One family for each counter, and how many namespaces are owed a new generation."""
        for name, help_text in _HELP.items():
            family = CounterMetricFamily(f"wellspring_storage_cache_{name}", help_text)
            family.add_metric([], getattr(self._stats, name))
            yield family
        text = "Namespaces whose entries may be behind, because the cache could not be told of a write."
        yield GaugeMetricFamily("wellspring_storage_cache_owed", text, value=self._stats.owed)
