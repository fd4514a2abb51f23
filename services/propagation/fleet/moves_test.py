"""Shards that move while they work: nothing is lost, leases of a former owner are dead, callers wait or are told."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from services.propagation.executor.adapters import GrpcWork
from services.propagation.executor.engines import EveryEngine
from services.propagation.fleet.shards import SHARD_HEADER
from services.propagation.fleet.testing.executor import VIEWS, Executor, declaration
from services.propagation.fleet.testing.serving import Fleet, serving
from services.propagation.simulation.site import Site
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels

PAGES = 200
T = "w/source/t"
SHARDS = 4


@asynccontextmanager
async def site_of(engines=2, views=VIEWS):
    """(fleet, its engines, an executor's site with pages that read T)."""
    fleet, site = Fleet(SHARDS), Site()
    async with AsyncExitStack() as stack:
        served = [
            await stack.enter_async_context(serving(fleet, range(nth, SHARDS, engines))) for nth in range(engines)
        ]
        stubs = served[0].stubs
        await stubs.admin.PutViews(admin_pb2.PutViewsRequest(yaml=views))
        sets = {f"w/page/{at}": [T] for at in range(PAGES)}
        site.reads |= {("html", page): [(T, "content")] for page in sets}
        await stubs.propagation.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[declaration("html", sets)]))
        yield fleet, served, Executor(site)


async def edited(stubs, site, timeout=60):
    version = site.edit(T)
    change = pb.Change(id=f"edit{version}", resource=T, version=version.to_bytes(16, "big"))
    response = await stubs.propagation.PublishChanges(pb.PublishChangesRequest(changes=[change]), timeout=timeout)
    assert not response.results[0].status.code
    return change.id


async def root_of(stubs, change_id):
    return await stubs.propagation.GetChange(pb.GetChangeRequest(id=change_id))


async def finished(executor, engines, change_id):
    while (root := await root_of(engines[0].stubs, change_id)).state == pb.Root.STATE_ACTIVE:
        if not await executor.round([one.stubs for one in engines], 50):
            await asyncio.sleep(0.01)
    return root


def reason_of(error):
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return info.reason
    return ""


def test_a_dead_engines_shards_are_led_by_the_other_and_only_its_leases_are_dead():
    async def main():
        async with site_of() as (_, (one, other), executor):
            change_id = await edited(one.stubs, executor.site)
            await executor.round([one.stubs, other.stubs], 20)
            held = [
                (stubs, executor.render(batch))
                for stubs in (one.stubs, other.stubs)
                for batch in await executor.lease(stubs, 10)
            ]
            before = (await root_of(other.stubs, change_id)).progress.done
            dead = set(one.shards.own)
            await one.die()
            orphan = next(completion for _, completion in held if completion.lease_id >> 48 in dead)
            told = await other.stubs.work.Complete(work_pb2.CompleteRequest(completions=[orphan]), timeout=60)
            assert told.results[0].status.code == grpc.StatusCode.UNAVAILABLE.value[0], "it is not waited for"
            for number in dead:
                await other.lead(number)
            for _, completion in held:
                taken = await executor.complete(other.stubs, completion)
                assert (taken > 0) == (completion.lease_id >> 48 not in dead)
            assert executor.refused == len([one for _, one in held if one.lease_id >> 48 in dead]) > 0
            assert (await root_of(other.stubs, change_id)).progress.done >= before, "what is done never falls"
            root = await finished(executor, [other], change_id)
            assert root.progress.done == PAGES
            for place in executor.site.reads:
                assert executor.site.stored[place][1] == executor.site.render(place)

    asyncio.run(main())


def test_calls_wait_for_a_shard_that_moves_and_are_told_when_it_does_not_come():
    async def main():
        async with site_of() as (_, (one, other), executor):
            await edited(one.stubs, executor.site)
            await one.lose(0)
            asked = pb.CountDependentsRequest(resource=T)
            for stubs in (one.stubs, other.stubs):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stubs.propagation.CountDependents(asked, timeout=1)
                assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

            async def counted_by(stubs):
                return await stubs.propagation.CountDependents(asked, timeout=60)

            waiting = [
                asyncio.create_task(edited(other.stubs, executor.site)),
                asyncio.create_task(counted_by(one.stubs)),
            ]
            await asyncio.sleep(0)
            await other.lead(0)
            change_id, counted = await asyncio.gather(*waiting)
            assert counted.total == PAGES
            root = await finished(executor, [one, other], change_id)
            assert root.progress.done == PAGES

    asyncio.run(main())


