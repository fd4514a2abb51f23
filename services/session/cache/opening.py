"""The cache that a configuration names, put in front of a store when the keyring is there."""

import secrets
import time
from typing import Final

from prometheus_client import CollectorRegistry

from libs.clock.clock import Clock
from libs.config.redis import redis_options
from libs.redis.client import Redis
from libs.redis.options import Options
from services.session.cache.entries import ALL, Entries
from services.session.cache.gate import Gate
from services.session.cache.hints import Hints
from services.session.cache.hot import CachedHot
from services.session.cache.pages import Pages
from services.session.cache.store import CachedStore
from services.session.crypto.keyring import Keyring
from services.session.domain.hot import Hot
from services.session.domain.origins import Listening
from services.session.domain.realms import Realms
from services.session.domain.steady import SteadyClock
from services.session.store.interface import Store
from wellspring.config.v1 import session_pb2 as config_pb

_MICROS: Final = 1000


class Cache:
    """One Redis, of one server. It need not be there."""

    def __init__(self, options: Options, registry: CollectorRegistry) -> None:
        self._options = options
        self._entries = Entries(Redis(options, ALL), secrets.token_bytes)
        self._gate = Gate(time.monotonic, registry)

    @classmethod
    def of(cls, config: config_pb.CachedSession, registry: CollectorRegistry) -> "Cache":
        """As a configuration says. Raises ConfigError for what cannot be read."""
        return cls(redis_options(config.redis), registry)

    def front(self, store: Store, keyring: Keyring, clock: SteadyClock, listening: Listening) -> tuple[Store, Hot]:
        """The store with this cache in front, and what the hot path reads."""
        pages = Pages(keyring, secrets.token_bytes)
        cached = CachedStore(store, self._entries, pages, self._gate, lambda: time.monotonic_ns() // _MICROS)
        return cached, CachedHot(cached, clock.now_us, listening)

    def hints(self, keyring: Keyring, realms: Realms, clock: Clock) -> Hints:
        """The other servers' hints; to be run."""
        return Hints(self._options, Pages(keyring, secrets.token_bytes).channel(), realms, clock)

    async def close(self) -> None:
        """Closes the connections."""
        await self._entries.close()
