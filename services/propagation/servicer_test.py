"""The services over a real server: what callers see."""

import asyncio

import grpc
from google.protobuf.duration_pb2 import Duration

from services.propagation.simulation.calls import (
    TEMPLATE,
    change,
    complete,
    declare,
    done,
    lease,
    pages,
    publish,
    reason,
    reason_of,
    refused,
)
from services.propagation.simulation.serving import served
from services.propagation.store.memory_state import MemoryDisk
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed


def test_from_an_edit_to_the_end():
    async def main():
        async with served() as site:
            answer = await declare(site, 50)
            assert (answer.edges_added, answer.edges_removed) == (50, 0)
            counted = await site.propagation.CountDependents(pb.CountDependentsRequest(resource=TEMPLATE))
            assert (counted.total, counted.views[0].view) == (50, "html")
            estimated = await site.propagation.EstimateImpact(pb.EstimateImpactRequest(resource=TEMPLATE))
            assert estimated.views[0].dependents == 50
            (result,) = await publish(site, change(cause=pb.Cause(kind="edit", causer="me")))
            assert result.root == "c" and not result.status.code and not result.repeated_id
            (batch,) = await lease(site, 30)
            assert packed.decode_names(batch.names) == pages(30)
            (root,) = batch.roots
            assert root.root == "c" and root.cause.causer == "me"
            assert root.inputs[0].version == (1).to_bytes(16, "big")
            assert batch.accepted_hashes == bytes(16 * 30) and batch.views_revision == 1
            (accepted,) = await complete(site, done(batch, renderer_seconds=0.3))
            assert (accepted.accepted, accepted.unchanged, accepted.status.code) == (30, 0, 0)
            got = await site.propagation.GetChange(pb.GetChangeRequest(id="c"))
            assert (got.progress.done, got.progress.total, got.state) == (30, 50, pb.Root.STATE_ACTIVE)
            (rest,) = await lease(site)
            await complete(site, done(rest))
            visible = await site.propagation.AwaitVisible(
                pb.AwaitVisibleRequest(visibility_token=result.visibility_token, resource=pages(1)[0], view="html"),
                timeout=60,
            )
            assert visible.visible and visible.version == batch.rendered_version
            listed = await site.propagation.ListChanges(pb.ListChangesRequest(states=[pb.Root.STATE_DONE]))
            assert [one.change.id for one in listed.roots] == ["c"]
            explained = await site.propagation.Explain(pb.ExplainRequest(resource=pages(1)[0], view="html"))
            assert explained.steps[0].root.id == "c" and explained.output_hash
            status = await site.admin.GetStatus(admin_pb2.GetStatusRequest())
            assert (status.edges, status.pending, status.active_roots) == (50, 0, 0)

    asyncio.run(main())


def test_a_waiting_lease_is_woken_by_work():
    async def main():
        async with served() as site:
            await declare(site, 3)
            waiting = asyncio.create_task(lease(site, wait_s=20))
            await asyncio.sleep(0.1)
            await publish(site, change())
            (batch,) = await asyncio.wait_for(waiting, 60)
            assert len(packed.decode_ids(batch.ids)) == 3

    asyncio.run(main())


def test_dependencies_reported_by_completions_in_both_forms():
    async def main():
        async with served() as site:
            await declare(site, 2)
            await publish(site, change())
            (batch,) = await lease(site)
            first, second = packed.decode_ids(batch.ids).tolist()
            inputs = b"w/template/b\0w/template/c\texistence"
            sets = pb.PackedDeclarations(
                dependents=batch.ids,
                inputs=inputs,
                counts=packed.encode_counts([2, 1]),
                input_index=packed.encode_counts([0, 1, 1]),
            )
            (answer,) = await complete(site, done(batch, packed_dependencies=sets))
            assert answer.accepted == 2
            listed = await site.propagation.ListDependencies(
                pb.ListDependenciesRequest(dependent=pages(1)[0], view="html")
            )
            assert [(one.resource, one.aspect) for one in listed.dependencies] == [
                ("w/template/b", "content"),
                ("w/template/c", "existence"),
            ]
            await publish(site, change("b", "w/template/b"))
            (batch,) = await lease(site)
            assert packed.decode_ids(batch.ids).tolist() == [first]
            one = work_pb2.DependencySet(id=first, dependencies=[pb.Dependency(resource="w/template/d")])
            await complete(site, done(batch, dependencies=[one]))
            counted = await site.propagation.CountDependents(pb.CountDependentsRequest(resource="w/template/d"))
            assert counted.total == 1 and second

    asyncio.run(main())


