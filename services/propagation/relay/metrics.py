"""What the relay tells of itself: as metrics, and as one page for people."""

import time
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.propagation.relay.relay import Relay

_COUNTERS = (
    ("messages", "Messages read."),
    ("purged", "Purges that every cache acknowledged."),
    ("repeats", "Purges made again because a cache did not acknowledge them."),
    ("invalid", "Messages that name no purge."),
    ("missed", "Messages dropped by the brokers before they were read: pages may be stale."),
)


class RelayCollector(Collector):
    """Counters, and how far the relay is behind."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        for name, help_text in _COUNTERS:
            yield CounterMetricFamily(f"wellspring_relay_{name}", help_text, getattr(self._relay.counters, name))
        lag = GaugeMetricFamily(
            "wellspring_relay_lag", "Messages not done, by partition.", labels=["topic", "partition"]
        )
        for (topic, at), reached in self._relay.reached.items():
            lag.add_metric([topic, str(at)], max(0, self._relay.ends.get((topic, at), 0) - reached))
        yield lag
        yield GaugeMetricFamily("wellspring_relay_waiting", "Purges under way.", self._relay.waiting)
        age = age_s(self._relay)
        yield GaugeMetricFamily("wellspring_relay_oldest_seconds", "Age of the oldest message under way.", age)
        yield GaugeMetricFamily(
            "wellspring_relay_failing", "1: purges are not acknowledged.", bool(self._relay.failing)
        )


def status_of(relay: Relay, caches: Sequence[str]) -> dict[str, object]:
    """The page: plain values for JSON."""
    counters = {name: getattr(relay.counters, name) for name, _ in _COUNTERS}
    partitions = {
        f"{topic}/{at}": {
            "done_to": reached,
            "end": relay.ends.get((topic, at), 0),
            "lag": max(0, relay.ends.get((topic, at), 0) - reached),
        }
        for (topic, at), reached in sorted(relay.reached.items())
    }
    return {
        "ok": not relay.failing,
        "failing": relay.failing,
        "lag": relay.lag,
        "under_way": relay.waiting,
        "oldest_s": round(age_s(relay), 3),
        "caches": list(caches),
        **counters,
        "partitions": partitions,
    }


def age_s(relay: Relay) -> float:
    """Of the oldest message under way, in seconds; 0 when none is."""
    return max(0.0, time.time() - relay.oldest_ms / 1000) if relay.oldest_ms else 0.0
