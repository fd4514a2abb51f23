"""When a change counts as visible: only when every render that it asks for, however far back, has been made."""

import asyncio

import numpy as np
import pytest

from services.propagation.domain import control, dead_letters, visibility
from services.propagation.domain.completion import Completion, complete
from services.propagation.domain.dead_letters import Filter
from services.propagation.domain.errors import ChangeIdInvalid
from services.propagation.domain.rerender import Rerender, rerender
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import HTML, NONE, World, failures_of

SUMMARY = View("summary", (), RetryPolicy(1, 1.0, 60.0), lease_s=30.0)


def state(world: World, token: str, page: str, view: str = "html") -> str:
    """Why not; empty when it is visible."""
    answer = asyncio.run(visibility.wait(world.engine.shard, token, page, view, 0.0))
    assert answer.visible == (answer.state == "")
    return answer.state


def layered(settings: Settings | None = None) -> World:
    """t and u -> html of page/0000 -> summary of front, which reads u too"""
    html = View("html", ("page/",), RetryPolicy(1, 1.0, 60.0), lease_s=30.0)
    world = World([html, SUMMARY], settings=settings)
    world.pages(1, "t")
    reads = [("view/html/page/0000", "content"), ("u", "content")]
    world.site.reads["summary", "front"] = reads
    world.declare("summary", ["front"], [reads])
    return world


def shows(world: World, page: str, view: str) -> bool:
    """What readers see is what the sources say."""
    return (view, page) not in world.site.stale()


def test_n25_a_render_in_between_for_another_edit_does_not_make_it_visible():
    world = layered()
    world.edit("t")
    world.edit("u")
    world.work(view="summary")  # front is rendered after the edit of t, from the page as it was before
    assert state(world, "u@1", "front", "summary") == ""
    assert state(world, "t@1", "front", "summary") == "pending"
    world.work(view="html")
    assert state(world, "t@1", "front", "summary") == "pending"
    world.work(view="summary")
    assert state(world, "t@1", "front", "summary") == "" and shows(world, "front", "summary")


def test_n25_not_visible_behind_a_dead_letter():
    world = layered()
    world.edit("t")
    (grant,) = world.lease(view="html")
    world.complete(world.render(grant), failed=failures_of(grant.lease.ids.tolist()))
    assert state(world, "t@1", "page/0000") == "dead_letter"
    assert state(world, "t@1", "front", "summary") == "dead_letter"
    world.crash()
    assert state(world, "t@1", "front", "summary") == "dead_letter"
    dead_letters.replay(world.engine.shard, Filter())
    assert state(world, "t@1", "front", "summary") == "pending"
    world.drain()
    assert state(world, "t@1", "front", "summary") == "" and shows(world, "front", "summary")


def test_n25_not_visible_behind_a_cancelled_root():
    world = layered()
    world.edit("t")
    control.cancel(world.engine.shard, "t@1", "")
    assert state(world, "t@1", "page/0000") == state(world, "t@1", "front", "summary") == "cancelled"
    world.edit("u")
    world.drain()
    assert state(world, "t@1", "front", "summary") == "cancelled"
    world.edit("t")
    world.drain()
    assert state(world, "t@1", "front", "summary") == ""


def test_n25_cancelled_half_way_the_first_level_is_visible_and_the_second_is_not():
    world = layered()
    world.edit("t")
    world.work(view="html")
    control.cancel(world.engine.shard, "t@1", "")
    assert state(world, "t@1", "page/0000") == ""
    assert state(world, "t@1", "front", "summary") == "cancelled"


def test_n25_a_change_older_than_what_is_known_is_visible_with_the_newer_one():
    world = World()
    world.pages(1, "t")
    world.edit("t", version=9, change_id="newer")
    world.edit("t", version=5, change_id="older")
    assert not world.record("older").begun
    assert state(world, "older", "page/0000") == "pending"
    world.crash()
    assert state(world, "older", "page/0000") == "pending"
    world.drain()
    assert state(world, "older", "page/0000") == ""


def test_n25_a_change_that_is_new_for_one_aspect_only_waits_for_both():
    world = World()
    world.declare("html", ["page/a"], [[("t", "title")]])
    world.declare("html", ["page/b"], [[("t", "content")]])
    world.edit("t", "title", version=9, change_id="title")
    world.edit("t", "title", "content", version=5, change_id="both")
    assert len(world.record("both").inputs) == 1
    assert state(world, "both", "page/a") == state(world, "both", "page/b") == "pending"
    world.drain()
    assert state(world, "both", "page/a") == state(world, "both", "page/b") == ""


def test_n25_a_folded_root_is_visible_with_its_successor():
    world = World(settings=Settings(max_superseded=1))
    world.pages(2, "t")
    for _ in range(4):
        world.edit("t")
    assert world.record("t@1").state.finished and world.record("t@1").left == 2
    assert state(world, "t@1", "page/0000") == "pending"
    world.drain()
    assert state(world, "t@1", "page/0000") == ""


def test_held_back_is_said():
    world = World()
    (page,) = world.pages(1, "t")
    world.edit("t")
    (grant,) = world.lease()
    lease = grant.lease
    none = np.empty(0, "V16")
    complete(
        world.engine.shard, Completion(lease.id, lease.fencing, NONE, none, None, (), lease.ids, NONE, 0.0, lease.id)
    )
    assert state(world, "t@1", page) == "held_back"
    world.clock.advance(2)
    world.engine.tick()
    world.drain()
    assert state(world, "t@1", page) == ""


def test_a_rerender_can_be_waited_for():
    world = World()
    world.pages(3, "t")
    world.edit("t")
    world.drain()
    rerender(world.engine.shard, Rerender("again", "html", [b"page/0001"]))
    assert [state(world, "again", page) for page in ("page/0000", "page/0001")] == ["", "pending"]
    world.drain()
    assert state(world, "again", "page/0001") == ""


def test_tokens_of_no_change_are_refused():
    world = World([HTML])
    world.pages(1, "t")
    accepted = world.edit("t")
    assert state(world, visibility.token(accepted.sequence), "page/0000") == "pending"
    for sequence in (accepted.sequence + 1_000_000, accepted.sequence + 1):
        with pytest.raises(ChangeIdInvalid):
            state(world, visibility.token(sequence), "page/0000")
