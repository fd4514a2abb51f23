"""What an engine of a fleet tells of itself: each of its shards by its number, and none that it does not lead."""

import asyncio

from services.propagation.fleet.metrics import FleetCollector
from services.propagation.fleet.testing.serving import Fleet, serving


def told(engine):
    """{(name, shard): value} of what has no other label."""
    return {
        (sample.name, sample.labels.get("shard")): sample.value
        for family in FleetCollector(lambda: engine.shards).collect()
        for sample in family.samples
    }


def test_each_shard_is_told_by_its_number_while_it_is_led():
    async def main():
        fleet = Fleet(3)
        async with serving(fleet, [0, 2]) as one, serving(fleet, [1]) as other:
            found = told(one)
            assert found["wellspring_propagation_shards", None] == 3
            assert found["wellspring_propagation_led_shards", None] == 2
            assert {shard for name, shard in found if name == "wellspring_propagation_epoch"} == {"0", "2"}
            assert found["wellspring_propagation_untold", "2"] == 0
            # Canaries are watched by whoever leads the first shard.
            assert ("wellspring_propagation_unwatched_canaries_total", "0") in found
            assert ("wellspring_propagation_unwatched_canaries_total", "2") not in found
            await one.lose(2)
            await other.lead(2)
            assert told(one)["wellspring_propagation_led_shards", None] == 1
            assert told(other)["wellspring_propagation_epoch", "2"] == 2
            names = [family.name for family in FleetCollector(lambda: other.shards).collect()]
            assert len(names) == len(set(names)), "each family once"

    asyncio.run(main())