def test_dependents_in_pages_resumed():
    async def main():
        async with served() as site:
            await declare(site, 95)
            seen, token = [], ""
            for _ in range(20):
                call = site.propagation.ListDependents(
                    pb.ListDependentsRequest(resource=TEMPLATE, page_size=10, resume_token=token)
                )
                page = await call.read()
                call.cancel()
                if page is grpc.aio.EOF:
                    break
                seen += packed.decode_names(page.names)
                token = page.resume_token
            assert seen == pages(95)
            error = await refused(
                site.propagation.ListDependents(pb.ListDependentsRequest(resource="w/other", resume_token=token)).read()
            )
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(main())


def test_watching_one_change_and_all_of_them():
    async def main():
        async with served() as site:
            await declare(site, 4)
            await publish(site, change("first"))
            stream = site.propagation.WatchChanges(pb.WatchChangesRequest(from_beginning=True))
            answer = await stream.read()
            assert [event.change.id for event in answer.events] == ["first"]
            await publish(site, change("second", version=2))
            answer = await stream.read()
            assert [event.change.id for event in answer.events] == ["second"]
            token = answer.resume_token
            stream.cancel()
            await publish(site, change("third", version=3))
            answer = await site.propagation.WatchChanges(pb.WatchChangesRequest(resume_token=token)).read()
            assert [event.change.id for event in answer.events] == ["third"]
            error = await refused(site.propagation.WatchChanges(pb.WatchChangesRequest(resume_token="nonsense")).read())
            assert reason_of(error) == "PAGE_TOKEN_INVALID"
            states = []
            watch = site.propagation.WatchChange(
                pb.WatchChangeRequest(id="third", interval=Duration(nanos=100_000_000))
            )
            async for response in watch:
                states.append(response.root.state)
                for batch in await lease(site):
                    await complete(site, done(batch))
            assert states[0] == pb.Root.STATE_ACTIVE and states[-1] == pb.Root.STATE_DONE

    asyncio.run(main())


def test_operators_hands_and_dead_letters():
    async def main():
        async with served() as site:
            await declare(site, 6)
            await publish(site, change())
            root = await site.propagation.Pause(pb.PauseRequest(id="c", reason="wait"))
            assert root.state == pb.Root.STATE_PAUSED and not await lease(site)
            await site.propagation.Resume(pb.ResumeRequest(id="c"))
            await site.propagation.Reprioritize(pb.ReprioritizeRequest(id="c", weight=5))
            (batch,) = await lease(site)
            ids = packed.decode_ids(batch.ids)
            report = work_pb2.Completion(
                lease_id=batch.lease_id,
                fencing=batch.fencing,
                done=packed.encode_ids(ids[2:]),
                hashes=bytes(range(16)) * 4,
                failures=[
                    work_pb2.Failure(id=ids[0], reason="RENDER_FAILED", detail="boom"),
                    work_pb2.Failure(id=ids[1], reason="TOO_BIG", detail="1 GiB"),
                ],
            )
            (answer,) = await complete(site, report)
            assert answer.accepted == 4
            page = await site.admin.QueryDeadLetters(admin_pb2.QueryDeadLettersRequest(page_size=1))
            assert page.total == 2 and page.dead_letters[0].detail == "boom" and page.dead_letters[0].root == "c"
            rest = await site.admin.QueryDeadLetters(
                admin_pb2.QueryDeadLettersRequest(page_size=1, page_token=page.next_page_token)
            )
            assert rest.dead_letters[0].reason == "TOO_BIG" and not rest.next_page_token
            only = admin_pb2.DeadLetterFilter(reason="TOO_BIG")
            discarded = await site.admin.DiscardDeadLetters(admin_pb2.DiscardDeadLettersRequest(filter=only))
            assert discarded.discarded == 1
            replayed = await site.admin.ReplayDeadLetters(admin_pb2.ReplayDeadLettersRequest())
            assert replayed.replayed == 1
            (batch,) = await lease(site)
            await complete(site, done(batch))
            await publish(site, change("d", version=2))
            root = await site.propagation.Cancel(pb.CancelRequest(id="d", reason="no"))
            assert root.state == pb.Root.STATE_CANCELLED and root.left == 6
            error = await refused(site.propagation.Cancel(pb.CancelRequest(id="d")))
            assert reason_of(error) == "ROOT_FINISHED"
            error = await refused(site.propagation.GetChange(pb.GetChangeRequest(id="never")))
            assert reason_of(error) == "CHANGE_NOT_FOUND"

    asyncio.run(main())


