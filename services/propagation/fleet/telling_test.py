"""What one shard tells another of outputs: durable first, taken once, and under roots that do not end before."""

import asyncio

import grpc
import pytest

from services.propagation.domain import hearing
from services.propagation.fleet.testing.pair import T, at, domain, nothing_untold, pair, state, until
from services.propagation.fleet.testing.wiki import FINISHED
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import shards_pb2


def test_a_root_does_not_end_before_another_shard_has_what_follows():
    async def main():
        async with pair() as (site, x, y):
            await site.engines[1].lose(1)
            version = site.site.edit(T)
            change = pb.Change(id="edit", resource=T, version=version.to_bytes(16, "big"))
            request = pb.PublishChangesRequest(changes=[change])
            await site.engines[0].stubs.propagation.PublishChanges(request, metadata=at(0))
            while "html" not in {view for view, _ in site.site.stored}:
                await site.executor.round(site.every[:1])
            await asyncio.sleep(0.05)
            assert await state(site, "edit", 0) == pb.Root.STATE_ACTIVE
            await site.engines[0].lead(1)
            # Nobody published it to shard 1: what is told brings it there.
            await until(lambda: ended(site, "edit", 0))
            assert await state(site, "edit", 1) == pb.Root.STATE_ACTIVE
            answer = await site.engines[0].stubs.propagation.PublishChanges(request)
            assert answer.results[0].repeated_id and not answer.results[0].status.code
            await site.drained()
            assert ("summary", y) in site.site.stored
            site.check()

    async def ended(site, change_id, shard):
        return await state(site, change_id, shard) in FINISHED

    asyncio.run(main())


def test_what_is_not_durable_is_told_to_nobody():
    async def main():
        async with pair() as (site, x, y):
            site.fleet.logs[0].automatic = False
            editing = asyncio.create_task(site.edit(T))
            while not editing.done():
                await asyncio.sleep(0.005)
                site.fleet.logs[0].owner.sync()
            (batch,) = await site.executor.lease(site.every[0])
            telling = asyncio.create_task(site.executor.complete(site.every[0], site.executor.render(batch)))
            await until(lambda: waits(site))
            await asyncio.sleep(0.1)
            assert hearing.heard_up_to(domain(site, 1), 0) == 0
            # Its owner dies with it: the page is rendered again, and then it is told.
            site.fleet.logs[0].automatic = True
            await site.engines[1].lead(0)
            await site.engines[0].lose(0)
            await asyncio.gather(telling, return_exceptions=True)
            assert not domain(site, 0).interest.waiting.get(1)
            await site.drained()
            assert hearing.heard_up_to(domain(site, 1), 0) > 0 and ("summary", y) in site.site.stored
            site.check()

    async def waits(site):
        return domain(site, 0).interest.waiting.get(1)

    asyncio.run(main())


def test_an_edge_that_comes_after_the_change_makes_its_page_pending():
    async def main():
        async with pair(declared=False) as (site, x, y):
            await site.edit(x)
            await site.edit(y)
            late = [site.executor.render(batch) for batch in await site.executor.lease(site.every[1])]
            # The page is accepted while nobody knows that y was rendered from what was there before.
            for batch in await site.executor.lease(site.every[0]):
                assert await site.executor.complete(site.every[0], site.executor.render(batch)) == 1
            for completion in late:
                assert await site.executor.complete(site.every[1], completion) == 1
            roots = await site.roots()
            assert [root.state for root in roots if root.change.resource == y] == [pb.Root.STATE_ACTIVE]
            await site.drained()
            site.check()

    asyncio.run(main())


def told(number, version, output, root, *, accepted=True):
    change = pb.Change(id=root, resource=T, aspects=["content"], version=(1).to_bytes(16, "big"))
    return shards_pb2.TellOutputsRequest(
        shard=0,
        roots=[shards_pb2.TellOutputsRequest.ToldRoot(change=change, accepted=accepted, lane="default", weight=1)],
        told=[
            shards_pb2.TellOutputsRequest.Told(
                number=number,
                version=version.to_bytes(16, "big"),
                outputs=[output],
                parts=[shards_pb2.TellOutputsRequest.Part(root=0, level=2, outputs=[0])],
            )
        ],
    )


def test_what_is_told_twice_is_taken_once():
    async def main():
        async with pair() as (site, x, y):
            (engine,) = [engine for engine in site.engines if 1 in engine.shards.own]
            for _ in range(2):
                await engine.stubs.across.TellOutputs(told(7, 5, f"view/html/{x}", "edit"), metadata=at(1))
            await engine.stubs.across.TellOutputs(told(6, 4, f"view/html/{x}", "edit"), metadata=at(1))
            root = await site.root("edit")
            assert (root.progress.total, root.progress.done) == (1, 0)
            await site.drained()
            await engine.stubs.across.TellOutputs(told(7, 5, f"view/html/{x}", "edit"), metadata=at(1))
            root = await site.root("edit")
            assert (root.state, root.progress.total) == (pb.Root.STATE_DONE, 1)
            assert [batch for stubs in site.every for batch in await site.executor.lease(stubs)] == []

    asyncio.run(main())


