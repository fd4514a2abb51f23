"""Progress and its estimate of the end, where work comes late, unevenly, in pauses or beside others. Case N24."""

from random import Random

import pytest

from services.propagation.domain import control
from services.propagation.simulation.world import World


def worst(world: World, change_id: str, rng: Random, *, items: int, total: int) -> float:
    """The greatest relative error of the estimates between a tenth and nine tenths, over a run at uneven speed."""
    told: list[tuple[float, float]] = []
    last = -1
    while change_id in {root.id for root in world.engine.shard.roots.values()}:
        for grant in world.lease(rng.randint(items * 3 // 4, items * 5 // 4)):
            rendered = world.render(grant)
            world.clock.advance(rng.uniform(0.75, 1.25))
            world.complete(rendered)
        if change_id not in {root.id for root in world.engine.shard.roots.values()}:
            break
        progress = world.progress(change_id)
        assert progress.tally.done >= last and progress.tally.total == total
        last = progress.tally.done
        if 0.1 * total <= last <= 0.9 * total and progress.eta_s is not None:
            told.append((world.clock.now_s, progress.eta_s))
    assert len(told) > 10
    end_s = world.clock.now_s
    return max(abs(at_s + eta_s - end_s) / (end_s - at_s) for at_s, eta_s in told)


@pytest.mark.parametrize("seed", range(5))
def test_n24_at_an_uneven_speed(seed):
    print("seed", seed)
    world = World(seed=seed)
    world.pages(2_000, "t")
    world.edit("t")
    assert worst(world, "t@1", Random(seed), items=20, total=2_000) <= 0.25


def test_n24_after_a_long_wait_for_the_first_executor():
    world = World()
    world.pages(2_000, "t")
    world.edit("t")
    world.clock.advance(3_600)
    assert worst(world, "t@1", Random(1), items=20, total=2_000) <= 0.25


def test_n24_after_a_pause_and_a_restart():
    world = World()
    world.pages(2_000, "t")
    world.edit("t")
    world.work(100)
    control.pause(world.engine.shard, "t@1", "")
    world.clock.advance(1_800)
    assert world.progress("t@1").eta_s is None  # nothing is promised of a paused root
    control.resume(world.engine.shard, "t@1")
    world.crash()
    world.clock.advance(600)
    assert worst(world, "t@1", Random(2), items=20, total=2_000) <= 0.25
