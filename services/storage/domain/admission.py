"""Admission: a namespace that asks for more than its quota slows itself, and nobody else."""

import math
from collections.abc import Callable

from services.storage.domain.errors import NamespaceBusy, QuotaExceeded
from services.storage.domain.namespace import Namespace

_BURST_S = 1.0
"""A namespace may spend the quota of this time at once."""
_HALF_LIFE_S = 10.0
"""Of the rates that usage shows."""
_BUSY_RETRY_S = 0.05


class Bucket:
    """Tokens that refill at ``rate`` a second, up to the burst; 0 is without limit. Counts a decaying rate too."""

    __slots__ = ("_at_s", "_left", "_mean", "_rate")

    def __init__(self, rate: int, now_s: float) -> None:
        self._rate = rate
        self._left = rate * _BURST_S
        self._at_s = now_s
        self._mean = 0.0

    def take(self, count: int, now_s: float) -> float:
        """Takes ``count`` and answers 0, or takes nothing and answers how many seconds to wait.

        A request larger than the burst is let in when the bucket is full, and paid off by those after it.
        """
        passed_s = now_s - self._at_s
        if passed_s > 0:
            self._at_s = now_s
            self._mean *= math.pow(0.5, passed_s / _HALF_LIFE_S)
            if self._rate:
                self._left = min(self._rate * _BURST_S, self._left + passed_s * self._rate)
        if self._rate:
            need = min(count, self._rate * _BURST_S)
            if self._left < need:
                return (need - self._left) / self._rate
            self._left -= count
        self._mean += count
        return 0.0

    @property
    def limited(self) -> bool:
        """Whether anything can be refused."""
        return self._rate > 0

    def count(self) -> None:
        """Counts one more, for the rate alone, in the moment of the last ``take``."""
        self._mean += 1

    def rate_per_s(self, now_s: float) -> float:
        """What was taken lately, a second."""
        half_lives = max(0.0, now_s - self._at_s) / _HALF_LIFE_S
        return self._mean * math.pow(0.5, half_lives) * math.log(2) / _HALF_LIFE_S


class Traffic:
    """What came to a namespace: operations let in, and requests refused, by the quota that was spent."""

    __slots__ = ("reads", "refused", "writes")

    def __init__(self) -> None:
        self.reads = self.writes = 0
        self.refused: dict[str, int] = {}

    def refuse(self, quota: str) -> None:
        """Counts one."""
        self.refused[quota] = self.refused.get(quota, 0) + 1


class Gate:
    """The gate of one namespace. ``enter`` and ``leave`` are called around each request."""

    __slots__ = ("in_flight", "namespace", "reads", "traffic", "writes")

    def __init__(self, namespace: Namespace, now_s: float, traffic: Traffic | None = None) -> None:
        """``traffic``: counted by the gate that was there before."""
        quota = namespace.settings.quota
        self.namespace = namespace
        self.traffic = traffic or Traffic()
        self.in_flight = 0
        self.reads = Bucket(quota.max_reads_per_s, now_s)
        self.writes = Bucket(quota.max_writes_per_s, now_s)

    def enter(self, identity: str, now_s: float, *, write: bool, count: int = 1) -> Namespace:
        """Lets a request of ``count`` operations in, or raises NamespaceNotFound, AccessDenied, NamespaceDeleted,
        NamespaceBusy or QuotaExceeded."""
        namespace = self.namespace
        if namespace.settings.callers:
            namespace.check_access(identity, write=write)
        if namespace.purge_us or namespace.restoring:
            namespace.check_ready()
        limit = namespace.settings.quota.max_concurrent
        if limit and self.in_flight >= limit:
            self.traffic.refuse("max_concurrent")
            raise NamespaceBusy(
                f"{self.in_flight} requests of the namespace {namespace.name!r} are in flight, as many as may be",
                retry_after_s=_BUSY_RETRY_S,
            )
        self.charge(now_s, write=write, count=count)
        self.in_flight += 1
        return namespace

    def charge(self, now_s: float, *, write: bool, count: int = 1) -> None:
        """Charges ``count`` more operations to a request that was let in, or raises QuotaExceeded."""
        wait_s = (self.writes if write else self.reads).take(count, now_s)
        if wait_s:
            verb = "writes" if write else "reads"
            self.traffic.refuse(f"max_{verb}_per_s")
            raise QuotaExceeded(
                f"the namespace {self.namespace.name!r} has spent its {verb} a second",
                retry_after_s=wait_s,
                metadata={"namespace": self.namespace.name, "quota": f"max_{verb}_per_s"},
            )
        if write:
            self.traffic.writes += count
        else:
            self.traffic.reads += count

    def charge_next(self, clock_s: Callable[[], float], *, write: bool) -> None:
        """As ``charge``, for one more operation of a batch that was let in a moment ago."""
        bucket = self.writes if write else self.reads
        if bucket.limited:
            self.charge(clock_s(), write=write)
        else:
            bucket.count()
            if write:
                self.traffic.writes += 1
            else:
                self.traffic.reads += 1

    def leave(self) -> None:
        """Ends a request that was let in."""
        self.in_flight -= 1
