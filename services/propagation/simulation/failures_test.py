"""Renders that fail, executors that die, inputs that lag: retries, dead letters, quarantine. Cases N12 and N22."""

import pytest

from libs.embedded.failures import DiskFull
from libs.errors.errors import Unavailable
from services.propagation.domain import control, dead_letters
from services.propagation.domain.dead_letters import Filter
from services.propagation.domain.errors import LeaseExpired
from services.propagation.domain.holds import HELD
from services.propagation.domain.records import State
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import HTML, World, failures_of

pytestmark = pytest.mark.usefixtures("state_in")


def poisoned(world: World, poison: int, rounds: int = 100) -> None:
    """Works until the poison is a dead letter; everything else is rendered."""
    for _ in range(rounds):
        for grant in world.lease(500):
            rendered = world.render(grant)
            bad = [number for number in rendered.ids.tolist() if number == poison]
            world.store(rendered)
            world.purge(rendered)
            world.complete(rendered, failed=failures_of(bad))
        if not world.engine.shard.roots:
            return
        world.clock.advance(1)
        world.engine.tick()
    raise AssertionError("the root never ended")


def test_n12_one_poison_page_in_a_batch():
    world = World()
    pages = world.pages(500, "t")
    world.edit("t")
    poison = world.number(pages[77])
    poisoned(world, poison)
    tally = world.progress("t@1").tally
    assert (tally.done, tally.failed, world.record("t@1").state) == (499, 1, State.DONE_WITH_FAILURES)
    (letter,), _ = dead_letters.query(world.engine.shard, Filter(), 10)
    assert (letter.resource, letter.root, letter.held.attempts) == (pages[77], "t@1", 3)
    world.crash()
    assert world.engine.shard.holds.dead_count == 1
    world.edit("t")  # a new version of an input releases it
    assert world.engine.shard.holds.dead_count == 0
    assert world.drain() == 500
    assert world.record("t@2").state is State.DONE
    assert world.site.stale() == []


@pytest.mark.parametrize("how", ["its edges went", "cancelled"])
def test_a_failure_of_a_page_that_nobody_wants_any_more_is_forgiven_by_a_restart(how: str):
    world = World([View("html", ("page/",), RetryPolicy(2, 3600.0, 3600.0))])
    one, other = world.pages(2, "t")
    world.edit("t")
    (grant,) = world.lease()
    world.complete(world.render(grant), failed=failures_of(grant.lease.ids.tolist()), sets=False)
    world.edit("u")
    if how == "cancelled":
        control.cancel(world.engine.shard, "t@1", "a mistake")
        kept = set()
    else:
        world.declare("html", [one], [[("u", "content")]])  # while it waits; the other one is wanted still
        kept = {world.number(other)}
    world.crash()
    holds = world.engine.shard.holds
    assert set(holds.attempted(0)) == set(holds.waiting(0)) == kept
    assert len(list(world.engine.shard.store.records(HELD))) == len(kept)
    world.crash()
    world.edit("u" if kept else "t")
    (grant,) = world.lease()
    assert grant.attempts == [] and world.number(one) in grant.lease.ids
    world.complete(world.render(grant), failed=failures_of(grant.lease.ids.tolist()), sets=False)
    assert world.engine.shard.holds.dead_count == 0  # the first failure under this change is not the second


def test_a_dead_letter_healed_by_another_root_is_pending_for_both():
    world = World()
    pages = world.pages(3, "t", "u")
    world.edit("t")
    number = world.number(pages[0])
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.complete(
        rendered,
        failed=failures_of([number], retryable=False),
        released=[n for n in rendered.ids.tolist() if n != number],
    )
    assert world.progress("t@1").tally.failed == 1
    world.edit("u")
    assert world.progress("t@1").tally.failed == 0
    world.drain()
    assert world.record("t@1").state is State.DONE
    assert world.site.stale() == []


def test_retries_wait_longer_each_time_and_survive_a_restart():
    world = World([View("html", ("page/",), RetryPolicy(10, 8.0, 60.0))])
    pages = world.pages(1, "t")
    world.edit("t")
    waits = []
    for attempt in range(4):
        (grant,) = world.lease()
        assert grant.attempts == ([(0, attempt)] if attempt else [])
        world.complete(world.render(grant), failed=failures_of([world.number(pages[0])]))
        assert world.lease() == []
        if attempt == 1:
            world.crash()
            assert world.lease() == []
        waited = 0.0
        while not world.engine.shard.holds.wake(world.clock.now_s):
            world.clock.advance(0.1)
            waited += 0.1
        waits.append(waited)
    assert 4 <= waits[0] <= 8.4 and 8 <= waits[1] <= 16.4 and 16 <= waits[2] <= 32.4 and 30 <= waits[3] <= 60.4


