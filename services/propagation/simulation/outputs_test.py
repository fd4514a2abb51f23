"""Views made of other views' outputs: cutoff, levels, cycles. Cases N13 to N16, N31 and N32."""

from dataclasses import replace

import numpy as np
import pytest

from services.propagation.domain import control
from services.propagation.domain.records import State
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import HTML, World

pytestmark = pytest.mark.usefixtures("state_in")

SUMMARY = View("summary", (), RetryPolicy(3, 1.0, 60.0), lease_s=30.0)
PORTAL = View("portal", (), RetryPolicy(3, 1.0, 60.0), lease_s=30.0)


def chain() -> World:
    """t -> html of page/0000..3 -> summary -> portal"""
    world = World([HTML, SUMMARY, PORTAL])
    pages = world.pages(4, "t")
    for page in pages:
        for view, source in (("summary", "html"), ("portal", "summary")):
            world.site.reads[view, page] = [(f"view/{source}/{page}", "content")]
            world.declare(view, [page], [[(f"view/{source}/{page}", "content")]])
    return world


def outputs_changed_at(world: World, pages: list[str]) -> list[int]:
    numbers = np.array(sorted(world.number(page) for page in pages), np.uint32)
    found: list[int] = world.engine.shard.store.output_changed_at(0, numbers).tolist()
    return found


def test_n13_a_byte_identical_render_changes_nothing():
    world = World()
    pages = world.pages(5, "t")
    world.edit("t")
    world.drain()
    puts, purges = world.site.puts, world.site.purges
    changed = outputs_changed_at(world, pages)
    world.edit("t", visible=False)
    world.drain()
    assert (world.site.puts, world.site.purges) == (puts, purges)
    assert outputs_changed_at(world, pages) == changed
    assert world.progress("t@2").tally.unchanged == 5


def test_levels_are_rendered_in_order_and_once():
    world = chain()
    world.edit("t")
    world.drain()
    world.edit("t")
    assert world.drain() == 12
    progress = world.progress("t@2")
    assert progress.tally.levels == 3 and progress.tally.total == 12 and progress.tally.done == 12
    assert world.site.stale() == []


def test_n14_an_unchanged_middle_leaves_the_leaf_alone():
    world = chain()
    world.edit("t")
    world.drain()
    before = [world.renders_of(f"page/{at:04}", "portal") for at in range(4)]
    world.edit("t", visible=False)
    world.drain()
    assert [world.renders_of(f"page/{at:04}", "portal") for at in range(4)] == before
    assert world.progress("t@2").tally.total == 4


def test_levels_survive_a_restart_between_them():
    world = chain()
    world.edit("t")
    world.work(view="html")
    world.crash()
    world.work(2, view="summary")
    world.crash()
    world.drain()
    assert world.record("t@1").state is State.DONE
    assert world.site.stale() == []
    assert all(world.renders_of(f"page/{at:04}", "portal") for at in range(4))


def test_a_page_made_of_many_outputs_waits_for_all_of_them():
    world = World([HTML, PORTAL])
    pages = world.pages(50, "t")
    reads = [(f"view/html/{page}", "content") for page in pages]
    world.site.reads["portal", "front"] = reads
    world.declare("portal", ["front"], [reads])
    world.edit("t")
    for _ in range(10):
        world.work(5, "html")
        world.work(5, "portal")
    world.drain()
    assert world.renders_of("front", "portal") == 1
    assert world.site.stale() == []


def test_an_output_changes_under_every_root_that_wanted_it():
    world = chain()
    world.pages(4, "t", "u")  # the same pages now read u as well
    world.edit("t")
    world.edit("u")
    world.work(view="html")
    sequence = world.record("t@1").sequence
    control.cancel(world.engine.shard, "t@1", "a mistake")
    world.drain()
    assert world.site.stale() == []
    assert world.record("t@1").state is State.CANCELLED
    assert sequence not in world.engine.shard.roots
    assert all(world.renders_of(f"page/{at:04}", "portal") for at in range(4))


def cycle(*, settles: bool) -> World:
    """a and b show each other; they settle when what they show of each other stops changing."""
    world = World([HTML])
    for name, other in (("page/a", "page/b"), ("page/b", "page/a")):
        world.site.reads["html", name] = [(f"view/html/{other}", "content")]
        world.declare("html", [name], [[(f"view/html/{other}", "content")]])
    if settles:
        world.site.fixed = b"always the same"
    return world


