"""The cache that a configuration names: its options, and a store put behind it."""

import hashlib
import secrets
from collections.abc import Callable

from libs.config.redis import redis_options
from libs.redis.client import Redis
from services.storage.cache import scripts
from services.storage.cache.redis_entries import RedisEntries
from services.storage.cache.store import CachedStore, Options
from services.storage.store.interface import Store
from wellspring.config.v1 import storage_pb2


async def open_cached(
    config: storage_pb2.CachedStorage,
    inside: Store,
    clock_us: Callable[[], int],
    monotonic_s: Callable[[], float],
    *,
    place: str,
    settle_s: float,
) -> CachedStore:
    """``inside`` behind the cache of ``config``; Redis need not be there. ``place`` names the data centre whose servers
    share the entries; ``settle_s`` as ``Switch``. Raises ConfigError, and what the store's signing key raises."""
    redis = redis_options(config.redis)
    secret = await inside.signing_key()
    options = Options(
        key=_derived(secret, b"seal"),
        max_age_us=config.max_age.ToMicroseconds(),
        max_entry_bytes=config.max_entry_bytes,
        settle_s=settle_s,
    )
    # Stores that share a Redis server do not meet: each has a prefix that its own secret makes.
    prefix = b"wellspring.%s." % _derived(secret, b"prefix " + place.encode())[:8].hex().encode()
    entries = RedisEntries(Redis(redis, scripts.ALL), prefix, secrets.token_bytes)
    store = CachedStore(inside, entries, options, clock_us, monotonic_s)
    await store.start()
    return store


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(purpose, key=secret, digest_size=32, person=b"storage cache").digest()