def test_a_failed_render_of_an_input_that_changed_meanwhile_starts_anew():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    pages = world.pages(1, "t")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.edit("t")
    world.complete(rendered, failed=failures_of([world.number(pages[0])]))
    assert world.engine.shard.holds.dead_count == 0
    world.drain()
    assert world.site.stale() == []


def test_n22_replay_of_dead_letters_is_idempotent():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    pages = world.pages(6, "t")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.complete(rendered, failed=failures_of([world.number(page) for page in pages[:4]]))
    assert world.record("t@1").state is State.DONE_WITH_FAILURES
    wanted = Filter(view="html", reason="RENDER_FAILED", resource_prefix="page/000")
    assert dead_letters.count(world.engine.shard, wanted) == 4
    assert dead_letters.replay(world.engine.shard, wanted)[0] == 4
    assert dead_letters.replay(world.engine.shard, wanted)[0] == 0
    world.crash()  # the replay was durable
    assert world.record("t@1").state is State.ACTIVE
    assert world.progress("t@1").tally.failed == 0
    assert world.drain() == 4
    tally = world.progress("t@1").tally
    assert (tally.total, tally.done, world.record("t@1").state) == (6, 6, State.DONE)
    assert dead_letters.replay(world.engine.shard, Filter())[0] == 0
    assert [world.renders_of(page) for page in pages] == [2] * 4 + [1] * 2
    assert world.site.puts == 4 and world.site.stale() == []  # the two first ones were never put by this test


def test_n22_replay_under_way_again_over_crashes():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    pages = world.pages(6, "t")
    world.edit("t")
    (grant,) = world.lease()
    world.complete(world.render(grant), failed=failures_of([world.number(page) for page in pages]))
    for _ in range(3):
        dead_letters.replay(world.engine.shard, Filter())
        world.crash()
        world.work(1)
        dead_letters.replay(world.engine.shard, Filter())
    assert world.drain() == 3
    tally = world.progress("t@1").tally
    assert (tally.total, tally.done, tally.failed) == (6, 6, 0)
    assert world.site.puts == 6 and world.site.stale() == []


def test_dead_letters_of_a_view_left_out_stay_until_it_is_back():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    pages = world.pages(2, "t")
    world.edit("t")
    (grant,) = world.lease()
    world.complete(world.render(grant), failed=failures_of([world.number(page) for page in pages]))
    views = list(world.engine.shard.views.by_name.values())
    world.engine.put_views([], 2)
    assert dead_letters.replay(world.engine.shard, Filter())[0] == 0
    assert not world.engine.shard.roots and world.engine.shard.holds.dead_count == 2
    world.engine.put_views(views, 3)
    assert dead_letters.replay(world.engine.shard, Filter())[0] == 2
    assert world.drain() == 2 and world.site.stale() == []


def test_pages_of_dead_letters():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    pages = world.pages(25, "t")
    world.edit("t")
    (grant,) = world.lease()
    world.complete(world.render(grant), failed=failures_of([world.number(page) for page in pages]))
    seen, after = [], b""
    while True:
        letters, after = dead_letters.query(world.engine.shard, Filter(), 7, after)
        seen += [letter.resource for letter in letters]
        if not after:
            break
    assert sorted(seen) == pages


def test_the_page_that_kills_its_executor_is_found_alone():
    world = World([View("html", ("page/",), RetryPolicy(2, 1.0, 60.0), lease_s=30.0)])
    pages = world.pages(300, "t")
    killer = world.number(pages[123])
    world.edit("t")
    for _ in range(60):
        for grant in world.lease(300):
            rendered = world.render(grant)
            if killer in rendered.ids.tolist():
                continue  # the executor is gone, without a word
            world.store(rendered)
            world.purge(rendered)
            world.complete(rendered)
        if not world.engine.shard.roots:
            break
        world.clock.advance(31)
        world.engine.tick()
    (letter,), _ = dead_letters.query(world.engine.shard, Filter(), 10)
    assert letter.resource == pages[123] and letter.held.reason == "LEASE_LOST"
    assert world.progress("t@1").tally.done == 299


