"""How far the results of other data centres are taken."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.propagation.homes.taking import Taking


class HomesCollector(Collector):
    """By home."""

    def __init__(self, homes: Sequence[Taking]) -> None:
        self._homes = homes

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        awaited = GaugeMetricFamily(
            "wellspring_propagation_home_awaited", "Pages rendered there that the store here has not.", labels=["home"]
        )
        taken = CounterMetricFamily(
            "wellspring_propagation_home_taken", "Pages taken since the start.", labels=["home"]
        )
        failing = GaugeMetricFamily(
            "wellspring_propagation_home_failing", "1: nothing can be taken from there now.", labels=["home"]
        )
        for home in self._homes:
            awaited.add_metric([home.datacentre], home.awaited)
            taken.add_metric([home.datacentre], home.state.changes)
            failing.add_metric([home.datacentre], float(bool(home.state.error)))
        yield awaited
        yield taken
        yield failing
