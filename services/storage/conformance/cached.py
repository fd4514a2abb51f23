"""A backend behind a cache in a real Redis: one server for all tests of a run, every namespace cached."""

import atexit
import dataclasses
import functools
import inspect
import secrets
import time
from collections.abc import Callable
from typing import Any

from libs.redis.client import Redis as Client
from libs.redis.options import Options as RedisOptions
from services.storage.cache import scripts
from services.storage.cache.redis_entries import RedisEntries
from services.storage.cache.store import CachedStore, Options
from services.storage.domain.namespace import Cache, Namespace, Settings
from services.storage.store.interface import Store
from tools.dev.servers.redis import Redis


@functools.cache
def _redis() -> Redis:
    server = Redis()
    server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return server


class CachedDisk:
    """What ``origin`` opens, and a cache that outlives the store that is opened on it."""

    def __init__(self, origin: Any, clock: Callable[[], int]) -> None:
        self._origin = origin
        self._clock = clock

    async def open(self) -> Store:
        opening = self._origin.open()
        inside: Any = await opening if inspect.isawaitable(opening) else opening
        return await cached(inside, self._clock)


async def cached(inside: Any, clock: Callable[[], int], port: int = 0) -> Store:
    """A store behind the cache of all that have its secret; ``port`` is where it looks for Redis (0: where it is)."""
    redis = Client(RedisOptions(("127.0.0.1", port or _redis().port), timeout_s=60.0, max_connections=8), scripts.ALL)
    secret = await inside.signing_key()
    entries = RedisEntries(redis, secret[:8], secrets.token_bytes)
    options = Options(secret, max_age_us=3_600_000_000)
    store: Any = CachedStore(inside, entries, options, clock, time.monotonic)
    await store.start()

    async def create(settings: Settings, now_us: int, *, restoring: bool = False) -> Namespace:
        settings = dataclasses.replace(settings, cache=Cache(enabled=True))
        made: Namespace = await inside.create_namespace(settings, now_us, restoring=restoring)
        return made

    close = store.close

    async def close_both() -> None:
        await close()
        await inside.close()

    store.create_namespace, store.close = create, close_both
    found: Store = store
    return found
