"""Metrics of the engine."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.propagation.domain.engine import Engine


class EngineCollector(Collector):
    """What is pending, by lane; what is lent, waiting and dead; how big the graph is; completions and cutoffs."""

    def __init__(self, engine: Engine) -> None:
        self._shard = engine.shard

    def collect(self) -> Iterator[Metric]:
        """One family for each counter and gauge."""
        shard = self._shard
        pending = GaugeMetricFamily("wellspring_propagation_pending", "Items pending.", labels=["lane"])
        lanes = dict.fromkeys(shard.settings.lanes, 0)
        for root in list(shard.roots.values()):
            lanes[root.record.lane] = lanes.get(root.record.lane, 0) + root.pending
        for lane, count in lanes.items():
            pending.add_metric([lane], count)
        yield pending
        yield GaugeMetricFamily("wellspring_propagation_leased", "Items lent to executors.", shard.leases.count)
        yield GaugeMetricFamily(
            "wellspring_propagation_retrying", "Items that wait for a retry.", shard.holds.waiting_count
        )
        yield GaugeMetricFamily("wellspring_propagation_dead_letters", "Dead letters.", shard.holds.dead_count)
        yield GaugeMetricFamily("wellspring_propagation_active_roots", "Unfinished roots.", len(shard.roots))
        yield GaugeMetricFamily("wellspring_propagation_edges", "Edges of the graph.", shard.store.edge_count)
        yield GaugeMetricFamily("wellspring_propagation_resources", "Names known.", shard.store.resource_count)
        yield GaugeMetricFamily("wellspring_propagation_epoch", "Fencing epoch.", shard.store.epoch)
        done = CounterMetricFamily("wellspring_propagation_completed", "Items completed.", labels=["view"])
        cut = CounterMetricFamily("wellspring_propagation_cutoffs", "Of them, those unchanged.", labels=["view"])
        for view, (completed, unchanged) in shard.costs.totals.items():
            done.add_metric([shard.views.name(view)], completed)
            cut.add_metric([shard.views.name(view)], unchanged)
        yield done
        yield cut