def test_who_asks_for_little_gets_no_less_of_what_was_lost():
    world = World([View("html", ("page/",), RetryPolicy(2, 1.0, 60.0), lease_s=30.0)])
    world.pages(300, "t")
    world.edit("t")
    assert [len(grant.lease.ids) for grant in world.lease(256)] == [256]
    world.clock.advance(31)
    world.engine.tick()
    given = [len(grant.lease.ids) for items in (44, 10, 1000, 10) for grant in world.lease(items)]
    assert given == [44, 10, 32, 10], "the others, and then what is suspected, by its own measure"


def test_an_executor_that_saw_an_older_input_tries_again_after_the_lag():
    world = World()
    pages = world.pages(3, "t")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    lagging = world.number(pages[1])
    world.store(rendered)
    world.purge(rendered)
    world.complete(rendered, older=[lagging])
    assert world.lease() == []
    world.clock.advance(1.2)
    world.engine.tick()
    (again,) = world.lease()
    assert again.names.decode() == pages[1] and again.attempts == []


def test_released_items_are_lent_again_at_once():
    world = World()
    world.pages(3, "t")
    world.edit("t")
    (grant,) = world.lease()
    world.complete(world.render(grant), released=grant.lease.ids.tolist())
    assert sum(len(again.lease.ids) for again in world.lease()) == 3


def test_a_view_that_cannot_tell_gets_a_second_pass():
    world = World([View("html", ("page/",), RetryPolicy(), 30.0, settle_s=20.0)])
    world.pages(5, "t")
    world.edit("t")
    assert world.work() == 5
    assert world.record("t@1").state is State.ACTIVE
    world.clock.advance(10)
    world.crash()
    world.engine.tick()
    assert world.lease() == []
    world.clock.advance(10.5)
    world.engine.tick()
    assert world.work() == 5
    assert world.record("t@1").state is State.DONE
    assert world.progress("t@1").tally.unchanged == 5


@pytest.mark.parametrize("crash", [False, True])
def test_a_root_with_dead_letters_and_retries_counts_them(crash):
    world = World([HTML])
    pages = world.pages(10, "t")
    world.edit("t")
    (grant,) = world.lease()
    numbers = [world.number(page) for page in pages]
    failed = failures_of(numbers[:2], retryable=False) + failures_of(numbers[2:5])
    world.complete(world.render(grant), failed=failed)
    if crash:
        world.crash()
    progress = world.progress("t@1")
    assert (progress.tally.total, progress.tally.done, progress.tally.failed, progress.retrying) == (10, 5, 2, 3)


def test_a_store_that_refuses_a_write_halts_the_engine_until_it_takes_one():
    world = World()
    world.pages(10, "t")
    world.edit("t")
    (grant,) = world.lease(4)
    rendered = world.render(grant)
    store = world.engine.shard.store
    write = store.write

    def refuse(commit):
        raise DiskFull("the disk is full")

    store.write = refuse
    with pytest.raises(DiskFull):
        world.complete(rendered)
    with pytest.raises(Unavailable):
        world.edit("t")
    assert world.lease() == []
    world.engine.tick()
    assert world.engine.shard.halted is not None
    store.write = write
    world.engine.tick()
    assert world.progress("t@1").tally.done == 0  # what was refused is not counted
    with pytest.raises(LeaseExpired):
        world.complete(rendered)
    assert world.drain() == 10


def test_numbers_rise_over_a_restart_also_if_the_first_write_of_the_life_before_was_refused():
    world = World()
    pages = world.pages(3, "t")
    for _ in range(3):
        store = world.engine.shard.store
        write = store.write

        def refuse(commit):
            raise DiskFull("the disk is full")

        store.write = refuse
        with pytest.raises(DiskFull):
            world.edit("t")
        store.write = write
        world.engine.tick()
        world.edit("t")
        world.drain()
        used = world.engine.shard.sequence.last
        rendered = world.site.renders[-1][1]
        world.crash()
        assert world.edit("t").sequence > used
        assert world.drain() == 3 and world.site.stale() == []
        assert world.site.renders[-1][1] > rendered
    assert {place for place, _ in world.site.renders} == {("html", page) for page in pages}


def test_a_report_of_a_view_that_was_retired_meanwhile():
    world = World()
    world.pages(3, "t")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.engine.put_views([], 2)
    assert world.complete(rendered).accepted == 3
    assert world.record("t@1").state is State.DONE
