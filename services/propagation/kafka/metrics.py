"""How far the rules are behind the topics that they listen to, and what came over HTTP."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.propagation.kafka.receiving import Receiver
from services.propagation.kafka.source import KafkaSource
from services.propagation.rules.rules import Rules
from services.propagation.rules.topics import topic_of


class SourceCollector(Collector):
    """By rule and topic; what the rules have at work is among their own metrics."""

    def __init__(self, rules: Rules, source: KafkaSource) -> None:
        self._rules = rules
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        lag = GaugeMetricFamily(
            "wellspring_propagation_rule_lag", "Events of a topic that a rule has not done.", labels=["rule", "topic"]
        )
        behind: dict[tuple[str, str], int] = {}
        for (rule, stream), reached in self._rules.runner.reached().items():
            topic = topic_of(stream)
            if topic in self._source.topics:
                left = max(0, self._source.newest(stream) - reached)
                behind[rule, topic] = behind.get((rule, topic), 0) + left
        for labels, left in behind.items():
            lag.add_metric(list(labels), left)
        yield lag
        yield CounterMetricFamily(
            "wellspring_propagation_events_gone",
            "Events dropped by the brokers before they were read.",
            self._source.gone,
        )
        down = GaugeMetricFamily("wellspring_propagation_events_failing", "1: Kafka's topics cannot be read now.")
        down.add_metric([], self._source.failing is not None)
        yield down


class ReceiverCollector(Collector):
    """What came over HTTP."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        yield CounterMetricFamily(
            "wellspring_propagation_http_events",
            "CloudEvents over HTTP that are in their topics.",
            self._receiver.taken,
        )
        yield CounterMetricFamily(
            "wellspring_propagation_http_refused",
            "Requests with CloudEvents that were not taken.",
            self._receiver.refused,
        )
