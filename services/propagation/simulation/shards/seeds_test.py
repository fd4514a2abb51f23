"""Ten seeds by default. SEEDS=300 plays as many, FIRST=n begins at another; a failing one says how to repeat."""

import os

import pytest

from services.propagation.simulation.seeded.replay import report
from services.propagation.simulation.seeded.trace import Violation
from services.propagation.simulation.shards.world import FleetWorld

FIRST = int(os.environ.get("FIRST", "0"))
COUNT = int(os.environ.get("SEEDS", "10"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_seed(seed):
    world = FleetWorld(seed)
    try:
        outcome = world.run()
    except Violation as broken:
        pytest.fail(report(world, broken), pytrace=False)
    asked = world.askers.ended, world.askers.visible, world.fleet.moves
    print(outcome, asked)
    assert outcome.roots_checked > 10 and outcome.dear_checks > 2 and outcome.renders > 50, outcome
    assert min(asked) > 0, asked


def test_a_seed_is_the_same_each_time():
    first, second = FleetWorld(FIRST).run(), FleetWorld(FIRST).run()
    assert first == second
