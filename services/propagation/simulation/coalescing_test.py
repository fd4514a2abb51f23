"""Many edits, few renders; edges that come and go while a root runs; kills. Cases N01 to N08."""

from random import Random

import pytest

from services.propagation.domain.edges import Mode
from services.propagation.domain.errors import Fenced, LeaseExpired
from services.propagation.domain.records import State
from services.propagation.domain.scheduler import QUANTUM_S
from services.propagation.domain.superseding import fold
from services.propagation.simulation.world import World, failures_of

pytestmark = pytest.mark.usefixtures("state_in")


def test_n01_killed_after_the_effect_before_the_commit():
    world = World()
    world.pages(20, "t")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.store(rendered)
    world.purge(rendered)
    world.crash()  # of the engine; the executor's late report is from an earlier life
    with pytest.raises(Fenced):
        world.complete(rendered)
    world.drain()
    assert world.site.stale() == []
    assert world.record("t@1").state is State.DONE
    assert world.progress("t@1").tally.done == 20


def test_n01_an_executor_killed_after_the_effect_before_its_report():
    world = World()
    pages = world.pages(20, "t")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.store(rendered)
    world.purge(rendered)
    bodies = {place: body for place, (_, body) in world.site.stored.items()}
    world.clock.advance(31)  # nobody reports
    world.engine.tick()
    world.drain()
    assert {place: body for place, (_, body) in world.site.stored.items()} == bodies  # readers see one change
    assert world.site.stale() == []
    assert world.progress("t@1").tally.done == 20 and all(world.renders_of(page) == 2 for page in pages)


def test_n02_killed_after_the_dedupe_mark_before_any_effect():
    world = World()
    world.pages(5, "t")
    first = world.edit("t", change_id="c")
    world.crash()
    again = world.edit("t", change_id="c", version=1)
    assert again.repeated and again.sequence == first.sequence
    assert world.drain() == 5
    assert world.site.stale() == []


def test_a_change_that_was_not_durable_is_published_again():
    world = World()
    world.pages(5, "t")
    world.disk.automatic = False
    world.edit("t", change_id="c")
    world.crash()
    again = world.edit("t", change_id="c", version=1)
    assert not again.repeated
    assert world.drain() == 5


def test_n03_slow_item_then_fast_ones_then_a_crash():
    world = World()
    pages = world.pages(10, "t")
    world.edit("t")
    (slow,) = world.lease(1)
    slow_page = slow.names.decode()
    for grant in world.lease(9):
        fast = world.render(grant)
        world.store(fast)
        world.purge(fast)
        world.complete(fast)
    world.crash()
    assert world.drain() == 1
    assert world.renders_of(slow_page) == 1
    assert all(world.renders_of(page) == 1 for page in pages if page != slow_page)


def test_n04_two_batches_finish_out_of_order():
    world = World()
    world.pages(10, "t")
    world.edit("t")
    (first,) = world.lease(5)
    (second,) = world.lease(5)
    for grant in (second, first):
        rendered = world.render(grant)
        world.store(rendered)
        world.purge(rendered)
        world.complete(rendered)
    world.crash()
    assert world.drain() == 0
    assert world.record("t@1").state is State.DONE
    assert world.site.stale() == []


