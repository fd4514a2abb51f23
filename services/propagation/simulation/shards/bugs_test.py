"""The simulation of a fleet finds what it is there for: each deliberate bug breaks a promise within a few seeds."""

import pytest

from services.propagation.simulation.seeded import bugs as of_one
from services.propagation.simulation.seeded import finding
from services.propagation.simulation.shards import bugs
from services.propagation.simulation.shards.world import FleetWorld

SEEDS = range(10)


def found(**planted):
    """The first promise that a seed finds broken."""
    return finding.found(FleetWorld, SEEDS, **planted)


@pytest.mark.parametrize(
    ("bug", "rules"),
    [
        (bugs.tell_nobody, {"a done root has ended", "visible is visible", "everything is fresh"}),
        (bugs.ask_for_nothing, {"a done root has ended", "visible is visible", "everything is fresh"}),
        (bugs.end_before_it_is_told, {"a done root has ended"}),
        (bugs.look_at_the_page_alone, {"visible is visible"}),
        (bugs.acknowledge_what_one_shard_has, {"no acknowledged change is lost"}),
    ],
)
def test_a_broken_fleet_is_found(bug, rules):
    assert found(patched=bug) in rules


@pytest.mark.parametrize(
    "planted", [{"plant": bugs.take_from_a_former_owner}, {"patched": of_one.acknowledge_before_it_landed}]
)
def test_logs_without_a_fence_and_such_that_acknowledge_too_early_are_found(planted):
    assert found(**planted) == "no acknowledged change is lost"


def test_a_broken_executor_is_found():
    assert found(plant=of_one.mark_before_effect) in {"a done root is shown", "a done root is visible"}


def test_a_broken_engine_is_found():
    assert found(patched=of_one.stamp_with_the_lease) in {
        "pending is derived",
        "a done root is shown",
        "visible is visible",
        "everything is fresh",
    }