def test_n15_a_cycle_comes_to_its_fixpoint():
    world = cycle(settles=True)
    world.edit("page/a")
    rendered = world.drain()
    assert rendered <= 4
    assert world.record("page/a@1").state is State.DONE
    assert world.engine.shard.holds.dead_count == 0


def test_n16_an_oscillation_is_stopped_and_shown_with_its_path():
    world = cycle(settles=False)  # each shows the other's bytes within its own: they grow for ever
    world.edit("page/a")
    rendered = world.drain()
    assert rendered <= 4 * (world.settings.max_flips + 2)
    letters = list(world.engine.shard.holds.dead_letters(None))
    assert letters and {letter.reason for letter in letters} == {"OSCILLATION"}
    assert "view/html/page/a <- view/html/page/b <- view/html/page/a" in letters[0].detail or (
        "view/html/page/b <- view/html/page/a <- view/html/page/b" in letters[0].detail
    )
    assert world.record("page/a@1").state is State.DONE_WITH_FAILURES


@pytest.mark.parametrize("settle_s", [0.0, 3.0])
def test_a_page_of_a_cycle_that_changed_too_often_is_not_lost_while_it_is_lent(settle_s: float):
    """Each page is made of the one before it. All are lent at once, and reported one by one."""
    world = World([replace(HTML, settle_s=settle_s)], settings=Settings(max_flips=1))
    ring = ["page/a", "page/b", "page/c"]
    for name, before in zip(ring, ring[-1:] + ring[:-1], strict=True):
        world.site.reads["html", name] = [("t", "content"), (f"view/html/{before}", "content")]
        world.declare("html", [name], [world.site.reads["html", name]])
    world.edit("t")
    for order in ("abc", "bca", "cab", "bca", "abc"):
        lent = {}
        while grants := world.lease(1):
            lent[grants[0].names.decode()[-1]] = world.render(grants[0])
        for name in order:
            if name in lent:
                world.store(lent[name])
                world.complete(lent[name])
                assert behind_and_forgotten(world, ring) == []
        world.clock.advance(2)
        world.engine.tick()
    assert {letter.reason for letter in world.engine.shard.holds.dead_letters(None)} == {"OSCILLATION"}
    assert world.record("t@1").state is State.DONE_WITH_FAILURES
    tally = world.progress("t@1").tally
    assert (tally.total, tally.failed) == (tally.done + 3, 3)


def test_a_dead_letter_that_heals_while_it_is_lent_is_not_taken_for_rendered_by_the_root_that_stopped_it():
    """A page of a cycle is lent for a newer edit when the older ones' turns stop it; that render sees neither."""
    world = World([HTML], settings=Settings(max_flips=1))
    ring = ["page/a", "page/b", "page/c"]
    for name, before in zip(ring, ring[-1:] + ring[:-1], strict=True):
        inputs = [
            ("t", "content"),
            ("u", "content"),
            (f"own/{name[-1]}", "content"),
            (f"view/html/{before}", "content"),
        ]
        world.site.reads["html", name] = inputs
        world.declare("html", [name], [inputs])
    shard = world.engine.shard
    lent = {}

    def act(what: str) -> None:
        if what.startswith("edit "):
            world.edit(what.removeprefix("edit "))
        elif what.startswith("lease "):
            (grant,) = world.lease(1)
            lent[what.removeprefix("lease ")] = world.render(grant)
            assert grant.names.decode() == "page/" + what.removeprefix("lease ")
        else:
            rendered = lent.pop(what)
            world.store(rendered)
            world.complete(rendered)

    def owing(number: int) -> set[int]:
        """The roots that do not take the page for rendered."""
        groups = [(root.sequence, group) for root in shard.roots.values() for group in root.of_view(0)]
        return {sequence for sequence, group in groups if number in group.pending | group.failed}

    begun = ["edit t", "lease a", "edit own/b", "lease b", "edit own/a", "lease c", "a", "lease a", "edit own/a", "b"]
    begun += [
        "a",
        "c",
        "lease a",
        "lease c",
        "c",
        "edit own/c",
        "lease c",
        "lease b",
        "b",
        "a",
        "c",
        "lease a",
        "lease b",
    ]
    for what in begun:
        act(what)
    (stopped,) = shard.holds.dead(0) & shard.leases.lent(0)
    failed = {root.sequence for root in shard.roots.values() for group in root.of_view(0) if stopped in group.failed}
    assert failed
    world.edit("u")
    act(next(name for name in lent if world.number(f"page/{name}") == stopped))
    assert failed <= owing(stopped)