def test_what_is_untold_is_told_by_the_next_owner_and_not_for_a_root_that_was_cancelled_meanwhile():
    async def main():
        async with pair() as (site, x, y):
            for change_id in ("edit1", "edit2"):
                await site.edit(T)
                (led,) = [engine for engine in site.engines if 0 in engine.shards.own]
                (other,) = [engine for engine in site.engines if engine is not led]
                (batch,) = await site.executor.lease(led.stubs)
                for engine in site.engines:
                    if 1 in engine.shards.own:
                        await engine.lose(1)
                assert await site.executor.complete(led.stubs, site.executor.render(batch)) == 1
                assert await state(site, change_id, 0) == pb.Root.STATE_ACTIVE
                await other.lead(0)
                await led.lose(0)
                assert await state(site, change_id, 0) == pb.Root.STATE_ACTIVE, "the next owner knows what is untold"
                if change_id == "edit2":
                    await other.stubs.propagation.Cancel(pb.CancelRequest(id=change_id), metadata=at(0))
                await led.lead(1)
                await until(lambda: nothing_untold(site))
                told_of = pb.Root.STATE_ACTIVE if change_id == "edit1" else pb.Root.STATE_DONE
                assert await state(site, change_id, 1) == told_of
                await site.drained()
                if change_id == "edit1":
                    site.check()

    asyncio.run(main())


def test_a_cycle_through_two_shards_is_stopped():
    async def main():
        async with pair() as (site, x, y):
            site.site.reads["html", x] = [(f"view/summary/{y}", "content"), (T, "content")]
            await site.edit(T)
            roots = await site.drained()
            assert [root.state for root in roots] == [pb.Root.STATE_DONE_WITH_FAILURES]
            letters = await site.every[0].admin.QueryDeadLetters(admin_pb2.QueryDeadLettersRequest())
            assert {letter.reason for letter in letters.dead_letters} <= {"OSCILLATION"}
            assert len(site.executor.site.stored[("html", x)][1]) > 0

    asyncio.run(main())


def test_what_is_rendered_by_hand_goes_on_under_the_same_id():
    async def main():
        async with pair() as (site, x, y):
            await site.edit(T)
            await site.drained()
            asked = admin_pb2.RerenderRequest(id="again", view="html", names=x.encode(), publish_unchanged=True)
            await site.every[1].admin.Rerender(asked)
            await site.drained()
            root = await site.root("again")
            assert (root.state, root.progress.done) == (pb.Root.STATE_DONE, 2)
            assert await state(site, "again", 1) == pb.Root.STATE_DONE

    asyncio.run(main())


def test_what_is_asked_for_by_hand_after_it_was_told_of_is_one_root_with_it():
    async def main():
        async with pair() as (site, x, y):
            (engine,) = [engine for engine in site.engines if 1 in engine.shards.own]
            for again in range(2):
                first = told(7 + again, 5, f"view/html/{x}", f"again{again}", accepted=False)
                await engine.stubs.across.TellOutputs(first, metadata=at(1))
                if again:
                    await site.drained()
                asked = admin_pb2.RerenderRequest(id=f"again{again}", view="html", names=y.encode())
                for _ in range(2):
                    begun = await site.every[0].admin.Rerender(asked)
                    assert (begun.root, begun.pages) == (f"again{again}", 1)
                await site.drained()
                root = await site.root(f"again{again}")
                assert (root.state, root.progress.done) == (pb.Root.STATE_DONE, 2)
                assert dict(root.change.attributes)["pages"] == "1"

    asyncio.run(main())


def test_an_explanation_names_the_whole_way():
    async def main():
        async with pair() as (site, x, y):
            await site.edit(T)
            await site.drained()
            answer = await site.every[1].propagation.Explain(pb.ExplainRequest(resource=y, view="summary"))
            assert [(step.root.id, list(step.path)) for step in answer.steps] == [("edit1", [T, f"view/html/{x}", y])]

    asyncio.run(main())


def test_a_page_is_visible_though_a_shard_that_reads_it_is_away():
    async def main():
        async with pair(declared=False) as (site, x, y):
            site.site.reads.clear()
            site.site.reads["html", y] = [(T, "content")]
            site.site.reads["summary", x] = [(f"view/html/{y}", "content")]
            await site.declare()
            accepted = await site.edit(T)
            one, other = site.engines
            (batch,) = await site.executor.lease(other.stubs)
            await one.lose(0)
            assert await site.executor.complete(other.stubs, site.executor.render(batch)) == 1

            def asked(view, page):
                request = pb.AwaitVisibleRequest(visibility_token=accepted.visibility_token, resource=page, view=view)
                return other.stubs.propagation.AwaitVisible(request, timeout=2)

            assert (await asked("html", y)).visible
            await one.lead(0)
            await until(lambda: told_of(site))
            answer = await asked("summary", x)
            assert (answer.visible, answer.state) == (False, "pending")
            await site.drained()
            assert (await asked("summary", x)).visible

    async def told_of(site):
        return not domain(site, 1).interest.waiting.get(0)

    asyncio.run(main())


def test_what_is_not_of_the_shard_is_refused():
    async def main():
        async with pair() as (site, x, y):
            interest = shards_pb2.RegisterInterestRequest
            check = shards_pb2.CheckOutputsRequest
            (engine,) = [engine for engine in site.engines if 1 in engine.shards.own]
            across = engine.stubs.across
            for method, request, metadata in (
                (across.RegisterInterest, interest(shard=0, outputs=[f"view/html/{y}"]), None),
                (across.RegisterInterest, interest(shard=0, outputs=[f"view/html/{x}"]), at(1)),
                (across.RegisterInterest, interest(shard=0, outputs=[y]), at(1)),
                (across.RegisterInterest, interest(shard=1, outputs=[f"view/html/{y}"]), at(1)),
                (across.RegisterInterest, interest(shard=2, outputs=[f"view/html/{y}"]), at(1)),
                (across.TellOutputs, shards_pb2.TellOutputsRequest(shard=1), at(1)),
                (across.TellOutputs, told(1, 1, "", "edit"), at(1)),
                (across.CheckOutputs, check(visibility_token="\n"), at(1)),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await method(request, metadata=metadata)
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, request

    asyncio.run(main())
