"""Turns: steps on the same thing come one after the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Generic, TypeVar

K = TypeVar("K")


class KeyedLocks(Generic[K]):
    """One lock for each key that is being used."""

    def __init__(self) -> None:
        self._locks: dict[K, tuple[asyncio.Lock, int]] = {}

    def hold(self, key: K) -> "_Held[K]":
        """``async with locks.hold(key):``."""
        return _Held(self._locks, key)

    def held(self, key: K) -> bool:
        """Whether somebody holds it."""
        return key in self._locks

    @contextlib.asynccontextmanager
    async def hold_all(self, keys: Iterable[K]) -> AsyncIterator[None]:
        """Holds several keys at once. They are to come sorted, each once: then no two who do so wait for each other."""
        held: list[_Held[K]] = []
        try:
            for key in keys:
                one = self.hold(key)
                await one.__aenter__()
                held.append(one)
            yield
        finally:
            for one in held:
                one.release()


class _Held(Generic[K]):
    def __init__(self, locks: dict[K, tuple[asyncio.Lock, int]], key: K) -> None:
        self._locks = locks
        self._key = key

    async def __aenter__(self) -> None:
        lock, users = self._locks.get(self._key, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[self._key] = (lock, users + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """What ``__aexit__`` does, for who holds many."""
        self._locks[self._key][0].release()
        self._leave()

    def _leave(self) -> None:
        lock, users = self._locks.pop(self._key)
        if users > 1:
            self._locks[self._key] = (lock, users - 1)
