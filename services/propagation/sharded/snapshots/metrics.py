"""Metrics of the snapshots of the shards that this process leads or follows."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.propagation.sharded.snapshots.snapshots import Snapshots


class SnapshotsCollector(Collector):
    """By the number of the shard."""

    def __init__(self, shards: Mapping[int, Snapshots]) -> None:
        self._shards = shards

    def collect(self) -> Iterator[Metric]:
        """Each family once."""
        age = _gauge("wellspring_propagation_snapshot_age_seconds", "Since what is newer has none.")
        interval = _gauge("wellspring_propagation_snapshot_interval_seconds", "How old it may become.")
        size = _gauge("wellspring_propagation_snapshot_bytes", "Size of the newest snapshot.")
        begins = _gauge("wellspring_propagation_log_begins_at", "The offset before which the log was trimmed.")
        failed = CounterMetricFamily("wellspring_propagation_snapshot_failures", "That failed.", labels=["shard"])
        for number, one in self._shards.items():
            label = [str(number)]
            age.add_metric(label, one.age_s)
            interval.add_metric(label, one.interval_s)
            size.add_metric(label, one.newest.size_bytes if one.newest is not None else 0)
            begins.add_metric(label, one.log_begins_at)
            failed.add_metric(label, one.failures)
        yield from (age, interval, size, begins, failed)


def _gauge(name: str, says: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, labels=["shard"])
