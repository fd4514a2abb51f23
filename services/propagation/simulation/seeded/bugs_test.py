"""The simulation finds what it is there for: each deliberate bug breaks a promise within the default seeds."""

import pytest

from services.propagation.simulation.seeded import bugs, finding
from services.propagation.simulation.seeded.log_world import LogWorld
from services.propagation.simulation.seeded.world import World

SEEDS = range(50)


def found(kind=World, **planted):
    """The first promise that a seed finds broken."""
    return finding.found(kind, SEEDS, **planted)


@pytest.mark.parametrize(
    ("bug", "rules"),
    [
        (bugs.mark_before_effect, {"a done root is shown", "a done root is visible"}),
        (bugs.purge_before_store, {"a done root is shown", "a done root is visible", "caches are fresh"}),
        # What was cut off is not stored at the version that its dependents are told to see: they wait for ever.
        (bugs.cut_off_against_the_store, {"a done root is visible", "caches are fresh", "everything comes to rest"}),
    ],
)
def test_a_broken_executor_is_found(bug, rules):
    assert found(plant=bug) in rules


@pytest.mark.parametrize(
    ("bug", "rules"),
    [
        (bugs.forget_a_retry, {"a done root is shown", "pending is derived", "everything is fresh"}),
        (bugs.stamp_with_the_lease, {"pending is derived", "a done root is shown", "everything is fresh"}),
    ],
)
def test_a_broken_engine_is_found(bug, rules):
    assert found(patched=bug) in rules


@pytest.mark.parametrize(
    "planted", [{"plant": bugs.take_from_a_former_owner}, {"patched": bugs.acknowledge_before_it_landed}]
)
def test_a_log_without_its_fence_and_one_that_acknowledges_too_early_are_found(planted):
    assert found(**planted, kind=LogWorld) == "no acknowledged change is lost"
