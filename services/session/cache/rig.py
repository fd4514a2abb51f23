"""Servers of one store and one Redis in one process, for tests: each with connections and realms of its own."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry

from libs.clock.clock import SystemClock
from libs.redis.options import Options
from services.session.cache.opening import Cache
from services.session.conformance import harness
from services.session.conformance.harness import Service
from services.session.crypto.keyring import Keyring
from services.session.domain.origins import Listening
from services.session.domain.steady import SteadyClock
from services.session.store.interface import Store

PATIENT_S = 60.0
"""For tests in which no exchange is to fail, however busy the machine is."""
HASTY_S = 0.2
"""For those in which some must."""


class Cached(Service):
    """A service with the cache in front; `registry` counts what it does."""

    cache: Cache
    registry: CollectorRegistry

    def counted(self, what: str) -> int:
        """How often the cache did this."""
        return int(self.registry.get_sample_value("wellspring_session_cache_total", {"what": what}) or 0)


@asynccontextmanager
async def cached(
    redis: Any, store: Store, ring: Keyring, *, timeout_s: float = PATIENT_S, seed: int = 1, **policy: Any
) -> AsyncIterator[Cached]:
    """A server. `redis`: of tools.dev.servers; realms are those of `harness.service`."""
    registry, clock = CollectorRegistry(), SystemClock()
    cache = Cache(Options(("127.0.0.1", redis.port), timeout_s=timeout_s), registry)
    front, hot = cache.front(store, ring, SteadyClock(clock), Listening("local"))
    made = await harness.service(front, ring=ring, clock=clock, seed=seed, **policy)
    tools = replace(made.tools, hot=hot, random=secrets.token_bytes)
    one = Cached(tools, clock, made.events, made.rng)
    one.cache, one.registry = cache, registry
    try:
        yield one
    finally:
        await cache.close()