@pytest.mark.parametrize("turns_between", [15, 30, 40, 54])
def test_n05_edited_again_and_again_faster_than_a_pass(turns_between):
    world = World()
    pages = world.pages(240, "t")
    edits, a_pass = 24, 60  # turns of four pages
    behind_since = dict.fromkeys(pages, 0)
    shown: dict[str, list[int]] = {page: [] for page in pages}
    worst = turn = 0

    def work() -> None:
        nonlocal worst, turn
        turn += 1
        before = len(world.site.renders)
        world.work(len(pages) // a_pass)
        for (_, page), _ in world.site.renders[before:]:
            shown[page].append(world.site.sources["t", "content"])
            if page in behind_since:
                worst = max(worst, turn - behind_since.pop(page))

    for _ in range(edits):
        world.edit("t")
        behind_since = {page: behind_since.get(page, turn) for page in pages}
        for _ in range(turns_between):
            work()
    while world.engine.shard.roots:
        work()
    assert world.site.stale() == []
    assert worst <= 1.5 * a_pass
    # The least possible: no page twice at one version, and no turn without work before the last version is everywhere.
    least = sum(len(set(versions)) for versions in shown.values())
    assert sum(map(len, shown.values())) <= 1.1 * least
    assert least <= edits * len(pages) and turn <= edits * turns_between + a_pass
    assert all(versions[-1] == edits for versions in shown.values())
    assert all(world.record(f"t@{edit}").state is State.DONE for edit in range(1, edits + 1))


def test_n04_a_crash_between_two_batches_that_finish_out_of_order():
    world = World()
    pages = world.pages(10, "t")
    world.edit("t")
    (first,) = world.lease(5)
    (second,) = world.lease(5)
    early, late = world.render(first), world.render(second)
    for rendered in (late, early):
        world.store(rendered)
        world.purge(rendered)
    world.complete(late)
    world.crash()
    with pytest.raises(Fenced):
        world.complete(early)
    assert world.drain() == 5
    done_again = [page for page in pages if world.renders_of(page) == 2]
    assert sorted(done_again) == sorted(first.names.decode().split("\0"))
    assert world.record("t@1").state is State.DONE and world.progress("t@1").tally.done == 10
    assert world.site.stale() == []


def test_n05_superseded_roots_are_bounded_and_named():
    world = World()
    world.pages(30, "t")
    for _ in range(40):
        world.edit("t")
        world.work(1)
    assert len(world.engine.shard.roots) <= world.settings.max_superseded + 1
    folded = world.record("t@1")
    assert folded.state is State.DONE and folded.superseded_by == "t@2" and folded.left > 0
    world.crash()
    world.drain()
    assert world.site.stale() == []
    assert not world.engine.shard.roots


def test_a_superseded_root_that_ends_early_with_dead_letters_says_so():
    world = World()
    pages = world.pages(30, "t")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    dead = world.number(pages[7])
    others = [number for number in rendered.ids.tolist() if number != dead]
    world.complete(rendered, failed=failures_of([dead], retryable=False), released=others)
    shard = world.engine.shard
    (older,) = shard.roots.values()
    world.pages(1, "u")
    world.edit("u")
    step = shard.step()
    fold(step, older, next(root for root in shard.roots.values() if root is not older))
    step.write()
    folded = world.record("t@1")
    assert folded.state is State.DONE_WITH_FAILURES and folded.left == 29
    assert world.progress("t@1").tally.failed == 1


def test_n06_three_edits_before_any_render_are_one_render():
    world = World()
    pages = world.pages(50, "t")
    for _ in range(3):
        world.edit("t")
        world.clock.advance(20)
    assert world.drain() == 50
    assert all(world.renders_of(page) == 1 for page in pages)
    assert world.site.stale() == []
    assert world.progress("t@3").tally.changed == 50
    assert world.progress("t@1").coalesced == 50


def test_n07_an_edge_added_during_the_scan():
    world = World()
    world.pages(10, "t")
    world.pages(1, prefix="page/x")
    world.edit("t")
    world.work(4)
    world.site.reads["html", "page/x0000"] = [("t", "content")]
    world.declare("html", ["page/x0000"], [[("t", "content")]])
    world.drain()
    assert world.renders_of("page/x0000") == 1
    assert world.site.stale() == []


def test_n07_an_edge_removed_during_the_scan():
    world = World()
    pages = world.pages(10, "t")
    world.edit("t")
    world.work(4)
    gone = next(page for page in pages if not world.renders_of(page))
    world.site.reads["html", gone] = []
    world.declare("html", [gone], [[("t", "content")]], Mode.REMOVE)
    world.drain()
    assert world.renders_of(gone) <= 1
    assert all(world.renders_of(page) == 1 for page in pages if page != gone)
    assert world.record("t@1").state is State.DONE


def test_n07_a_removed_edge_after_a_restart_leaves_nothing_behind():
    world = World()
    pages = world.pages(3, "t")
    world.edit("t")
    world.declare("html", pages, [[]] * 3)
    world.crash()
    assert world.record("t@1").state is State.DONE
    assert world.lease() == []


def test_n07_a_page_edited_itself_during_the_scan():
    world = World()
    pages = world.pages(10, "t")
    world.edit("t")
    world.work(5)
    late = next(page for page in pages if not world.renders_of(page))
    early = next(page for page in pages if world.renders_of(page))
    world.edit(late)
    world.edit(early)
    world.drain()
    assert world.renders_of(late) == 1
    assert world.renders_of(early) == 2
    assert world.site.stale() == []


def test_n08_a_small_root_is_leased_before_a_giant_goes_on():
    world = World()
    world.pages(5_000, "giant")
    world.pages(1, "small", prefix="page/s")
    world.edit("giant")
    for _ in range(3):
        world.work(100)
    world.edit("small")
    (grant,) = world.lease(100)
    assert "page/s0000" in grant.names.decode().split("\0")


def test_n09_a_giant_goes_on_under_a_flood_of_small_roots():
    world = World()
    world.pages(100_000, "giant")
    for at in range(200):
        world.pages(1, f"small{at}", prefix=f"page/s{at:04}-")
    world.edit("giant")
    giant = world.record("giant@1").sequence
    world.work(10)
    progress = []
    for at in range(200):
        world.edit(f"small{at}")
        (grant,) = world.lease(400)
        rendered = world.render(grant)
        world.complete(rendered, seconds=len(rendered.ids) * QUANTUM_S / 100)
        progress.append(world.engine.shard.roots[giant].done)
    assert progress[-1] > 100 * 200
    assert all(world.record(f"small{at}@1").state is State.DONE for at in range(200))


def test_a_lease_that_ended_is_refused_and_its_items_are_lent_again():
    world = World()
    world.pages(10, "t")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.clock.advance(31)
    world.engine.tick()
    with pytest.raises(LeaseExpired):
        world.complete(rendered)
    assert world.drain() == 10
    assert world.site.stale() == []


def test_an_extended_lease_holds():
    world = World()
    world.pages(10, "t")
    world.edit("t")
    (grant,) = world.lease()
    for _ in range(5):
        world.clock.advance(20)
        world.engine.tick()
        assert world.engine.extend(grant.lease.id, grant.lease.fencing) == 30
    assert world.lease() == []
    rendered = world.render(grant)
    world.store(rendered)
    world.purge(rendered)
    assert world.complete(rendered).accepted == 10


def test_a_report_sent_twice_is_answered_twice_and_counted_once():
    world = World()
    world.pages(10, "t")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.store(rendered)
    world.purge(rendered)
    first = world.complete(rendered)
    assert world.complete(rendered) == first
    assert world.progress("t@1").tally.changed == 10


def test_two_leases_never_hold_the_same_item():
    rng = Random(3)
    world = World()
    world.pages(200, "t", "u")
    held: dict[int, set[int]] = {}
    for round_ in range(300):
        if rng.random() < 0.1:
            world.edit(rng.choice("tu"))
        for grant in world.lease(rng.randrange(1, 40)):
            mine = set(grant.lease.ids.tolist())
            assert all(mine.isdisjoint(other) for other in held.values()), f"seed 3, round {round_}"
            held[grant.lease.id] = mine
            if rng.random() < 0.6:
                rendered = world.render(grant)
                world.store(rendered)
                world.purge(rendered)
                world.complete(rendered)
                del held[grant.lease.id]
        if rng.random() < 0.05:
            world.clock.advance(31)
            world.engine.tick()
            held.clear()
