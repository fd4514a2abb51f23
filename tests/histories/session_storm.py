"""Clients of sessions at work on a server, and troubles that come over it meanwhile.

After each trouble there are fresh subjects beside those of before: what was told before it must still be so after it,
and no subject gathers so many calls without an answer that its history cannot be judged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from tests.histories.clients import channel
from tests.histories.recording import History
from tests.histories.server import Server
from tests.histories.session_clients import SessionClient, Tokens
from tests.histories.storm import CLIENTS, TROUBLES, trouble

SUBJECTS: Final = 5
"""Fresh ones after each trouble."""


async def storm(server: Server, chance: random.Random, between: int = 100) -> History:
    """The history of clients at work while each trouble comes over the server; ``between`` two of them there are at
    least so many good answers."""
    history, subjects = History(), _fresh(0)

    async def bring() -> None:
        for round_, kind in enumerate(chance.sample(TROUBLES, len(TROUBLES)), 1):
            await history.grow(held=between // 4, refused=between // 4, ok=between)
            await asyncio.sleep(chance.uniform(0, 0.2))
            await trouble(server, kind, history, chance)
            subjects[:] = [*subjects[-SUBJECTS:], *_fresh(round_)]
        await history.grow(held=between // 4, refused=between // 4, ok=between)

    await _work(server, history, subjects, chance, bring)
    return history


async def calm(server: Server, chance: random.Random, **enough: int) -> History:
    """The history of clients at work until there is enough (see ``History.grow``)."""
    history = History()
    await _work(server, history, _fresh(0), chance, lambda: history.grow(**enough))
    return history


async def _work(
    server: Server,
    history: History,
    subjects: list[str],
    chance: random.Random,
    until: Callable[[], Awaitable[None]],
) -> None:
    stopping, tokens = asyncio.Event(), Tokens()
    async with channel(server.address) as to, asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            own = random.Random(chance.random())  # noqa: S311 - it chooses what to try
            client = SessionClient(number, to, history, subjects, tokens, own)
            tasks.create_task(client.run(stopping))
        await until()
        stopping.set()


def _fresh(round_: int) -> list[str]:
    return [f"s{round_}/{number}" for number in range(SUBJECTS)]