def behind_and_forgotten(world: World, ring: list[str]) -> list[str]:
    """Pages older than the change of the one before them, and neither pending nor dead letters."""
    shard = world.engine.shard
    wanted = shard.holds.dead(0).copy()
    for root in shard.roots.values():
        for group in root.of_view(0):
            wanted |= group.pending
    numbers = [world.number(name) for name in ring]
    rendered = [int(shard.store.rendered_at(0, np.array([number], np.uint32))[0]) for number in numbers]
    changed = [outputs_changed_at(world, [name])[0] for name in ring]
    return [name for at, name in enumerate(ring) if changed[at - 1] > rendered[at] and numbers[at] not in wanted]


def test_n31_killed_after_the_store_before_purge_and_completion():
    world = chain()
    world.edit("t")
    (grant,) = world.lease(view="html")
    rendered = world.render(grant)
    world.store(rendered)  # and the executor is gone
    world.clock.advance(31)
    world.engine.tick()
    world.drain()
    assert world.site.stale() == []  # purged although the store held the very bytes
    assert all(world.renders_of(f"page/{at:04}", "portal") == 1 for at in range(4))
    assert world.record("t@1").state is State.DONE


def test_n32_an_input_changes_between_lease_and_completion_that_adds_it():
    world = World()
    (page,) = world.pages(1, "t")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.site.reads["html", page] = [("t", "content"), ("u", "content")]
    rendered.sets = [[("t", "content"), ("u", "content")]]
    world.edit("u")  # finished at once: nothing depends on it yet
    assert world.record("u@1").state is State.DONE
    world.store(rendered)
    world.purge(rendered)
    world.complete(rendered)
    assert world.record("u@1").state is State.ACTIVE
    world.crash()
    assert world.drain() == 1
    assert world.site.stale() == []
    assert world.record("u@1").state is State.DONE


def test_n32_an_output_changes_between_lease_and_completion_that_adds_it():
    world = World([HTML, SUMMARY])
    (page,) = world.pages(1, "t")
    world.site.reads["summary", "front"] = []
    world.declare("summary", ["front"], [[("s", "content")]])
    world.edit("s")
    (grant,) = world.lease(view="summary")
    rendered = world.render(grant)
    world.edit("t")
    world.work(view="html")  # nothing depends on this output yet
    world.site.reads["summary", "front"] = [(f"view/html/{page}", "content")]
    rendered.sets = [[(f"view/html/{page}", "content")]]
    world.store(rendered)
    world.purge(rendered)
    world.complete(rendered)
    world.crash()
    world.drain()
    assert world.site.stale() == []
    assert world.renders_of("front", "summary") == 2


def test_a_dependent_of_what_the_same_completion_changes():
    world = World([HTML])
    world.pages(1, "t", prefix="page/a")
    world.pages(1, "t", prefix="page/b")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    first, second = (place[1] for place in rendered.places)
    world.site.reads["html", second] = [(f"view/html/{first}", "content")]
    rendered.sets = [[("t", "content")], [(f"view/html/{first}", "content")]]
    world.store(rendered)
    world.purge(rendered)
    world.complete(rendered)
    world.crash()
    world.drain()
    assert world.site.stale() == []
    assert world.renders_of(second) == 2


def test_an_output_changes_while_what_is_made_of_it_is_lent_under_the_same_root():
    world = World([HTML, SUMMARY])
    (page,) = world.pages(1, "t")
    reads = [("t", "content"), (f"view/html/{page}", "content")]
    world.site.reads["summary", "front"] = reads
    world.declare("summary", ["front"], [reads])
    world.edit("t")
    (grant,) = world.lease(view="summary")
    early = world.render(grant)
    world.work(view="html")  # the output changes; "front" is lent, and was rendered from what was before
    world.store(early)
    world.purge(early)
    world.complete(early)
    assert world.record("t@1").state is State.ACTIVE
    world.drain()
    assert world.site.stale() == []
    tally = world.progress("t@1").tally
    assert tally.total == tally.done == 3


def test_what_a_folded_root_found_goes_over_to_its_successor():
    world = World([HTML, SUMMARY], settings=Settings(max_superseded=1))
    pages = world.pages(4, "t")
    world.declare("summary", ["front"], [[(f"view/html/{pages[0]}", "content")]])
    world.site.reads["summary", "front"] = [(f"view/html/{pages[0]}", "content")]
    world.edit("t")
    world.work(1, view="html")  # page 0: "front" is pending at level 2 of the first root
    world.edit("t", visible=False)
    world.edit("t", visible=False)  # the first root is folded
    assert world.record("t@1").state is State.DONE
    world.drain()
    assert world.renders_of("front", "summary") == 1
    assert world.site.stale() == []
