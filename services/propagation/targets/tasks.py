"""Exchanges that are a task each, owned here: `abort` and `close` cancel it, and it ends within its deadline."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from services.propagation.targets.exchange import Exchange

_Kind = TypeVar("_Kind", bound=Exchange)


class ExchangeTasks(Generic[_Kind]):
    """`do` does an exchange; `on_end` is called for each that ended, and was not given up before."""

    def __init__(self, do: Callable[[_Kind], Awaitable[None]], on_end: Callable[[Sequence[Exchange]], None]) -> None:
        self._do = do
        self._on_end = on_end
        self._tasks: dict[Exchange, asyncio.Task[None]] = {}

    def begin(self, exchange: _Kind) -> None:
        """Begins an exchange."""
        self._tasks[exchange] = asyncio.get_running_loop().create_task(self._run(exchange))

    def abort(self, exchange: Exchange) -> None:
        """Cancels an exchange, without calling `on_end`."""
        task = self._tasks.pop(exchange, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Ends all of them."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, exchange: _Kind) -> None:
        await self._do(exchange)
        if self._tasks.pop(exchange, None) is not None:
            self._on_end((exchange,))
