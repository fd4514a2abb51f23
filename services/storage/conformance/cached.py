"""The embedded backend behind a cache in a real Redis: one server for all tests of a run, every namespace cached."""

import atexit
import dataclasses
import functools
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from libs.redis.client import Redis as Client
from libs.redis.options import Options as RedisOptions
from services.storage.cache import scripts
from services.storage.cache.redis_entries import RedisEntries
from services.storage.cache.store import CachedStore, Options
from services.storage.domain.namespace import Cache, Namespace, Settings
from services.storage.store.embedded import open_store
from services.storage.store.interface import Store
from services.storage.store.local import LocalOptions
from tools.dev.servers.redis import Redis


@functools.cache
def _redis() -> Redis:
    server = Redis()
    server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return server


class CachedDisk:
    """A data directory, and a cache that outlives the store that is opened on it."""

    def __init__(self, path: Path, clock: Callable[[], int], settings: Any) -> None:
        self._path = path / "data"
        self._clock = clock
        self._settings = settings

    async def open(self) -> Store:
        inside: Any = open_store(self._path, self._clock, LocalOptions(), self._settings)
        redis = Client(RedisOptions(("127.0.0.1", _redis().port), timeout_s=60.0, max_connections=8), scripts.ALL)
        secret = await inside.signing_key()
        entries = RedisEntries(redis, secret[:8], secrets.token_bytes)
        options = Options(secret, max_age_us=3_600_000_000)
        cached: Any = CachedStore(inside, entries, options, self._clock, time.monotonic)
        await cached.start()

        async def create(settings: Settings, now_us: int, *, restoring: bool = False) -> Namespace:
            settings = dataclasses.replace(settings, cache=Cache(enabled=True))
            made: Namespace = await inside.create_namespace(settings, now_us, restoring=restoring)
            return made

        close = cached.close

        async def close_both() -> None:
            await close()
            await inside.close()

        cached.create_namespace, cached.close = create, close_both
        store: Store = cached
        return store
