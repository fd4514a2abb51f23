"""The auditor's figures as Prometheus metrics, read when they are asked for."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.propagation.auditor.freshness import Freshness
from services.propagation.auditor.judging import Finding
from services.propagation.auditor.sweeping import Sweeper


class AuditorCollector(Collector):
    """Metrics of one auditor. The sweep's are of its last whole turn and of the one under way."""

    def __init__(self, freshness: Freshness, sweeper: Sweeper | None) -> None:
        self._freshness = freshness
        self._sweeper = sweeper

    def collect(self) -> Iterator[Metric]:
        """One family for each figure."""
        looks = CounterMetricFamily(
            "wellspring_auditor_looks",
            "Looks at pages through caches, so long after they changed.",
            labels=["cache", "delay", "verdict"],
        )
        for (cache, delay, verdict), count in self._freshness.looks.items():
            looks.add_metric([cache, delay, verdict], count)
        yield looks
        repairs = CounterMetricFamily(
            "wellspring_auditor_cache_repairs", "Purges of pages found stale.", labels=["cache", "outcome"]
        )
        for (cache, outcome), count in self._freshness.repairs.items():
            repairs.add_metric([cache, outcome], count)
        yield repairs
        yield CounterMetricFamily(
            "wellspring_auditor_skipped", "Looks that were due and not made.", self._freshness.skipped
        )
        yield self._staleness()
        if self._sweeper is not None:
            yield from self._sweep(self._sweeper)

    def _staleness(self) -> Metric:
        family = HistogramMetricFamily(
            "wellspring_auditor_staleness_seconds",
            "Seconds until a changed page was first seen fresh, by the delays at which it was looked at.",
            labels=["cache"],
        )
        for cache, known in self._freshness.staleness.items():
            total = 0
            buckets: list[tuple[str, float]] = []
            for delay, count in zip([*map(str, self._freshness.delays_s), "+Inf"], known.counts, strict=True):
                total += count
                buckets.append((delay, total))
            family.add_metric([cache], buckets=buckets, sum_value=known.sum_s)
        return family

    @staticmethod
    def _sweep(sweeper: Sweeper) -> Iterator[Metric]:
        last, now = sweeper.last, sweeper.turn
        yield GaugeMetricFamily(
            "wellspring_auditor_sweep_pages",
            "Pages compared in the turn under way.",
            now.tally.counts["pages"] if now else 0,
        )
        yield GaugeMetricFamily(
            "wellspring_auditor_sweep_last_end_seconds",
            "When the last turn ended, in seconds since 1970; 0: none has.",
            last.ended_ns / 1e9 if last else 0,
        )
        yield GaugeMetricFamily(
            "wellspring_auditor_sweep_last_duration_seconds",
            "How long it took.",
            (last.ended_ns - last.began_ns) / 1e9 if last else 0,
        )
        for turn, name, text in ((last, "last", "In the last turn"), (now, "present", "In the turn under way")):
            found = GaugeMetricFamily(
                f"wellspring_auditor_sweep_{name}_findings", f"{text}: pages that differed.", labels=["kind"]
            )
            for kind in Finding:
                found.add_metric([kind.value], turn.tally.counts[kind.value] if turn else 0)
            found.add_metric(["cache_stale"], turn.tally.counts["cache_stale"] if turn else 0)
            yield found
            yield GaugeMetricFamily(
                f"wellspring_auditor_sweep_{name}_not_repaired",
                f"{text}: of them, those left as they were.",
                turn.tally.counts["not_repaired"] + turn.tally.counts["cache_not_repaired"] if turn else 0,
            )
