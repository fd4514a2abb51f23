"""Roots under operators' hands, progress, explanations, visibility, order by version. Cases N21, N23 to N25, N28, N33,
N34."""

import asyncio

import pytest

from services.propagation.domain import control, explain, impact, visibility
from services.propagation.domain.change import Change
from services.propagation.domain.errors import ChangeIdReused, Fenced, IntakeFull, LeaseExpired, RootFinished
from services.propagation.domain.explain import Decision
from services.propagation.domain.records import State
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import HTML, World, failures_of

SUMMARY = View("summary", (), RetryPolicy(3, 1.0, 60.0), lease_s=30.0)


def visible(world: World, token: str, page: str, view: str = "html") -> visibility.Visibility:
    return asyncio.run(visibility.wait(world.engine.shard, token, page, view, 0.0))


def test_n21_pause_resume_cancel():
    world = World()
    world.pages(20, "t")
    world.edit("t")
    (in_flight,) = world.lease(5)
    control.pause(world.engine.shard, "t@1", "too hot")
    assert world.lease() == []
    rendered = world.render(in_flight)
    world.store(rendered)
    world.purge(rendered)
    world.complete(rendered)  # what was in flight ends
    world.crash()
    assert world.lease() == [] and world.record("t@1").reason == "too hot"
    control.resume(world.engine.shard, "t@1")
    assert world.work(5) == 5
    control.cancel(world.engine.shard, "t@1", "a mistake")
    assert world.lease() == []
    world.crash()
    assert world.lease() == []
    record = world.record("t@1")
    assert (record.state, record.left, record.reason) == (State.CANCELLED, 10, "a mistake")
    for action in (control.pause, control.cancel):
        with pytest.raises(RootFinished):
            action(world.engine.shard, "t@1", "")


def test_a_cancelled_successor_gives_its_predecessor_back():
    world = World()
    world.pages(10, "t")
    world.edit("t")
    world.edit("t")
    control.cancel(world.engine.shard, "t@2", "no")
    assert world.drain() == 10
    assert world.record("t@1").state is State.DONE


def test_lanes_share_by_weight():
    world = World(settings=Settings(lanes={"default": 1, "fast": 9}))
    world.pages(50_000, "t")
    world.pages(50_000, "u", prefix="page/u")
    world.edit("t")
    world.edit("u", lane="fast")
    for _ in range(20):
        (grant,) = world.lease(2_000)
        world.complete(world.render(grant), sets=False, seconds=len(grant.lease.ids) * 0.01)
    slow, fast = world.progress("t@1").tally.done, world.progress("u@1").tally.done
    assert 5 < fast / slow < 14


def test_a_root_moved_to_another_lane():
    world = World(settings=Settings(lanes={"default": 1, "fast": 9}))
    world.pages(5, "t")
    world.edit("t")
    record, _ = control.reprioritize(world.engine.shard, "t@1", "fast", 7)
    assert (record.lane, record.weight) == ("fast", 7)
    world.crash()
    assert world.record("t@1").lane == "fast"
    assert world.drain() == 5


def test_n23_explain_names_edit_path_versions_and_times():
    world = World([HTML, SUMMARY])
    (page,) = world.pages(1, "t")
    world.declare("summary", ["front"], [[(f"view/html/{page}", "content")]])
    world.site.reads["summary", "front"] = [(f"view/html/{page}", "content")]
    world.edit("t", change_id="the-edit")
    at_ns = world.clock.time_ns()
    world.clock.advance(5)
    found = explain.explain(world.engine.shard, page, "html")
    assert found.pending and found.steps[0].decision is Decision.PENDING
    world.drain()
    found = explain.explain(world.engine.shard, "front", "summary")
    (step,) = found.steps
    assert step.root is not None and step.root.id == "the-edit" and step.root.cause.causer == "tester"
    assert step.path == ("t", f"view/html/{page}", "front")
    assert step.decision is Decision.RENDERED
    direct = explain.explain(world.engine.shard, page, "html").steps[0]
    assert direct.path == ("t", page) and abs(direct.time_ns - at_ns) < 2_000_000_000
    assert found.rendered_version == world.site.stored["summary", "front"][0]
    world.edit("t", visible=False)
    world.drain()
    assert explain.explain(world.engine.shard, page, "html").steps[0].decision is Decision.CUT_OFF
    world.edit("t")
    control.cancel(world.engine.shard, "t@3", "no")
    assert explain.explain(world.engine.shard, page, "html").steps[0].decision is Decision.CANCELLED


