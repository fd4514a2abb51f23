"""The cache that a configuration names: its options, and a store put behind it."""

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

from libs.config import wiring
from libs.config.mistakes import ConfigError, Mistake
from libs.redis.client import Redis
from libs.redis.options import Options as RedisOptions
from libs.redis.options import Tls
from services.storage.cache import scripts
from services.storage.cache.redis_entries import RedisEntries
from services.storage.cache.store import CachedStore, Options
from services.storage.store.interface import Store
from wellspring.config.v1 import backend_pb2, server_pb2, storage_pb2

_PORT: Final = 6379
"""Where Redis listens when nothing else is said."""
_FIELD: Final = "backend.cached.redis"


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


def redis_options(config: backend_pb2.Redis) -> RedisOptions:
    """The server that a configuration names. Raises ConfigError for what cannot be read."""
    return RedisOptions(
        address=_address(config.address),
        database=config.database,
        username=config.username,
        password=wiring.password(config.password_file, f"{_FIELD}.password_file") if config.password_file else "",
        tls=_tls(config.tls) if config.HasField("tls") else None,
        timeout_s=wiring.seconds(config.timeout),
        max_connections=config.max_connections,
    )


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(purpose, key=secret, digest_size=32, person=b"storage cache").digest()


def _address(text: str) -> tuple[str, int] | str:
    if text.startswith("unix:/"):
        return text.removeprefix("unix:")
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, _PORT
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        allowed = '"host", "host:port" or "unix:/path" is allowed'
        raise ConfigError([Mistake("", 0, 0, f"{_FIELD}.address", f"is {text!r}", allowed)])
    return host.strip("[]"), int(port)


def _tls(config: server_pb2.ClientTls) -> Tls:
    """The files, tried: a connection that could never be made would only look like a Redis that is away."""
    wiring.client_tls(config, f"{_FIELD}.tls")
    return Tls(config.ca_file, config.certificate_file, config.key_file, config.server_name)
