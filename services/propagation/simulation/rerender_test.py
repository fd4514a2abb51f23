"""Renders without a change: idempotent by id, steered like any root, stored and purged again when asked to."""

import pytest

from libs.errors.errors import InvalidArgument
from services.propagation.domain import control, dead_letters, retention
from services.propagation.domain.errors import ChangeIdReused, IntakeFull, ViewNotFound
from services.propagation.domain.leasing import Grant
from services.propagation.domain.records import GONE, State
from services.propagation.domain.rerender import MAX_NAMES, Begun, Rerender, rerender
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import HTML, World, failures_of

SUMMARY = View("summary", (), RetryPolicy(3, 1.0, 60.0), lease_s=30.0)


def begin(world: World, *names: str, change_id: str = "again", view: str = "html", **more) -> Begun:
    asked = Rerender(change_id, view, [name.encode() for name in names], **more)
    return rerender(world.engine.shard, asked)[0]


def rendered_site(count: int = 20) -> World:
    world = World()
    world.pages(count, "t")
    world.edit("t")
    world.drain()
    return world


def test_named_pages_are_rendered_under_a_root_of_their_own():
    world = rendered_site()
    assert begin(world, "page/0003", "page/0007", "page/0003", "elsewhere/x") == Begun("again", 2, ["elsewhere/x"])
    assert world.drain() == 2
    record, tally = world.record("again"), world.progress("again").tally
    assert (record.state, tally.total, tally.unchanged) == (State.DONE, 2, 2)
    assert record.change.cause.kind == "operator" and dict(record.change.attributes)["rerender"] == "html"


def test_no_names_are_all_that_the_view_rendered():
    world = rendered_site()
    world.declare("html", ["page/never"], [[("u", "content")]])
    assert begin(world).pages == 20
    world.work(7)
    world.crash()
    assert world.progress("again").tally.done == 7
    assert world.drain() == 13
    assert world.renders_of("page/never") == 0


def test_first_renders_under_way_are_rendered_again_too():
    world = World()
    pages = world.pages(3, "t")
    world.edit("t")
    (grant,) = world.lease(2)
    rendered = world.render(grant)  # of what was before the operator asked
    assert begin(world).pages == 2
    world.store(rendered)
    world.purge(rendered)
    world.complete(rendered)
    for _ in range(2):
        tally = world.progress("again").tally
        assert (tally.total, tally.done) == (2, 0)
        world.crash()
    assert world.drain() == 3 and world.site.stale() == []
    assert [world.renders_of(page) for page in pages] == [2, 2, 1]


@pytest.mark.parametrize("names", [(), ("page/0001",)])
def test_a_view_that_was_left_out_and_is_still_at_work_is_refused(names):
    world = rendered_site()
    world.edit("t")
    world.engine.put_views([SUMMARY], 2)
    with pytest.raises(ViewNotFound):
        begin(world, *names)
    assert world.drain() == 20


def test_nothing_to_render_begins_no_root():
    world = World()
    assert begin(world) == Begun("", 0, [])
    assert begin(world, "other/x", change_id="b") == Begun("", 0, ["other/x"])
    assert not world.engine.shard.roots


def test_the_same_id_again_begins_nothing():
    world = rendered_site()
    first = begin(world, "page/0001")
    assert begin(world, "page/0001") == first
    world.crash()
    assert begin(world, "page/0001") == first
    assert world.drain() == 1
    assert begin(world, "page/0001") == first
    assert world.lease() == []
    with pytest.raises(ChangeIdReused):
        begin(world, "page/0002")


def test_unchanged_pages_are_left_alone_unless_they_are_to_be_published():
    world = rendered_site(5)
    puts, purges = world.site.puts, world.site.purges
    begin(world)
    world.drain()
    assert (world.site.puts, world.site.purges) == (puts, purges)
    begin(world, change_id="publish", publish_unchanged=True)
    world.work(2)
    world.crash()
    world.drain()
    assert (world.site.puts, world.site.purges) == (puts + 5, purges + 5)
    assert world.progress("publish").tally.changed == 5
    begin(world, change_id="after")
    world.drain()
    assert world.site.puts == puts + 5


def test_a_page_lent_before_is_published_again_all_the_same():
    world = rendered_site(3)
    world.edit("t", visible=False)
    (early,) = world.lease()
    rendered = world.render(early)
    begin(world, publish_unchanged=True)
    puts = world.site.puts
    world.store(rendered)
    world.complete(rendered)
    assert world.progress("again").tally.done == 0
    world.drain()
    assert world.site.puts == puts + 3


def test_what_depends_on_a_page_published_again_follows():
    world = World([HTML, SUMMARY])
    (page,) = world.pages(1, "t")
    world.site.reads["summary", "front"] = [(f"view/html/{page}", "content")]
    world.declare("summary", ["front"], [[(f"view/html/{page}", "content")]])
    world.edit("t")
    world.drain()
    begin(world, publish_unchanged=True)
    assert world.drain() == 2
    assert world.site.stale() == []