def test_an_owner_that_was_fenced_and_has_not_heard_of_it_acknowledges_nothing():
    async def main():
        async with site_of() as (_, (one, other), executor):
            # Brokers gave shard 0 to the other one; the first still believes that it leads it.
            await other.lead(0)
            publishing = asyncio.create_task(edited(one.stubs, executor.site))
            while True:
                await asyncio.sleep(0.01)
                if 0 in asked_of(one):
                    break
            assert not publishing.done()
            await one.lose(0)
            change_id = await publishing
            assert (await root_of(other.stubs, change_id)).progress.total == PAGES
            root = await finished(executor, [one, other], change_id)
            assert root.progress.done == PAGES

    def asked_of(engine):
        """Its shards that found out, by being asked, that they are another engine's."""
        return {number for number, shard in engine.shards.own.items() if shard.engine.shard.halted is not None}

    asyncio.run(main())


def test_an_executor_over_all_engines_goes_on_where_shards_are():
    async def main():
        async with site_of() as (_, (one, other), executor), AsyncExitStack() as stack:
            works = []
            for engine in (one, other):
                channels = Channels(engine.address, tls=None)
                stack.push_async_callback(channels.close)
                works.append(GrpcWork(Caller(channels, 30.0, dict)))
            every = EveryEngine(works)
            stack.push_async_callback(every.close)
            change_id = await edited(one.stubs, executor.site)
            await one.lose(0)
            await other.lead(0)
            request = work_pb2.LeaseRequest(
                executor="x", capacity=[work_pb2.LeaseRequest.Capacity(view="html", items=30)]
            )
            request.wait.FromSeconds(1)
            while (await root_of(other.stubs, change_id)).state == pb.Root.STATE_ACTIVE:
                for batch in (await every.lease(request)).batches:
                    told = work_pb2.CompleteRequest(completions=[executor.render(batch)])
                    assert not (await every.complete(told)).results[0].status.code
            assert {len(executor.site.stored)} == {PAGES}

    asyncio.run(main())


def test_views_reach_a_shard_that_was_away_when_they_were_put():
    async def main():
        async with site_of() as (_, (one, other), _executor):
            await other.lose(1)
            asked = admin_pb2.PutViewsRequest(yaml=VIEWS.replace("[w/page/]", "[w/page/, w/more/]"))
            assert not (await one.stubs.admin.ValidateViews(admin_pb2.ValidateViewsRequest(yaml=asked.yaml))).mistakes
            with pytest.raises(grpc.aio.AioRpcError):
                await one.stubs.admin.PutViews(asked, timeout=1)
            await other.lead(1)
            wanted = (await one.stubs.admin.ListViews(admin_pb2.ListViewsRequest())).revision
            assert wanted == 2
            async with asyncio.timeout(60):
                while True:
                    found = [await views_of(one if number in one.shards.own else other, number) for number in range(4)]
                    if set(found) == {wanted}:
                        break
                    await asyncio.sleep(0.05)

    async def views_of(engine, number):
        header = [(SHARD_HEADER, str(number))]
        return (await engine.stubs.admin.ListViews(admin_pb2.ListViewsRequest(), metadata=header)).revision

    asyncio.run(main())


