"""Fifty seeds by default. SEEDS=1000 plays a thousand, FIRST=n begins at another; a failing one says how to repeat."""

import os

import pytest

from services.propagation.simulation.seeded.log_world import LogWorld
from services.propagation.simulation.seeded.replay import report
from services.propagation.simulation.seeded.trace import Violation
from services.propagation.simulation.seeded.world import World

FIRST = int(os.environ.get("FIRST", "0"))
COUNT = int(os.environ.get("SEEDS", "50"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
@pytest.mark.parametrize("kind", [World, LogWorld])
def test_seed(kind, seed):
    world = kind(seed)
    try:
        outcome = world.run()
    except Violation as broken:
        pytest.fail(report(world, broken), pytrace=False)
    print(outcome)
    assert outcome.roots_checked > 10 and outcome.dear_checks > 2 and outcome.renders > 50, outcome


@pytest.mark.parametrize("kind", [World, LogWorld])
def test_a_seed_is_the_same_each_time(kind):
    first, second = kind(FIRST).run(), kind(FIRST).run()
    assert first == second