def test_a_cycle_that_has_settled_is_published_again_once_and_stays_settled():
    world = World([HTML])
    ring = ["page/a", "page/b", "page/c"]
    for name, before in zip(ring, ring[-1:] + ring[:-1], strict=True):
        world.site.reads["html", name] = [(f"view/html/{before}", "content")]
        world.declare("html", [name], [world.site.reads["html", name]])
    world.site.fixed = b"always the same"
    world.edit("page/a")
    world.drain()
    puts = world.site.puts
    begin(world, publish_unchanged=True)
    world.drain()
    assert world.engine.shard.holds.dead_count == 0
    assert world.record("again").state is State.DONE
    assert world.site.puts == puts + 3


def test_it_is_paused_resumed_and_cancelled_like_any_root():
    world = rendered_site()
    begin(world)
    control.pause(world.engine.shard, "again", "a look")
    assert world.lease() == []
    world.crash()
    assert world.lease() == []
    control.resume(world.engine.shard, "again")
    world.work(5)
    record, _ = control.cancel(world.engine.shard, "again", "enough")
    assert (record.state, record.left) == (State.CANCELLED, 15)
    world.crash()
    assert world.lease() == []


def test_declared_and_dead_pages_are_tried_too():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    pages = world.pages(2, "t")
    world.edit("t")
    (grant,) = world.lease()
    world.complete(world.render(grant), failed=failures_of([world.number(pages[0])]))
    assert world.engine.shard.holds.dead_count == 1
    begin(world, pages[0])
    assert world.engine.shard.holds.dead_count == 0
    world.drain()
    assert world.site.stale() == []


def test_what_is_refused():
    world = rendered_site(2)
    with pytest.raises(ViewNotFound):
        begin(world, view="none")
    with pytest.raises(InvalidArgument):
        begin(world, lane="No Lane")
    with pytest.raises(InvalidArgument):
        begin(world, *["page/x"] * (MAX_NAMES + 1))
    small = World(settings=Settings(max_roots=1))
    small.pages(2, "t")
    small.edit("t")
    with pytest.raises(IntakeFull):
        begin(small, "page/0000")


def version(number: int) -> bytes:
    return number.to_bytes(16, "big")


def told_gone(world: World, *names: str, at: int) -> Begun:
    """Pages of another data centre, which told that they are gone."""
    versions = [version(at + index) for index in range(len(names))]
    return begin(world, *names, change_id=f"gone/{at}", publish_unchanged=True, gone_versions=versions)


def gone_of(world: World, grant: Grant) -> dict[str, int]:
    """By page, with which version its lease says that it is gone."""
    names = grant.names.decode().split("\0")
    told = grant.gone.tolist() if grant.gone is not None else [bytes(16)] * len(names)
    return {name: int.from_bytes(one, "big") for name, one in zip(names, told, strict=True)}


def kept(world: World) -> int:
    return sum(1 for _ in world.engine.shard.store.records(GONE))


def test_a_page_is_lent_with_the_newest_version_as_of_which_it_is_told_to_be_gone_over_crashes():
    world = rendered_site(4)
    told_gone(world, "page/0002", "page/0000", at=10)
    told_gone(world, "page/0002", at=8)
    begin(world, "page/0001", "page/0002", change_id="by hand", publish_unchanged=True)
    world.crash()
    (grant,) = world.lease(10)
    assert gone_of(world, grant) == {"page/0000": 11, "page/0001": 0, "page/0002": 10}
    told_gone(world, "page/0000", at=20)
    world.complete(world.render(grant))
    (grant,) = world.lease(10)
    assert gone_of(world, grant) == {"page/0000": 20}
    world.complete(world.render(grant))
    assert not world.engine.shard.roots and kept(world) == 0
    world.edit("t")
    (grant,) = world.lease(10)
    assert grant.gone is None, "what was told has been seen to"


def test_a_dead_letter_keeps_the_version_as_of_which_its_page_is_gone():
    world = rendered_site(2)
    told_gone(world, "page/0000", "page/0001", at=10)
    (grant,) = world.lease(10)
    dead = [world.number("page/0000")]
    world.complete(world.render(grant), failed=failures_of(dead, retryable=False))
    assert world.record("gone/10").state is State.DONE_WITH_FAILURES
    world.crash()
    dead_letters.replay(world.engine.shard, dead_letters.Filter())
    (grant,) = world.lease(10)
    assert gone_of(world, grant) == {"page/0000": 10}
    world.complete(world.render(grant))
    assert kept(world) == 0


def test_versions_of_dead_letters_are_forgotten_with_their_root():
    world = rendered_site(1)
    told_gone(world, "page/0000", at=10)
    (grant,) = world.lease(10)
    world.complete(world.render(grant), failed=failures_of(grant.lease.ids.tolist(), retryable=False))
    assert kept(world) == 1
    world.clock.advance(world.settings.remember_s + 1)
    while retention.forget(world.engine.shard):
        pass
    assert kept(world) == 0


def test_versions_of_pages_that_are_gone_are_for_each_name_and_publish_what_is_unchanged():
    world = rendered_site(2)
    for more in ({"publish_unchanged": True, "gone_versions": [version(1)]}, {"gone_versions": [version(1)] * 2}):
        with pytest.raises(InvalidArgument, match="gone_versions"):
            begin(world, "page/0000", "page/0001", **more)
    told_gone(world, "page/0000", at=1)
    with pytest.raises(ChangeIdReused):
        begin(world, "page/0000", change_id="gone/1", publish_unchanged=True, gone_versions=[version(2)])
