"""Metrics of the shards that this process leads: those of an engine, each with the label `shard`."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.propagation.fleet.shards import Shards


class FleetCollector(Collector):
    """Of the own ones of `shards`, as they are when asked."""

    def __init__(self, shards: Callable[[], Shards]) -> None:
        self._shards = shards

    def collect(self) -> Iterator[Metric]:
        """Each family once."""
        shards = self._shards()
        own = list(shards.own.values())
        yield GaugeMetricFamily("wellspring_propagation_shards", "Shards that there are.", shards.count)
        yield GaugeMetricFamily("wellspring_propagation_led_shards", "Of them, those that this engine leads.", len(own))
        untold = GaugeMetricFamily(
            "wellspring_propagation_untold",
            "Records of changed outputs that other shards have still to take.",
            None,
            ["shard"],
        )
        for shard in own:
            untold.add_metric([str(shard.number)], sum(shard.engine.shard.interest.waiting.values()))
        yield untold
        families: dict[str, Metric] = {}
        for shard in own:
            for family in (family for collector in shard.collectors for family in collector.collect()):
                whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    labels = {**sample.labels, "shard": str(shard.number)}
                    whole.add_sample(sample.name, labels, sample.value)
        yield from families.values()
