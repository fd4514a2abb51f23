"""The worker's counters as Prometheus metrics, read when they are asked for."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.propagation.executor.worker import Worker


class WorkerCollector(Collector):
    """Metrics of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        """One family for each counter and gauge."""
        counts = self._worker.counters
        yield CounterMetricFamily("wellspring_executor_done", "Items completed.", counts.done)
        yield CounterMetricFamily("wellspring_executor_changed", "Items stored and purged.", counts.changed)
        yield CounterMetricFamily("wellspring_executor_failed", "Items reported as failures.", counts.failed)
        yield CounterMetricFamily("wellspring_executor_saw_older", "Items whose input lagged.", counts.saw_older)
        yield CounterMetricFamily("wellspring_executor_refused", "Completions not taken.", counts.refused)
        yield GaugeMetricFamily("wellspring_executor_leases", "Batches held.", self._worker.leases_held)
        limits = GaugeMetricFamily("wellspring_executor_limit", "Renders that may run at once.", labels=["view"])
        for view, limit in self._worker.limits().items():
            limits.add_metric([view], limit)
        yield limits
