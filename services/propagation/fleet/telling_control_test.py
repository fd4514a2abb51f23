"""What operators do to a root of which another shard is told: it holds there too, whatever is lost on the way."""

import asyncio

import pytest

from services.propagation.domain import hearing
from services.propagation.fleet.errors import ShardAway
from services.propagation.fleet.testing.pair import T, at, domain, nothing_untold, pair, state, until
from wellspring.propagation.v1 import propagation_pb2 as pb


def test_a_paused_root_stays_so_where_it_goes_on_and_a_cancelled_one_does_not_go_on():
    async def main():
        async with pair() as (site, x, y):
            for change_id, control in (("edit1", "Pause"), ("edit2", "Cancel")):
                await site.edit(T)
                (batch,) = await site.executor.lease(site.every[0])
                assert await state(site, change_id, 1) == pb.Root.STATE_DONE, "nothing there reads the source itself"
                request = {"Pause": pb.PauseRequest, "Cancel": pb.CancelRequest}[control](id=change_id, reason="no")
                root = await getattr(site.every[1].propagation, control)(request)
                paused = control == "Pause"
                assert root.state == (pb.Root.STATE_PAUSED if paused else pb.Root.STATE_CANCELLED)
                # What was lent is accepted, and what follows from it is in the other shard.
                assert await site.executor.complete(site.every[0], site.executor.render(batch)) == 1
                await until(lambda: nothing_untold(site))
                assert await site.executor.lease(site.every[1]) == []
                root = await site.root(change_id)
                assert root.state == (pb.Root.STATE_PAUSED if paused else pb.Root.STATE_CANCELLED)
                if paused:
                    assert await state(site, change_id, 1) == pb.Root.STATE_PAUSED
                    await site.every[0].propagation.Resume(pb.ResumeRequest(id=change_id))
                    await site.drained()
                    site.check()

    asyncio.run(main())


def test_a_root_that_is_cancelled_while_another_shard_is_told_of_it_does_not_go_on_there():
    async def main():
        async with pair() as (site, x, y):
            await site.edit(T)
            (batch,) = await site.executor.lease(site.every[0])
            site.fleet.logs[1].automatic = False
            assert await site.executor.complete(site.every[0], site.executor.render(batch)) == 1
            await until(lambda: heard(site))
            await site.every[0].propagation.Cancel(pb.CancelRequest(id="edit1", reason="no"), metadata=at(0))
            assert domain(site, 1).roots, "it was told of the root before"
            site.fleet.logs[1].automatic = True
            site.fleet.logs[1].owner.sync()
            await until(lambda: nothing_untold(site))
            assert await state(site, "edit1", 1) == pb.Root.STATE_CANCELLED
            assert (await site.root("edit1")).state == pb.Root.STATE_CANCELLED

    async def heard(site):
        return hearing.heard_up_to(domain(site, 1), 0)

    asyncio.run(main())


@pytest.mark.parametrize("lost", ["the owner", "the answer", "the next call"])
@pytest.mark.parametrize("control", ["Pause", "Resume", "Cancel"])
def test_what_an_operator_did_reaches_a_shard_that_was_told_before_though_who_told_it_is_gone(control, lost):
    async def main():
        async with pair() as (site, x, y):
            one, other = site.engines
            await site.edit(T)
            (batch,) = await site.executor.lease(one.stubs)
            if control == "Resume":
                await one.stubs.propagation.Pause(pb.PauseRequest(id="edit1"), metadata=at(0))
            told, go_on = hold(one.shards, lost)
            assert await site.executor.complete(one.stubs, site.executor.render(batch)) == 1
            await told.wait()
            before = pb.Root.STATE_PAUSED if control == "Resume" else pb.Root.STATE_ACTIVE
            assert await state(site, "edit1", 1) == before, "it was told of the root as it was"
            request = {"Pause": pb.PauseRequest, "Resume": pb.ResumeRequest, "Cancel": pb.CancelRequest}[control]
            await getattr(one.stubs.propagation, control)(request(id="edit1"), metadata=at(0))
            if lost == "the owner":
                await other.lead(0)
                await one.lose(0)
            go_on.set()
            await until(lambda: nothing_untold(site))
            after = {"Pause": pb.Root.STATE_PAUSED, "Resume": pb.Root.STATE_ACTIVE, "Cancel": pb.Root.STATE_CANCELLED}
            assert await state(site, "edit1", 1) == after[control]
            assert (await site.root("edit1")).state == after[control]

    asyncio.run(main())


def hold(shards, lost):
    """(what is set when another shard has taken what was told, what lets it be answered); then `lost` is lost once."""
    told, go_on, ask = asyncio.Event(), asyncio.Event(), shards.ask
    left = {"the owner": [], "the answer": ["TellOutputs"], "the next call": ["Pause", "Resume", "Cancel"]}[lost]

    async def held(shard, service, method, *rest, **how):
        if method == "TellOutputs":
            answer = await ask(shard, service, method, *rest, **how)
            told.set()
            await go_on.wait()
        if method in left:
            left.clear()
            raise ShardAway("the connection broke")
        return answer if method == "TellOutputs" else await ask(shard, service, method, *rest, **how)

    shards.ask = held
    return told, go_on
