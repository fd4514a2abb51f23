"""A Redis that fails is left alone: after three failures in a row it is tried once a second, and no call waits."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Counter

from libs.redis.client import RedisUnavailable

log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

_IN_A_ROW: Final = 3
_AGAIN_S: Final = 1.0


class Gate:
    """Of one process. `monotonic` in seconds."""

    def __init__(self, monotonic: Callable[[], float], registry: CollectorRegistry) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._again_s = 0.0
        self._counted = Counter(
            "wellspring_session_cache_total",
            "What became of reads and writes that the cache in front of the sessions took part in",
            ["what"],
            registry=registry,
        )

    def count(self, what: str) -> None:
        """One more: hit, miss, damaged, stale, bypassed, failure, untold."""
        self._counted.labels(what).inc()

    async def ask(self, exchange: Callable[[], Awaitable[_Answer]]) -> _Answer | None:
        """The exchange's answer; None when it failed, or is not tried."""
        if self._failures >= _IN_A_ROW:
            now_s = self._monotonic()
            if now_s < self._again_s:
                return None
            self._again_s = now_s + _AGAIN_S
        try:
            answer = await exchange()
        except RedisUnavailable:
            self._failures += 1
            self.count("failure")
            if self._failures == _IN_A_ROW:
                self._again_s = self._monotonic() + _AGAIN_S
                log.warning("the cache does not answer: sessions are read from the store")
            return None
        if self._failures >= _IN_A_ROW:
            log.warning("the cache answers again")
        self._failures = 0
        return answer
