"""What one caller, and all who are not logged in, may use of this server: a flood of strangers is held apart.

Making anonymous sessions has a rate, a share of the calls under way and a limit for each address of its own, so that
however many come, those of subjects find the store and the disk as they would have. A caller may have a rate as well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from services.session.domain.addresses import AddressCounts
from services.session.domain.errors import AnonymousQuota, CallerQuota

MAX_CALLERS: Final = 10_000
"""Counted at once; those beyond share one place. Callers are few and named."""


@dataclass(frozen=True, slots=True)
class Limits:
    """See config.v1.Quotas; `per_caller` 0: no limit."""

    per_caller: int = 0
    anonymous: int = 500
    anonymous_per_address: int = 120
    anonymous_in_flight: int = 32
    max_addresses: int = 100_000


class Bucket:
    """So many in a second, and as many at once after a second without any. `now_s` is monotonic."""

    __slots__ = ("_left", "_rate", "_until_s")

    def __init__(self, rate: int, now_s: float) -> None:
        self._rate = rate
        self._left = float(rate)
        self._until_s = now_s

    def take(self, now_s: float) -> float:
        """Takes one: 0, or how many seconds to wait for one (nothing was taken)."""
        self._left = min(float(self._rate), self._left + (now_s - self._until_s) * self._rate)
        self._until_s = now_s
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._rate


class Quotas:
    """Counts of this process. `now_s` is monotonic, `random(n)` gives n unpredictable bytes."""

    def __init__(self, limits: Limits, now_s: Callable[[], float], random: Callable[[int], bytes]) -> None:
        self._limits = limits
        self._now_s = now_s
        self._callers: dict[str, Bucket] = {}
        self._anonymous = Bucket(limits.anonymous, now_s())
        self._addresses = AddressCounts(limits.max_addresses, now_s, random)
        self._in_flight = 0
        self._refused, self._told_s = 0, float("-inf")

    def called(self, caller: str) -> None:
        """Counts a call. Raises CallerQuota."""
        rate = self._limits.per_caller
        if not rate:
            return
        now_s = self._now_s()
        if caller not in self._callers and len(self._callers) >= MAX_CALLERS:
            caller = ""
        bucket = self._callers.get(caller)
        if bucket is None:
            bucket = self._callers[caller] = Bucket(rate, now_s)
        wait_s = bucket.take(now_s)
        if wait_s:
            raise CallerQuota(f"this caller has used its {rate} calls a second", retry_after_s=wait_s)

    @contextmanager
    def anonymous(self, address: str) -> Iterator[None]:
        """While an anonymous session is made, for a client of this address (empty: not told). Raises AnonymousQuota."""
        try:
            self._admit(address)
        except AnonymousQuota:
            self._refused += 1
            raise
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def to_tell(self) -> int:
        """How many anonymous ones were refused since it was last told; 0 when that was in this second: a flood must not
        fill the log."""
        now_s = self._now_s()
        if now_s < self._told_s + 1:
            return 0
        refused, self._refused, self._told_s = self._refused, 0, now_s
        return refused

    def _admit(self, address: str) -> None:
        limits = self._limits
        if self._in_flight >= limits.anonymous_in_flight:
            raise AnonymousQuota("too many anonymous sessions are being made at this moment", retry_after_s=1.0)
        if address and self._addresses.counted(address) > limits.anonymous_per_address:
            left_s = self._addresses.left_s()
            raise AnonymousQuota("too many anonymous sessions were made for this address", retry_after_s=left_s)
        wait_s = self._anonymous.take(self._now_s())
        if wait_s:
            what = f"{limits.anonymous} anonymous sessions a second are made, as many as this server allows"
            raise AnonymousQuota(what, retry_after_s=max(wait_s, 1.0))