def test_explain_of_a_failed_page():
    world = World([View("html", ("page/",), RetryPolicy(1, 1.0, 60.0))])
    (page,) = world.pages(1, "t")
    world.edit("t")
    (grant,) = world.lease()
    world.complete(world.render(grant), failed=failures_of([world.number(page)]))
    step = explain.explain(world.engine.shard, page, "html").steps[0]
    assert step.decision is Decision.FAILED and "RENDER_FAILED" in step.note


def test_n24_progress_is_monotone_and_the_eta_is_right():
    world = World()
    world.pages(1_000, "t")
    world.edit("t")
    began, last, checked = world.clock.now_s, -1, 0
    predicted: list[tuple[float, float]] = []
    while world.engine.shard.roots:
        world.work(20)
        world.clock.advance(1)
        if not world.engine.shard.roots:
            break
        progress = world.progress("t@1")
        assert progress.tally.done > last and progress.tally.total == 1_000
        last = progress.tally.done
        if last >= 100 and progress.eta_s is not None:
            predicted.append((world.clock.now_s + progress.eta_s, world.clock.now_s))
            checked += 1
    end = world.clock.now_s
    assert checked > 30
    for at, when in predicted[:-3]:
        assert abs(at - end) <= 0.25 * (end - when) + 1, (at - began, when - began, end - began)


def test_done_never_falls_over_restarts():
    world = World()
    world.pages(100, "t", "u")
    world.edit("t")
    world.edit("u")
    last = 0
    for _ in range(10):
        world.work(11)
        world.crash()
        done = world.progress("t@1").tally.done
        assert done >= last
        last = done
    assert last == 100


def test_n25_a_token_is_visible_only_when_the_page_shows_the_change():
    world = World([HTML, SUMMARY])
    first, second = world.pages(2, "t")
    world.declare("summary", ["front"], [[(f"view/html/{first}", "content")]])
    world.site.reads["summary", "front"] = [(f"view/html/{first}", "content")]
    accepted = world.edit("t")
    token = visibility.token(accepted.sequence)
    assert visible(world, token, first).state == "pending"
    assert visible(world, "t@1", "front", "summary").state == "pending"  # not pending itself, yet to be reached
    (grant,) = world.lease(1)
    rendered = world.render(grant)
    world.store(rendered)
    world.purge(rendered)
    assert not visible(world, token, rendered.places[0][1]).visible
    world.complete(rendered)
    answer = visible(world, token, rendered.places[0][1])
    assert answer.visible and answer.version == grant.rendered_version
    control.pause(world.engine.shard, "t@1", "")
    other = second if rendered.places[0][1] == first else first
    assert visible(world, token, other).state == "paused"
    control.resume(world.engine.shard, "t@1")
    world.drain()
    assert visible(world, token, "front", "summary").visible
    assert visible(world, token, "page/never-heard-of").visible
    world.edit("t")
    control.cancel(world.engine.shard, "t@2", "")
    assert visible(world, "t@2", first).state == "cancelled"


def test_waiting_for_a_change_that_has_not_arrived_yet():
    world = World()
    (page,) = world.pages(1, "t")

    async def main() -> visibility.Visibility:
        waiting = asyncio.create_task(visibility.wait(world.engine.shard, "storage/wiki/1/x", page, "html", 20.0))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        world.edit("t", change_id="storage/wiki/1/x")
        await asyncio.sleep(0.05)
        assert not waiting.done()
        world.drain()
        return await waiting

    assert asyncio.run(main()).visible


def test_n28_order_is_by_version_whatever_the_clocks_say():
    world = World()
    world.pages(3, "t")
    world.edit("t", version=10)
    world.drain()
    hour_ns = 3_600 * 10**9
    for skew_ns in (-hour_ns, hour_ns):
        change = Change(
            f"late{skew_ns}", "t", ("content",), (9).to_bytes(16, "big"), time_ns=world.clock.wall_ns + skew_ns
        )
        accepted, _ = world.engine.publish(change)
        assert accepted.root == ""  # older than what is known: acknowledged, no effect
    change = Change("newer", "t", ("content",), (11).to_bytes(16, "big"), time_ns=world.clock.wall_ns - hour_ns)
    assert world.engine.publish(change)[0].root == "newer"
    assert world.drain() == 3


