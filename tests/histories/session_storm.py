"""Clients of sessions at work on servers that have one store in common, and troubles that come over these meanwhile.

After each trouble there are fresh subjects beside those of before: what was told before it must still be so after it,
and no subject gathers so many calls without an answer that its history cannot be judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tests.histories.clients import channel
from tests.histories.recording import History
from tests.histories.server import Server
from tests.histories.session_clients import SessionClient, Tokens
from tests.histories.storm import CLIENTS, TROUBLES, trouble

SUBJECTS: Final = 5
"""Fresh ones after each trouble."""


async def storm(servers: Sequence[Server], chance: random.Random, between: int = 100) -> History:
    """The history of clients at work while each trouble comes over a server; ``between`` two of them there are at least
    so many good answers."""
    history, subjects = History(), _fresh(0)

    async def bring() -> None:
        for round_, kind in enumerate(chance.sample(TROUBLES, len(TROUBLES)), 1):
            await history.grow(held=between // 4, refused=between // 4, ok=between)
            await asyncio.sleep(chance.uniform(0, 0.2))
            await trouble(chance.choice(servers), kind, history, chance)
            subjects[:] = [*subjects[-SUBJECTS:], *_fresh(round_)]
        await history.grow(held=between // 4, refused=between // 4, ok=between)

    await _work(servers, history, subjects, chance, bring)
    return history


async def calm(servers: Sequence[Server], chance: random.Random, **enough: int) -> History:
    """The history of clients at work until there is enough (see ``History.grow``)."""
    history = History()
    await _work(servers, history, _fresh(0), chance, lambda: history.grow(**enough))
    return history


async def _work(
    servers: Sequence[Server],
    history: History,
    subjects: list[str],
    chance: random.Random,
    until: Callable[[], Awaitable[None]],
) -> None:
    stopping, tokens = asyncio.Event(), Tokens()
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(channel(server.address)) for server in servers]
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                own = random.Random(chance.random())  # noqa: S311 - it chooses what to try
                to = channels[number % len(channels)]
                client = SessionClient(number, to, history, subjects, tokens, own, cluster=len(channels) > 1)
                tasks.create_task(client.run(stopping))
            await until()
            stopping.set()


def _fresh(round_: int) -> list[str]:
    return [f"s{round_}/{number}" for number in range(SUBJECTS)]