def test_a_call_for_a_shard_goes_to_it_alone_or_is_refused():
    async def main():
        async with site_of() as (_, (one, other), _executor):
            asked = pb.CountDependentsRequest(resource=T)
            alone = [
                (await engine.stubs.propagation.CountDependents(asked, metadata=[(SHARD_HEADER, str(number))])).total
                for number, engine in enumerate((one, other, one, other))
            ]
            assert sum(alone) == PAGES and min(alone) > 0
            for number, code in (
                ("1", grpc.StatusCode.ABORTED),
                ("4", grpc.StatusCode.ABORTED),
                ("x", grpc.StatusCode.INVALID_ARGUMENT),
                ("-1", grpc.StatusCode.INVALID_ARGUMENT),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await one.stubs.propagation.CountDependents(asked, metadata=[(SHARD_HEADER, number)])
                assert caught.value.code() is code

    asyncio.run(main())


def test_each_mistake_is_told_where_it_stands_in_the_callers_own_request():
    async def main():
        async with site_of() as (_, (_one, other), _executor):
            mistakes = [
                pb.Declaration(
                    view="html", dependent=f"w/page/{at}", dependencies=[pb.Dependency(resource=T, aspect="?")]
                )
                for at in range(8)
            ]
            answer = await other.stubs.propagation.DeclareDependencies(
                pb.DeclareDependenciesRequest(declarations=mistakes)
            )
            for at, status in enumerate(answer.results):
                assert status.message.startswith(f"declarations[{at}]"), status
                wrong = error_details_pb2.BadRequest()
                assert any(detail.Unpack(wrong) for detail in status.details)
                assert wrong.field_violations[0].field.startswith(f"declarations[{at}]")

    asyncio.run(main())


def test_an_edge_waits_for_the_shard_whose_output_it_is_on():
    async def main():
        async with site_of() as (_, (one, other), executor):
            of = one.shards.of
            page, far = (next(name for at in range(PAGES) if of(name := f"w/page/{at}") == shard) for shard in (1, 0))
            edge = pb.Declaration(
                view="summary", dependent=page, dependencies=[pb.Dependency(resource=f"view/html/{far}")]
            )
            asked = pb.DeclareDependenciesRequest(declarations=[edge])
            await one.lose(0)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await other.stubs.propagation.DeclareDependencies(asked, timeout=1)
            assert reason_of(caught.value) in ("SHARD_AWAY", "")
            counted = pb.CountDependentsRequest(resource=f"view/html/{far}")
            await other.lead(0)
            assert (await one.stubs.propagation.CountDependents(counted)).total == 0
            assert (await one.stubs.propagation.DeclareDependencies(asked)).edges_added == 1
            # Who wants it is known to whoever leads the shard next, too.
            await other.lose(0)
            await one.lead(0)
            assert (await one.stubs.propagation.CountDependents(counted)).total == 1
            change_id = await edited(one.stubs, executor.site)
            executor.site.reads["summary", page] = [(f"view/html/{far}", "content")]
            root = await finished(executor, [one, other], change_id)
            assert (root.state, root.progress.done) == (pb.Root.STATE_DONE, PAGES + 1)
            assert executor.site.stored["summary", page][1] == executor.site.render(("summary", page))

    asyncio.run(main())


def test_changes_and_outputs_are_streamed_over_moves():
    async def main():
        async with site_of() as (_, (one, other), executor):
            changes, outputs = [], set()
            token = ""

            async def watch(until):
                nonlocal token
                asked = pb.WatchChangesRequest(resume_token=token, from_beginning=not token, include_outputs=True)
                stream = other.stubs.propagation.WatchChanges(asked)
                async for answer in stream:
                    for event in answer.events:
                        if event.output_hash:
                            outputs.add((event.change.resource, event.change.id))
                        else:
                            changes.append(event.change.id)
                    token = answer.resume_token
                    if until():
                        break
                stream.cancel()

            first = await edited(one.stubs, executor.site)
            await finished(executor, [one, other], first)
            async with asyncio.timeout(60):
                await watch(lambda: len(outputs) == PAGES)
            assert changes == [first]
            watching = asyncio.create_task(watch(lambda: len(outputs) == 2 * PAGES and len(changes) == 2))
            await one.lose(0)
            await other.lead(0)
            second = await edited(one.stubs, executor.site)
            await finished(executor, [one, other], second)
            async with asyncio.timeout(60):
                await watching
            assert changes == [first, second]
            assert len({name for name, _ in outputs}) == PAGES
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in other.stubs.propagation.WatchChanges(pb.WatchChangesRequest(resume_token="wcs1-00")):
                    pass
            assert reason_of(caught.value) == "PAGE_TOKEN_INVALID"

    asyncio.run(main())


def test_pages_rendered_again_costs_and_controls_reach_all_shards():
    async def main():
        async with site_of() as (_, (one, other), executor):
            first = await edited(one.stubs, executor.site)
            await finished(executor, [one, other], first)
            names = [f"w/page/{at}" for at in range(30)] + ["w/nothing"]
            asked = admin_pb2.RerenderRequest(
                id="again", view="html", names="\0".join(names).encode(), publish_unchanged=True
            )
            begun = await other.stubs.admin.Rerender(asked)
            assert (begun.root, begun.pages, list(begun.unknown)) == ("again", 30, ["w/nothing"])
            assert (await one.stubs.admin.Rerender(asked)).pages == 30
            root = await finished(executor, [one, other], "again")
            assert (root.progress.total, root.progress.done) == (30, 30)
            every = await one.stubs.admin.Rerender(admin_pb2.RerenderRequest(id="whole", view="html"))
            assert every.pages == PAGES
            cancelled = await other.stubs.propagation.Cancel(pb.CancelRequest(id="whole"))
            assert (cancelled.state, cancelled.left) == (pb.Root.STATE_CANCELLED, PAGES)
            for call in (one.stubs.propagation.Cancel, other.stubs.propagation.Pause):
                for change_id, code in (("whole", "FAILED_PRECONDITION"), ("nobody", "NOT_FOUND")):
                    request = pb.CancelRequest if call is one.stubs.propagation.Cancel else pb.PauseRequest
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await call(request(id=change_id))
                    assert caught.value.code().name == code
            costs = await one.stubs.admin.ListCosts(admin_pb2.ListCostsRequest())
            assert [cost.rendered for cost in costs.causers] == [PAGES + 30]
            for token in ("9.x", "x", "0"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await one.stubs.propagation.ListChanges(pb.ListChangesRequest(page_token=token))
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(main())
