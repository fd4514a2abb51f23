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
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb

CLIENTS: Final = 8
RECORDS: Final = 6
TROUBLES: Final = ("kill", "stop", "kill", "long stop", "kill while stopped", "stop")
"""What may come over a server."""
Trouble = str | Callable[[History], Awaitable[None]]
"""One of TROUBLES, or one that comes over something else and passes; it may wait for what becomes of the history."""
PLAIN: Final = admin_pb.Namespace()
"""The settings of a namespace that needs no others."""


async def storm(
    servers: Sequence[Server],
    chance: random.Random,
    between: int = 100,
    *,
    troubles: Sequence[Trouble] = TROUBLES,
    settings: admin_pb.Namespace = PLAIN,
) -> History:
    """The history of clients at work while each of ``troubles`` comes, in an order that ``chance`` chooses; ``between``
    two of them there are at least so many good answers."""
    history = History()
    allowed = 1

    async def bring() -> None:
        nonlocal allowed
        for kind in chance.sample(troubles, len(troubles)):
            await history.grow(held=between // 4, refused=between // 4, ok=between)
            await asyncio.sleep(chance.uniform(0, 0.2))
            allowed += 1
            if isinstance(kind, str):
                await trouble(chance.choice(servers), kind, history, chance)
            else:
                await kind(history)
        await history.grow(held=between // 4, refused=between // 4, ok=between)

    await _work(servers, history, chance, lambda: allowed, bring, settings)
    return history


async def calm(
    servers: Sequence[Server], chance: random.Random, settings: admin_pb.Namespace = PLAIN, **enough: int
) -> History:
    """The history of clients at work until there is enough (see ``History.grow``)."""
    history = History()
    await _work(servers, history, chance, lambda: 1, lambda: history.grow(**enough), settings)
    return history


async def _work(
    servers: Sequence[Server],
    history: History,
    chance: random.Random,
    allowance: Callable[[], int],
    until: Callable[[], Awaitable[None]],
    settings: admin_pb.Namespace,
) -> None:
    """Clients at work, each at one of the servers, for as long as ``until`` runs."""
    records = [f"r{number}" for number in range(RECORDS)]
    stopping = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(channel(server.address)) for server in servers]
        await create_namespace(channels, settings)
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