def test_n33_a_paused_executor_that_wakes_up_late_changes_nothing():
    world = World()
    (page,) = world.pages(1, "t")
    world.edit("t")
    (grant,) = world.lease()
    paused = world.render(grant)  # SIGSTOP here
    world.clock.advance(31)
    world.engine.tick()
    world.edit("t")
    world.drain()
    newest = world.site.stored["html", page]
    minimum = world.site.cache_minimum["html", page]
    world.store(paused)
    world.purge(paused)
    assert world.site.stored["html", page] == newest and world.site.refused == 1
    assert world.site.cache_minimum["html", page] == minimum
    with pytest.raises((Fenced, LeaseExpired)):
        world.complete(paused)
    assert world.site.stale() == []


def test_n34_an_older_version_of_another_aspect_counts():
    world = World()
    world.site.reads["html", "page/0000"] = [("t", "content"), ("t", "title")]
    world.declare("html", ["page/0000"], [[("t", "content"), ("t", "title")]])
    world.edit("t", "title", version=6, change_id="title6")
    world.drain()
    world.edit("t", "content", version=5, change_id="content5")
    assert world.record("content5").begun
    assert world.drain() == 1
    assert world.edit("t", "title", "content", version=5, change_id="both5").root == ""
    assert world.edit("t", "title", "content", version=6, change_id="both6").root == "both6"
    assert world.record("both6").change.aspects == ("title", "content")
    assert len(world.record("both6").inputs) == 1  # content only; title was at 6 already


def test_a_reused_change_id_is_refused():
    world = World()
    world.edit("t", change_id="c")
    with pytest.raises(ChangeIdReused):
        world.edit("t", change_id="c")


def test_a_red_link_hears_of_existence_only():
    world = World()
    world.declare("html", ["page/red"], [[("t", "existence")]])
    world.edit("t", "content")
    assert world.lease() == []
    world.edit("t", "existence", change_id="made")
    assert world.drain() == 1


def test_the_intake_is_bounded_and_says_so():
    world = World(settings=Settings(max_roots=3))
    for at in range(3):
        world.pages(1, f"t{at}", prefix=f"page/{at}-")
        world.edit(f"t{at}")
    with pytest.raises(IntakeFull):
        world.edit("t9")
    world.drain()
    assert world.edit("t9").root


def test_what_is_forgotten_and_what_is_not():
    world = World(settings=Settings(remember_s=100))
    world.pages(2, "t")
    world.edit("t", change_id="done")
    world.drain()
    world.edit("t", change_id="running")
    world.clock.advance(200)
    for _ in range(3):
        world.clock.advance(6)
        world.engine.tick()
    assert world.record("running").state is State.ACTIVE
    with pytest.raises(AssertionError):
        world.record("done")
    assert world.edit("t", change_id="done", version=1).root == ""  # as new, yet older: no effect
    assert world.drain() == 2


def test_an_estimate_before_the_edit():
    world = World([HTML, SUMMARY])
    pages = world.pages(40, "t")
    for page in pages[:10]:
        world.declare("summary", [page], [[(f"view/html/{page}", "content")]])
    estimate = impact.estimate(world.engine.shard, "t", ("content",))
    assert [(one.view, one.dependents) for one in estimate.views] == [("html", 40)]
    assert estimate.transitive == 10
    own = impact.estimate(world.engine.shard, "page/new", ("content",))
    assert [(one.view, one.dependents) for one in own.views] == [("html", 1)]
    assert impact.estimate(world.engine.shard, "nobody", ("content",)).views == []


def test_a_retired_view_is_finished_by_the_roots_that_began_with_it_and_by_no_others():
    world = World([HTML, SUMMARY])
    pages = world.pages(4, "t")
    world.declare("summary", pages, [[("t", "content")]] * 4)
    for page in pages:
        world.site.reads["summary", page] = [("t", "content")]
    world.edit("t")
    world.engine.put_views([HTML], 2)
    assert world.drain() == 8
    assert world.record("t@1").state is State.DONE
    world.edit("t")
    assert world.drain() == 4
    world.clock.advance(10)
    world.engine.tick()
    assert not world.engine.shard.views.serves("summary")
    world.views = [HTML]
    world.engine.put_views([HTML, SUMMARY], 3)
    world.views = [HTML, SUMMARY]
    world.edit("t")
    assert world.drain() == 8  # its edges came back with it


def test_hot_pages_go_first_within_a_pass():
    world = World()
    pages = world.pages(100, "t")
    hot = [world.number(page) for page in pages[60:65]]
    world.engine.heat.report(0, hot, [9] * 5, 20)
    world.edit("t")
    (grant,) = world.lease(5)
    assert grant.lease.ids.tolist() == hot
    world.engine.heat.report(0, hot, [2] * 5, 5)
    assert world.progress("t@1").fresh_share == 0.5
    assert world.drain() == 100  # the lease above was never reported
