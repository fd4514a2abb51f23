"""Turns: steps on the same thing come one after the other."""

import asyncio
import collections
from collections.abc import Iterable
from typing import Generic, TypeVar

K = TypeVar("K")
_Waiting = collections.deque["asyncio.Future[None]"]


class KeyedLocks(Generic[K]):
    """One lock for each key that is being used: those who wait for it get it in the order in which they came."""

    def __init__(self) -> None:
        self._locks: dict[K, _Waiting | None] = {}

    def hold(self, key: K) -> "_Held[K]":
        """``async with locks.hold(key):``."""
        return _Held(self, (key,))

    def held(self, key: K) -> bool:
        """Whether somebody holds it."""
        return key in self._locks

    def hold_all(self, keys: Iterable[K]) -> "_Held[K]":
        """Holds several keys at once. They are to come sorted, each once: then no two who do so wait for each other."""
        return _Held(self, keys)

    async def wait(self, key: K) -> None:
        """Waits for a key that somebody holds, to hold it then."""
        waiting = self._locks[key]
        if waiting is None:
            waiting = self._locks[key] = collections.deque()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except BaseException:
            if not turn.cancelled():
                self.leave(key)  # it came at the very moment
            raise

    def leave(self, key: K) -> None:
        """Gives a key to who waits for it."""
        waiting = self._locks[key]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():  # else who waited went away
                turn.set_result(None)
                return
        del self._locks[key]


class _Held(Generic[K]):
    def __init__(self, locks: KeyedLocks[K], keys: Iterable[K]) -> None:
        self._locks = locks
        self._keys = keys
        self._held: list[K] = []

    async def __aenter__(self) -> None:
        taken = self._locks._locks
        try:
            for key in self._keys:
                if key in taken:
                    await self._locks.wait(key)
                else:
                    taken[key] = None
                self._held.append(key)
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        for key in self._held:
            self._locks.leave(key)
