"""Concurrent compare-and-set on the embedded store, killed with -9 and stopped at random: what it tells has one order.

With a fault in the server's compare-and-set it has none, and the judge says so.
"""

import asyncio
import os
import random

import pytest

from tests.histories.broken_main import FAULTS
from tests.histories.judging import must_be_found_out, must_be_linearisable
from tests.histories.server import Server
from tests.histories.storm import calm, storm

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
ROUNDS = int(os.environ.get("WELLSPRING_ROUNDS", "1"))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_concurrent_clients_see_one_order_through_kills_and_stops(tmp_path, number):
    seed = SEED + number
    print(f"to have the same troubles again: --test_env=WELLSPRING_SEED={seed} --test_env=WELLSPRING_ROUNDS=1")
    with Server([f"backend.embedded.path={tmp_path / 'data'}"]) as server:
        history = asyncio.run(storm([server], random.Random(seed)))
    print(dict(history.counts))
    history.write(tmp_path / "history.jsonl")
    print(must_be_linearisable(tmp_path / "history.jsonl"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_whose_compare_and_set_is_broken_is_found_out(tmp_path, fault):
    print(f"seed {SEED}")
    # A blind server refuses nothing.
    enough = {"held": 200} if fault == "blind" else {"held": 100, "refused": 100}
    broken = ["tests.histories.broken_main", fault]

    def play(path, number):
        with Server([f"backend.embedded.path={path / 'data'}"], broken) as server:
            return asyncio.run(calm([server], random.Random(SEED + number), **enough))

    print(must_be_found_out(tmp_path, play))
