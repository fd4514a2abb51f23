"""Shards that become more while they work: it ends as on one shard, nothing is missed and nothing done twice.

Run one seed by: WIKI_SEED=<seed> pytest growing_test.py
"""

import asyncio
import os
from contextlib import asynccontextmanager
from random import Random

import grpc
import pytest

from services.propagation.domain.generation import Generation, Seal, put_seal
from services.propagation.fleet.calls import own_call
from services.propagation.fleet.errors import ShardAway
from services.propagation.fleet.shards import SHARD_HEADER
from services.propagation.fleet.testing.serving import Fleet, serving
from services.propagation.fleet.testing.stories import day
from services.propagation.fleet.testing.wiki import BOARDS, PAGES, SOURCES, wiki
from services.propagation.store.logged.memory_log import MemoryLog
from wellspring.propagation.v1 import propagation_pb2 as pb

SEEDS = [int(os.environ["WIKI_SEED"])] if "WIKI_SEED" in os.environ else range(2)


async def grow(site, shards, chance):
    """As engines do it: each shard is sealed when its owner hears of it, then all go on with the next generation."""
    fleet = site.fleet
    follows = Generation(len(fleet.generations) + 1, shards)
    for number in chance.sample(range(len(fleet.logs)), len(fleet.logs)):
        owner = next(engine for engine in site.engines if number in engine.shards.own)
        if len(site.engines) > 1 and chance.random() < 0.5:
            # Killed before its seal was in the log.
            heir = next(engine for engine in site.engines if engine is not owner)
            store = owner.shards.own[number].engine.shard.store
            commit = store.begin()
            put_seal(commit, Seal(follows, store.epoch))
            store.end(commit)
            await heir.lead(number)
            await owner.lose(number)
            owner = heir
        await owner.seal(number, follows)
        await asyncio.sleep(chance.choice((0, 0.01)))
    fleet.generations.append([MemoryLog(automatic=fleet.logs[0].automatic) for _ in range(shards)])
    for engine in site.engines:
        engine.turn()
    for number in chance.sample(range(shards), shards):
        await chance.choice(site.engines).lead(number)


def growing(seed, grown):
    """Beside the steps that are named the shards grow to so many."""
    accidents = Random(seed)

    @asynccontextmanager
    async def beside(site, step):
        task = asyncio.create_task(grow(site, grown[step], accidents)) if step in grown else None
        yield
        if task is not None:
            await task

    return beside


def play(seed, shards, engines, grown):
    """A day on so many shards and engines."""
    return asyncio.run(day(seed, shards, engines, growing(seed, grown), synced=not grown))


@pytest.mark.parametrize("seed", SEEDS)
def test_shards_that_grow_amid_edits_end_as_one_does(seed):
    print("seed", seed)
    alone = play(seed, 1, 1, {})
    assert set(alone.published.values()) == {pb.Root.STATE_DONE}
    for shards, engines, grown in ((1, 1, {2: 2, 6: 6}), (2, 2, {4: 4})):
        assert play(seed, shards, engines, grown) == alone, (shards, engines, grown)


def test_what_callers_have_of_before_holds():
    async def main():
        async with wiki(1, 2, 2) as site, asyncio.timeout(120):
            await site.declare()
            for page in PAGES + BOARDS:
                await site.edit(page)
            await site.drained()
            watching = pb.WatchChangesRequest(include_outputs=True)
            async for told in site.every[0].propagation.WatchChanges(watching, timeout=60):
                watching.resume_token = told.resume_token
                break
            asked = pb.ListChangesRequest(page_size=1)
            place = (await site.every[0].propagation.ListChanges(asked, timeout=60)).next_page_token
            stored = dict(site.site.stored)
            first = await site.edit(SOURCES[0])
            await site.executor.round(site.every, 2)
            before = await site.root(first.root)
            assert 0 < before.progress.done < before.progress.total
            await site.every[0].propagation.Pause(pb.PauseRequest(id=first.root, reason="wait"))
            await grow(site, 4, site.chance)
            now = await site.root(first.root)
            assert now.state == pb.Root.STATE_PAUSED
            assert (now.progress.done, now.progress.total) == (before.progress.done, before.progress.total)
            assert await site.executor.round(site.every, 20) == 0, "it is paused in all of them"
            page = next(page for page in PAGES if (SOURCES[0], "content") in site.site.reads["html", page])
            shown = pb.AwaitVisibleRequest(visibility_token=first.visibility_token, resource=page, view="html")
            await site.every[1].propagation.Resume(pb.ResumeRequest(id=first.root))
            await site.drained()
            site.check()
            assert (await site.every[0].propagation.AwaitVisible(shown, timeout=60)).visible
            wanted = {f"view/{at[0]}/{at[1]}" for at, held in site.site.stored.items() if held != stored[at]}
            changed = []
            async for told in site.every[1].propagation.WatchChanges(watching, timeout=60):
                changed += [event.change.resource for event in told.events if event.output_hash]
                if wanted <= set(changed):
                    break
            assert sorted(changed) == sorted(wanted), "each once"
            with pytest.raises(grpc.aio.AioRpcError, match="is not from an answer of this method"):
                await site.every[0].propagation.ListChanges(pb.ListChangesRequest(page_size=1, page_token=place))

    asyncio.run(main())


def test_who_has_not_heard_that_the_shards_are_more_is_told_to_come_again():
    async def main():
        async with serving(Fleet(2), [0, 1]) as engine, asyncio.timeout(60):
            asked = pb.CountDependentsRequest(resource="w/a")
            for told, code in (("1/2", None), ("1", None), ("1/4", grpc.StatusCode.ABORTED)):
                try:
                    await engine.stubs.propagation.CountDependents(asked, metadata=[(SHARD_HEADER, told)])
                    assert code is None, told
                except grpc.aio.AioRpcError as error:
                    assert error.code() is code, told
            before = engine.shards
            engine.turn()
            with pytest.raises(ShardAway, match="has grown"):
                await before.ask(0, "Propagation", "CountDependents", asked, own_call(30))

    asyncio.run(main())
