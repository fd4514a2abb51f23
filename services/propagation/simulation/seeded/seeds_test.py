"""Fifty seeds by default. SEEDS=1000 plays a thousand, FIRST=n begins at another; a failing one says how to repeat."""

import os

import pytest

from services.propagation.simulation.seeded.replay import report
from services.propagation.simulation.seeded.trace import Violation
from services.propagation.simulation.seeded.world import World

FIRST = int(os.environ.get("FIRST", "0"))
COUNT = int(os.environ.get("SEEDS", "50"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_seed(seed):
    world = World(seed)
    try:
        outcome = world.run()
    except Violation as broken:
        pytest.fail(report(world, broken), pytrace=False)
    print(outcome)
    assert outcome.roots_checked > 10 and outcome.dear_checks > 2 and outcome.renders > 50, outcome


def test_a_seed_is_the_same_each_time():
    first, second = World(FIRST).run(), World(FIRST).run()
    assert first == second
