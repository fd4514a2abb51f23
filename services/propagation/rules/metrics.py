"""Metrics of the rules."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.propagation.rules.rules import Rules

_COUNTERS = (
    ("events", "Events that a rule listened to."),
    ("matched", "Of them, those that it acts on."),
    ("requests", "Requests that it made."),
    ("retries", "Of them, those that were made again."),
    ("done", "Events done."),
    ("failed", "Events given up: dead letters."),
)


class RulesCollector(Collector):
    """What each rule has seen, done and given up, and what it has at work."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def collect(self) -> Iterator[Metric]:
        """One family for each counter and gauge."""
        found = dict(self._rules.runner.counters)
        for name, help_text in _COUNTERS:
            family = CounterMetricFamily(f"wellspring_propagation_rule_{name}", help_text, labels=["rule"])
            for rule, counters in found.items():
                family.add_metric([rule], getattr(counters, name))
            yield family
        waiting = GaugeMetricFamily("wellspring_propagation_rule_waiting", "Events at work.", labels=["rule"])
        for rule, count in self._rules.runner.waiting.items():
            waiting.add_metric([rule], count)
        yield waiting
