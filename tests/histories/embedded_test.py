"""Concurrent compare-and-set on the embedded store, killed with -9 and stopped at random: what it tells has one order.

With a fault in the server's compare-and-set it has none, and the judge says so.
"""

import asyncio
import itertools
import os
import random

import pytest

from tests.histories.broken_main import FAULTS
from tests.histories.clients import Client, channel, create_namespace
from tests.histories.judging import NOT_LINEARISABLE, judge, must_be_linearisable
from tests.histories.recording import History
from tests.histories.server import Server

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
ROUNDS = int(os.environ.get("WELLSPRING_ROUNDS", "1"))
CLIENTS = 8
RECORDS = 6
TROUBLES = ("kill", "stop", "kill", "long stop", "kill while stopped", "stop")
"""Of each round, in an order that the seed chooses."""


@pytest.mark.parametrize("number", range(ROUNDS))
def test_concurrent_clients_see_one_order_through_kills_and_stops(tmp_path, number):
    seed = SEED + number
    print(f"to have the same troubles again: --test_env=WELLSPRING_SEED={seed} --test_env=WELLSPRING_ROUNDS=1")
    chance = random.Random(seed)
    with Server(tmp_path / "data") as server:
        history = asyncio.run(_storm(server, chance, chance.sample(TROUBLES, len(TROUBLES))))
    print(dict(history.counts))
    history.write(tmp_path / "history.jsonl")
    print(must_be_linearisable(tmp_path / "history.jsonl"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_whose_compare_and_set_is_broken_is_found_out(tmp_path, fault):
    print(f"seed {SEED}")
    # A blind server refuses nothing.
    enough = {"held": 200} if fault == "blind" else {"held": 100, "refused": 100}
    with Server(tmp_path / "data", fault) as server:
        history = asyncio.run(_calm(server, random.Random(SEED), enough))
    history.write(tmp_path / "history.jsonl")
    verdict = judge(tmp_path / "history.jsonl")
    print(verdict.said)
    assert verdict.code == NOT_LINEARISABLE


async def _storm(server, chance, troubles):
    """Clients at work while one trouble after the other comes over the server."""
    seen = itertools.count(2)
    allowed = 1

    async def bring() -> None:
        nonlocal allowed
        for trouble in troubles:
            await history.grow(held=25, refused=25, ok=100)
            await asyncio.sleep(chance.uniform(0, 0.2))
            allowed = next(seen)
            await _trouble(server, trouble, history, chance)
        await history.grow(held=25, refused=25, ok=100)

    history = History()
    await _work(server, history, chance, lambda: allowed, bring)
    return history


async def _calm(server, chance, enough):
    """Clients at work until the history has enough."""
    history = History()
    await _work(server, history, chance, lambda: 1, lambda: history.grow(**enough))
    return history


async def _work(server, history, chance, allowance, until):
    """Clients at work for as long as ``until`` runs."""
    records = [f"r{number}" for number in range(RECORDS)]
    stopping = asyncio.Event()
    async with channel(server.address) as to:
        await create_namespace(to)
        clients = [
            Client(number, to, history, records, random.Random(chance.random()), allowance) for number in range(CLIENTS)
        ]
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.run(stopping))
            await until()
            stopping.set()


async def _trouble(server, kind, history, chance):
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
