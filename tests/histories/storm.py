"""Clients at work on servers that have one store in common, and troubles that come over the servers meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tests.histories.clients import Client, channel, create_namespace
from tests.histories.recording import History
from tests.histories.server import Server

CLIENTS: Final = 8
RECORDS: Final = 6
TROUBLES: Final = ("kill", "stop", "kill", "long stop", "kill while stopped", "stop")
"""Of each storm, in an order that the seed chooses."""


async def storm(servers: Sequence[Server], chance: random.Random, between: int = 100) -> History:
    """The history of clients at work while each trouble comes over one of the servers; ``between`` two of them
    there are at least so many good answers."""
    history = History()
    allowed = 1

    async def bring() -> None:
        nonlocal allowed
        for kind in chance.sample(TROUBLES, len(TROUBLES)):
            await history.grow(held=between // 4, refused=between // 4, ok=between)
            await asyncio.sleep(chance.uniform(0, 0.2))
            allowed += 1
            await trouble(chance.choice(servers), kind, history, chance)
        await history.grow(held=between // 4, refused=between // 4, ok=between)

    await _work(servers, history, chance, lambda: allowed, bring)
    return history


async def calm(server: Server, chance: random.Random, **enough: int) -> History:
    """The history of clients at work until there is enough (see ``History.grow``)."""
    history = History()
    await _work([server], history, chance, lambda: 1, lambda: history.grow(**enough))
    return history


async def _work(
    servers: Sequence[Server],
    history: History,
    chance: random.Random,
    allowance: Callable[[], int],
    until: Callable[[], Awaitable[None]],
) -> None:
    """Clients at work, each at one of the servers, for as long as ``until`` runs."""
    records = [f"r{number}" for number in range(RECORDS)]
    stopping = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(channel(server.address)) for server in servers]
        await create_namespace(channels)
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                own = random.Random(chance.random())  # noqa: S311 - it chooses what to try
                to = channels[number % len(channels)]
                tasks.create_task(Client(number, to, history, records, own, allowance).run(stopping))
            await until()
            stopping.set()


async def trouble(server: Server, kind: str, history: History, chance: random.Random) -> None:
    """One of TROUBLES comes over the server, and it serves again."""
    if kind != "kill":
        server.stop()
        if kind == "long stop":
            # Until somebody's deadline is over. Who asks again has two of the same request on the way to the server.
            await history.grow(lost=1)
        else:
            await asyncio.sleep(chance.uniform(0.05, 0.5))
    if kind in ("kill", "kill while stopped"):
        server.kill()
        server.start()
    else:
        server.go_on()
