"""The other backends that the configuration names as targets of mirrors: each opened when it is first asked for."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from services.storage.store.interface import Store

Opener = Callable[[], Awaitable[Store]]


class Mirrors:
    """Backends by name."""

    def __init__(self, openers: Mapping[str, Opener]) -> None:
        self._openers = dict(openers)
        self._opened: dict[str, Store] = {}
        self._opening = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """Those that there are."""
        return sorted(self._openers)

    async def open(self, name: str) -> Store:
        """The backend of a name. Raises what opening it raises."""
        async with self._opening:
            if name not in self._opened:
                self._opened[name] = await self._openers[name]()
            return self._opened[name]

    async def close(self) -> None:
        """Closes those that were opened."""
        while self._opened:
            _, store = self._opened.popitem()
            await store.close()
