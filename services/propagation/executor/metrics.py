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
        yield CounterMetricFamily("wellspring_executor_withheld", "Items given back untried.", counts.withheld)
        yield CounterMetricFamily("wellspring_executor_refused", "Completions not taken.", counts.refused)
        yield GaugeMetricFamily("wellspring_executor_leases", "Batches held.", self._worker.leases_held)
        lag = self._worker.lag
        yield GaugeMetricFamily("wellspring_executor_loop_lag_worst_seconds", "Latest of the event loop.", lag.worst_s)
        yield CounterMetricFamily("wellspring_executor_loop_blocked", "Spells in which it was blocked.", lag.blocked)
        limits = GaugeMetricFamily("wellspring_executor_limit", "Renders that may run at once.", labels=["view"])
        for view, limit in self._worker.limits().items():
            limits.add_metric([view], limit)
        yield limits
        yield from self._targets()

    def _targets(self) -> Iterator[Metric]:
        limits = GaugeMetricFamily("wellspring_target_limit", "Requests that may run at once.", labels=["target"])
        running = GaugeMetricFamily("wellspring_target_running", "Requests under way.", labels=["target"])
        breaker = GaugeMetricFamily("wellspring_target_left_alone", "1: it fails.", labels=["target"])
        opened = CounterMetricFamily("wellspring_target_breaker_opened", "Times it was left alone.", labels=["target"])
        for target in self._worker.targets.all():
            labels = [target.origin]
            limits.add_metric(labels, target.limit.limit)
            running.add_metric(labels, target.running)
            breaker.add_metric(labels, 0 if target.breaker.closed else 1)
            opened.add_metric(labels, target.breaker.opened)
        yield from (limits, running, breaker, opened)
        refused = self._worker.targets.budget.refused
        yield CounterMetricFamily("wellspring_executor_retries_refused", "Beyond the retry budget.", refused)