def test_a_retry_is_answered_as_the_first_time_also_after_a_restart():
    async def main():
        disk = MemoryDisk()
        async with served(disk) as site:
            await declare(site, 3)
            await publish(site, change())
            (batch,) = await lease(site)
            first = await complete(site, done(batch))
            again = await complete(site, done(batch))
            assert first[0] == again[0]
        async with served(disk) as site:
            (result,) = await publish(site, change())
            assert result.repeated_id and result.root == "c"
            (refusal,) = await complete(site, done(batch))
            assert reason(refusal.status) == "FENCED"
            (other,) = await publish(site, change(resource="w/other"))
            assert reason(other.status) == "CHANGE_ID_REUSED"

    asyncio.run(main())


def test_views_are_put_listed_and_refused_with_the_place_of_each_mistake():
    async def main():
        async with served() as site:
            text = "views:\n  - name: Html\n    resource_prefixes: [view/x/]\n    store: {namespace: wiki}\n"
            answer = await site.admin.ValidateViews(admin_pb2.ValidateViewsRequest(yaml=text))
            assert {(one.line, one.column) for one in answer.mistakes} >= {(2, 11), (3, 25)}
            put = await site.admin.PutViews(admin_pb2.PutViewsRequest(yaml=text))
            assert put.mistakes and put.revision == 1
            views = await site.work.GetViews(work_pb2.GetViewsRequest())
            assert [view.name for view in views.views] == ["html", "summary"] and views.revision == 1
            good = site.catalogue.text.replace("w/summary/", "w/s/")
            error = await refused(site.admin.PutViews(admin_pb2.PutViewsRequest(yaml=good, if_revision=9)))
            assert reason_of(error) == "REVISION_MISMATCH"
            put = await site.admin.PutViews(admin_pb2.PutViewsRequest(yaml=good, if_revision=1))
            assert put.revision == 2 and not put.mistakes
            listed = await site.admin.ListViews(admin_pb2.ListViewsRequest())
            assert listed.views[1].resource_prefixes == ["w/s/"] and listed.views[1].revision == 2

    asyncio.run(main())


def test_reads_are_reported_and_extended_leases_answered_each_for_itself():
    async def main():
        async with served() as site:
            await declare(site, 2)
            await site.work.ReportReads(
                work_pb2.ReportReadsRequest(
                    view="html",
                    names=f"{pages(1)[0]}\0w/unknown".encode(),
                    reads=packed.encode_counts([5, 5]),
                    fresh=packed.encode_counts([4, 5]),
                )
            )
            assert (site.engine.heat.reads, site.engine.heat.fresh) == (5, 4)
            await publish(site, change())
            # What its gateway could not know to be old: the page waits to be rendered.
            await site.work.ReportReads(
                work_pb2.ReportReadsRequest(
                    view="html",
                    names=pages(1)[0].encode(),
                    reads=packed.encode_counts([7]),
                    fresh=packed.encode_counts([7]),
                )
            )
            assert (site.engine.heat.reads, site.engine.heat.fresh) == (12, 4)
            (batch,) = await lease(site)
            held = work_pb2.ExtendRequest.Held(lease_id=batch.lease_id, fencing=batch.fencing)
            other = work_pb2.ExtendRequest.Held(lease_id=77, fencing=batch.fencing)
            extended = await site.work.Extend(work_pb2.ExtendRequest(leases=[held, other]))
            assert extended.results[0].HasField("deadline") and reason(extended.results[1].status) == "FENCED"

    asyncio.run(main())
