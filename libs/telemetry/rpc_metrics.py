"""Metrics of every RPC: how many, how they ended, how long they took, how many are under way.

They are plain numbers, one object for each method, touched by the event loop's thread alone; Prometheus' families are
made of them when somebody asks. Counting a call costs under two microseconds, where the client library's locked
counters cost ten.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from libs.errors.errors import Code

BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latency buckets, in seconds: from a cached answer on loopback to the default deadline."""

_CODE_NAMES = [code.name for code in sorted(Code)]


class MethodMetrics:
    """The numbers of one method."""

    __slots__ = ("buckets", "codes", "in_flight", "method", "seconds")

    def __init__(self, method: str) -> None:
        self.method = method
        self.in_flight = 0
        self.codes = [0] * len(_CODE_NAMES)
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0

    def done(self, code: int, seconds: float) -> None:
        """Counts a call that ended with gRPC code ``code`` after ``seconds``."""
        self.codes[code] += 1
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds += seconds


class RpcMetrics(Collector):
    """The numbers of every method of a server, as a Prometheus collector."""

    def __init__(self) -> None:
        self._methods: dict[str, MethodMetrics] = {}

    def of(self, method: str) -> MethodMetrics:
        """The numbers of ``method`` (``package.Service/Method``): ask once, keep the object."""
        return self._methods.setdefault(method, MethodMetrics(method))

    def collect(self) -> Iterator[Metric]:
        """The families ``wellspring_rpc_calls_total``, ``wellspring_rpc_seconds`` and ``wellspring_rpc_in_flight``."""
        calls = CounterMetricFamily("wellspring_rpc_calls", "Calls ended, by gRPC code.", labels=["method", "code"])
        took = HistogramMetricFamily("wellspring_rpc_seconds", "Time from arrival to answer.", labels=["method"])
        under_way = GaugeMetricFamily("wellspring_rpc_in_flight", "Calls admitted and not ended.", labels=["method"])
        for name, numbers in self._methods.items():
            under_way.add_metric([name], numbers.in_flight)
            for code, count in zip(_CODE_NAMES, numbers.codes, strict=True):
                if count:
                    calls.add_metric([name, code], count)
            total = 0
            buckets = []
            for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], numbers.buckets, strict=True):
                total += count
                buckets.append((bound, total))
            took.add_metric([name], buckets, numbers.seconds)
        yield calls
        yield took
        yield under_way
