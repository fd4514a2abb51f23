"""Fifty seeds by default. SEEDS=1000 plays a thousand, FIRST=n begins at another one; a failing one says how to repeat.

A part of them is this process's where Bazel splits the test (TEST_SHARD_INDEX of TEST_TOTAL_SHARDS).
"""

import os

import pytest

from services.propagation.simulation.seeded.replay import report
from services.propagation.simulation.seeded.trace import Violation
from services.propagation.simulation.seeded.world import World

FIRST = int(os.environ.get("FIRST", "0"))
COUNT = int(os.environ.get("SEEDS", "50"))
SHARDS = int(os.environ.get("TEST_TOTAL_SHARDS", "1"))
MINE = int(os.environ.get("TEST_SHARD_INDEX", "0"))

if path := os.environ.get("TEST_SHARD_STATUS_FILE"):
    with open(path, "a"):
        pass  # says to Bazel that the shards are known here


@pytest.mark.parametrize("seed", range(FIRST + MINE, FIRST + COUNT, SHARDS))
def test_seed(seed):
    world = World(seed)
    try:
        outcome = world.run()
    except Violation as broken:
        pytest.fail(report(world, broken), pytrace=False)
    print(outcome)
    assert outcome.roots_checked > 10 and outcome.dear_checks > 2 and outcome.renders > 50, outcome


def test_a_seed_is_the_same_each_time():
    first, second = World(FIRST + MINE).run(), World(FIRST + MINE).run()
    assert first == second
