"""Streams of changes and outputs: in order, each at least once, resumable over crashes, refused when too old."""

import asyncio
from dataclasses import dataclass

import pytest

from libs.errors.errors import InvalidArgument, OutOfRange
from services.propagation import watching
from services.propagation.domain.rerender import Rerender, rerender
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import HTML, World
from wellspring.propagation.v1 import propagation_pb2 as pb

SUMMARY = View("summary", (), RetryPolicy(3, 1.0, 60.0), lease_s=30.0)


@dataclass
class Told:
    events: list[pb.WatchChangesResponse.Event]
    token: str


def take(world: World, token: str = "", *, beginning: bool = False, outputs: bool = True, most: int = 10**9) -> Told:
    """All that the stream tells until it falls silent, at most so many events."""

    async def main() -> Told:
        told = Told([], token)
        request = pb.WatchChangesRequest(resume_token=token, from_beginning=beginning, include_outputs=outputs)
        stream = watching.every(world.engine, request)
        try:
            while len(told.events) < most:
                async with asyncio.timeout(1):
                    answer = await anext(stream)
                told.events += answer.events
                told.token = answer.resume_token
        except TimeoutError:
            pass
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
        return told

    return asyncio.run(main())


def names(told: Told) -> list[str]:
    return [event.change.resource for event in told.events]


def test_changes_and_outputs_come_in_order_with_hash_version_and_root():
    world = World([HTML, SUMMARY])
    pages = world.pages(3, "t")
    world.site.reads["summary", "front"] = [(f"view/html/{page}", "content") for page in pages]
    world.declare("summary", ["front"], [world.site.reads["summary", "front"]])
    world.edit("t", change_id="the-edit")
    world.drain()
    told = take(world, beginning=True)
    assert names(told) == ["t", *(f"view/html/{page}" for page in pages), "view/summary/front"]
    sequences = [event.sequence for event in told.events]
    assert sequences == sorted(sequences)
    output = told.events[1]
    assert not told.events[0].output_hash
    assert output.output_hash == world.engine.shard.store.hashes(0, world_numbers(world, pages[:1]))[0].tobytes()
    assert output.change.version == world.site.stored["html", pages[0]][0]
    assert (output.change.cause.kind, list(output.change.cause.chain)) == ("render", ["the-edit"])
    assert len({event.change.id for event in told.events}) == 5


def world_numbers(world: World, pages: list[str]):
    return world.engine.shard.store.find_resources([page.encode() for page in pages]).astype("uint32")


def test_unchanged_renders_are_not_told():
    world = World()
    world.pages(4, "t")
    world.edit("t")
    world.drain()
    token = take(world, beginning=True).token
    world.edit("t", visible=False)
    world.drain()
    assert names(take(world, token)) == ["t"]


def test_without_outputs_there_are_none_and_roots_of_operators_are_no_changes():
    world = World()
    world.pages(4, "t")
    world.edit("t")
    world.drain()
    rerender(world.engine.shard, Rerender("again", "html", [], publish_unchanged=True))
    world.drain()
    assert names(take(world, beginning=True, outputs=False)) == ["t"]
    assert sorted(names(take(world, beginning=True))) == ["t", *(f"view/html/page/{at:04}" for at in range(4))]


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_resumed_again_and_again_every_output_is_told(monkeypatch, at_once):
    monkeypatch.setattr(watching, "_OUTPUTS", at_once)
    monkeypatch.setattr(watching, "_CHUNK", 2)
    world = World()
    world.pages(60, "t")
    told: list[str] = []
    world.edit("first")
    token = take(world, beginning=True).token
    world.edit("t")
    while world.work(13):
        more = take(world, token, most=at_once)
        told += names(more)
        token = more.token
        world.edit("elsewhere")
        world.crash()
    told += names(take(world, token))
    assert sorted(set(told)) == sorted({"t", "elsewhere", *(f"view/html/page/{at:04}" for at in range(60))})
    assert len(told) == 1 + 5 + 60  # in this run nothing changed twice, so nothing is told twice


def test_an_output_that_changed_again_is_told_by_its_newest_change():
    world = World()
    world.pages(5, "t")
    world.edit("t")
    world.drain()
    world.edit("t")
    world.work(2)
    told = [event for event in take(world, beginning=True).events if event.output_hash]
    assert len(told) == 5
    assert [event.change.cause.chain[0] for event in told] == ["t@1"] * 3 + ["t@2"] * 2


def test_what_was_not_durable_is_not_there_after_a_crash():
    world = World()
    world.pages(3, "t")
    world.edit("t")
    world.work(3)
    before = names(take(world, beginning=True))
    world.crash()
    world.drain()
    after = names(take(world, beginning=True))
    assert set(before) <= set(after) and len(after) == 4


def test_tokens_that_are_too_old_or_none():
    world = World(settings=Settings(remember_s=100))
    world.pages(3, "t")
    world.edit("first")
    old = take(world, beginning=True).token
    world.edit("t")
    world.drain()
    fresh = take(world, old).token
    world.clock.advance(200)
    for _ in range(4):
        world.clock.advance(6)
        world.engine.tick()
    with pytest.raises(OutOfRange) as caught:
        take(world, old)
    assert caught.value.reason == "RESUME_TOKEN_EXPIRED"
    assert take(world, fresh).events == []
    for wrong in ("x", "wc2-", "wc2-" + "g" * 24, "wc2-" + "0" * 23):
        with pytest.raises(InvalidArgument):
            take(world, wrong)


def test_the_log_of_renders_is_bounded():
    world = World(settings=Settings(history_bytes=4096))
    world.pages(400, "t")
    world.edit("t")
    while world.work(2):
        pass
    for _ in range(4):
        world.clock.advance(6)
        world.engine.tick()
    shard = world.engine.shard
    kept = list(shard.store.records("render"))
    assert 10 < len(kept) < 150 and sum(len(value) for _, value in kept) <= 4096
    assert shard.history.forgotten_up_to > 0
    assert len(take(world, beginning=True).events) < 200
