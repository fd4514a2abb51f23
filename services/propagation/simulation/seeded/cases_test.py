"""Cases that need the whole simulation and one kind of fault alone, with a disk and over a log with two owners."""

import pytest

from services.propagation.simulation.seeded.caches import Gateway
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.log_world import LogWorld
from services.propagation.simulation.seeded.site import output_name
from services.propagation.simulation.seeded.world import World

SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", [World, LogWorld])
def test_n17_purges_come_before_what_was_stored_is_readable_and_no_cache_ends_stale(kind, seed):
    world = kind(seed, Faults(replica_lag_s=3.0, delay_s=0.2))
    gateway, early = world.caches[0], []
    assert isinstance(gateway, Gateway)
    purge = gateway.purge

    def noting(place, minimum):
        readable = world.site.replica.read(output_name(place))
        early.append(readable is None or readable.version < minimum)
        purge(place, minimum)

    gateway.purge = noting
    outcome = world.run()  # at its end every cache has what the store has, or nothing
    assert sum(early) > 20 and outcome.repaired == 0, (sum(early), outcome)
