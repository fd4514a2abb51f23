"""What explanations say of edits that were rendered, cut off, coalesced, superseded, cancelled, failed or held back."""

import numpy as np

from services.propagation.domain import control, explain
from services.propagation.domain.completion import Completion, complete
from services.propagation.domain.explain import Decision, Explanation
from services.propagation.domain.rerender import Rerender, rerender
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import HTML, NONE, World

SUMMARY = View("summary", (), RetryPolicy(3, 1.0, 60.0), lease_s=30.0)


def told(world: World, page: str = "page/0000", view: str = "html") -> Explanation:
    return explain.explain(world.engine.shard, page, view)


def decisions(world: World, page: str = "page/0000", view: str = "html") -> list[tuple[str, Decision]]:
    return [(step.root.id, step.decision) for step in told(world, page, view).steps if step.root is not None]


def test_each_edit_that_had_a_render_of_its_own_is_rendered():
    world = World()
    world.pages(1, "t", "u")
    world.edit("t")
    world.drain()
    first = world.site.stored["html", "page/0000"][0]
    world.edit("u")
    world.drain()
    assert decisions(world) == [("u@1", Decision.RENDERED), ("t@1", Decision.RENDERED)]
    steps = told(world).steps
    assert steps[1].rendered_version == first and steps[0].rendered_version > first
    world.crash()
    assert [step.decision for step in told(world).steps] == [Decision.RENDERED] * 2


def test_an_edit_is_coalesced_when_the_render_of_another_one_shows_it():
    world = World()
    world.pages(1, "t", "u")
    world.edit("t")
    world.edit("u")
    assert [decision for _, decision in decisions(world)] == [Decision.PENDING] * 2
    world.drain()
    assert sorted(decisions(world)) == [("t@1", Decision.RENDERED), ("u@1", Decision.COALESCED)] or sorted(
        decisions(world)
    ) == [("t@1", Decision.COALESCED), ("u@1", Decision.RENDERED)]
    coalesced = next(step for step in told(world).steps if step.decision is Decision.COALESCED)
    leader = next(step for step in told(world).steps if step.decision is Decision.RENDERED)
    assert leader.root is not None and leader.root.id in coalesced.note
    assert coalesced.rendered_at == leader.rendered_at
    before = set(decisions(world))
    world.edit("v")
    world.declare("html", ["page/0000"], [[("t", "content"), ("u", "content"), ("v", "content")]])
    world.edit("v")
    world.drain()
    assert before < set(decisions(world))  # what was said stays so


def test_an_edit_in_the_middle_of_a_render_is_not_called_coalesced():
    world = World()
    world.pages(1, "t", "u")
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.edit("u")
    world.store(rendered)
    world.purge(rendered)
    world.complete(rendered)
    assert decisions(world) == [("u@1", Decision.PENDING), ("t@1", Decision.RENDERED)]
    world.drain()
    assert decisions(world) == [("u@1", Decision.RENDERED), ("t@1", Decision.RENDERED)]


def test_an_older_edit_of_the_same_input_is_superseded():
    world = World()
    world.pages(2, "t")
    world.edit("t")
    world.edit("t")
    assert decisions(world) == [("t@2", Decision.PENDING), ("t@1", Decision.SUPERSEDED)]
    world.drain()
    assert decisions(world) == [("t@2", Decision.RENDERED), ("t@1", Decision.SUPERSEDED)]
    assert "t@2" in told(world).steps[1].note


def test_a_cut_off_is_told_with_its_render():
    world = World()
    world.pages(1, "t", "u")
    world.edit("t")
    world.drain()
    world.edit("u", visible=True)
    world.drain()
    world.clock.advance(3)
    world.edit("t", visible=False)
    world.clock.advance(2)
    world.drain()
    assert decisions(world)[:2] == [("t@2", Decision.CUT_OFF), ("u@1", Decision.RENDERED)]
    assert "2.0 s after the change" in told(world).steps[0].note


def test_a_cancelled_edit_stays_cancelled_until_something_shows_it():
    world = World()
    world.pages(1, "t", "u")
    world.edit("t")
    control.cancel(world.engine.shard, "t@1", "a mistake")
    assert decisions(world) == [("t@1", Decision.CANCELLED)]
    assert "a mistake" in told(world).steps[0].note
    world.edit("u")
    world.drain()
    assert ("u@1", Decision.RENDERED) in decisions(world)


def test_a_render_that_waits_for_its_source_says_so():
    world = World()
    (page,) = world.pages(1, "t")
    world.edit("t")
    for _ in range(7):
        (grant,) = world.lease()
        lease = grant.lease
        none = np.empty(0, "V16")
        report = Completion(lease.id, lease.fencing, NONE, none, None, (), lease.ids, NONE, 0.0, lease.id)
        complete(world.engine.shard, report)
        assert world.lease() == []
        world.clock.advance(4.2)
        world.engine.tick()
    step = told(world, page).steps[0]
    assert step.decision is Decision.PENDING and step.note.startswith("held back")
    assert world.progress("t@1").held_back == 1
    (grant,) = world.lease()
    lease = grant.lease
    report = Completion(lease.id, lease.fencing, NONE, np.empty(0, "V16"), None, (), lease.ids, NONE, 0.0, lease.id)
    complete(world.engine.shard, report)
    world.clock.advance(4.2)
    world.engine.tick()
    assert world.lease() == []  # by now it is tried ever more slowly
    world.edit("t")  # the source moves: it is tried at once
    assert world.drain() == 1
    assert world.progress("t@1").held_back == 0 and told(world, page).steps[0].decision is Decision.RENDERED


def test_a_rerender_is_told_like_an_edit():
    world = World()
    world.pages(2, "t")
    world.edit("t")
    world.drain()
    rerender(world.engine.shard, Rerender("again", "html", [b"page/0000"], publish_unchanged=True))
    assert decisions(world)[0] == ("again", Decision.PENDING)
    assert [root for root, _ in decisions(world, "page/0001")] == ["t@1"]
    world.drain()
    assert decisions(world)[:2] == [("again", Decision.RENDERED), ("t@1", Decision.RENDERED)]


def test_without_the_log_what_the_columns_know_is_told():
    world = World([HTML, SUMMARY], settings=Settings(history_bytes=0))
    (page,) = world.pages(1, "t")
    world.declare("summary", ["front"], [[(f"view/html/{page}", "content")]])
    world.site.reads["summary", "front"] = [(f"view/html/{page}", "content")]
    world.edit("t")
    world.drain()
    world.clock.advance(6)
    world.engine.tick()
    assert not list(world.engine.shard.store.records("render"))
    (step,) = told(world, "front", "summary").steps
    assert step.decision is Decision.RENDERED and step.path == ("t", f"view/html/{page}", "front")
