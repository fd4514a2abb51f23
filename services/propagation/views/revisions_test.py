"""Other views are put while roots are at work: those finish under the views that they began with."""

import asyncio

import numpy as np

from services.propagation.domain.engine import revision_records
from services.propagation.simulation.calls import change, complete, done, lease, pages, publish
from services.propagation.simulation.serving import VIEWS, served
from services.propagation.store.memory_state import MemoryDisk
from wellspring.propagation.v1 import propagation_admin_pb2 as admin
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed

OTHER = VIEWS[: VIEWS.index("  - name: summary")].replace("examples.wiki.renderer:render", "examples.wiki.other:render")


async def declare(site, view, names, template):
    counts = packed.encode_counts([1] * len(names))
    index = packed.encode_counts([0] * len(names))
    declaration = pb.PackedDeclarations(
        view=view,
        dependents="\0".join(names).encode(),
        inputs=template.encode(),
        counts=counts,
        input_index=index,
        mode=pb.Declaration.MODE_ADD,
    )
    answer = await site.propagation.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[declaration]))
    assert not any(result.status.code for result in answer.results)


async def leased(site, view):
    """Leases all of the view: (revision, names) of each batch, and the batches."""
    batches = await lease(site, view=view)
    return sorted((batch.views_revision, batch.names.decode().split("\0")) for batch in batches), batches


def older(views):
    return [(view.name, view.revision, view.render.entry_point.function) for view in views.older]


def test_n30_roots_finish_under_the_views_that_they_began_with():
    async def main():
        disk = MemoryDisk()
        page = pages(6)
        async with served(disk) as site:
            await declare(site, "html", page[:4], "w/template/a")
            await declare(site, "html", page[3:], "w/template/b")
            await declare(site, "summary", ["w/summary/1"], "w/template/a")
            await publish(site, change("old", "w/template/a"))
            put = await site.admin.PutViews(admin.PutViewsRequest(yaml=OTHER))
            assert put.revision == 2 and not put.mistakes
            await publish(site, change("new", "w/template/b"))
            await publish(site, change("new-a-summary", "w/summary/2"))
        disk.crash()
        async with served(disk) as site:
            views = await site.work.GetViews(work_pb2.GetViewsRequest())
            assert views.revision == 2 and [view.name for view in views.views] == ["html"]
            assert older(views) == [
                ("html", 1, "examples.wiki.renderer:render"),
                ("summary", 1, ""),
            ], "what unfinished roots began with can still be had"
            found, html = await leased(site, "html")
            assert found == [(1, page[:3]), (2, page[3:])], "what a new root wants too is rendered the new way"
            found, summary = await leased(site, "summary")
            assert found == [(1, ["w/summary/1"])], "a retired view: for the old root only"
            results = await complete(site, *(done(batch) for batch in [*html, *summary]))
            assert not any(result.status.code for result in results)
            for name in ("old", "new"):
                root = await site.propagation.GetChange(pb.GetChangeRequest(id=name))
                assert root.state == pb.Root.STATE_DONE
            site.engine._forget_views()
            await site.engine.durable()
            views = await site.work.GetViews(work_pb2.GetViewsRequest())
            assert not views.older
            assert [revision for revision, _ in revision_records(site.engine.shard.store)] == [2]
            assert not (await leased(site, "summary"))[0]
            await publish(site, change("newer", "w/template/a", 2))
            found, _ = await leased(site, "html")
            assert found == [(2, page[:4])]

    asyncio.run(main())


def test_n30_deeper_levels_and_retries_keep_to_the_old_views():
    async def main():
        disk = MemoryDisk()
        async with served(disk) as site:
            await declare(site, "html", ["w/page/1"], "w/template/a")
            await declare(site, "summary", ["w/summary/1"], "view/html/w/page/1")
            await publish(site, change("old", "w/template/a"))
            await site.admin.PutViews(admin.PutViewsRequest(yaml=OTHER))
            (batch,) = await lease(site)
            assert batch.views_revision == 1
            failure = work_pb2.Failure(id=packed.decode_ids(batch.ids)[0], reason="BROKEN", retryable=True)
            report = work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, failures=[failure])
            await complete(site, report)
            (again,) = await lease(site, wait_s=5)
            assert again.views_revision == 1 and len(np.frombuffer(again.attempts, "<u4")) == 2
            await complete(site, done(again))
            (deeper,) = await lease(site, view="summary", wait_s=5)
            assert deeper.views_revision == 1 and deeper.names == b"w/summary/1"
            await complete(site, done(deeper))
            root = await site.propagation.GetChange(pb.GetChangeRequest(id="old"))
            assert root.state == pb.Root.STATE_DONE and root.progress.done == 2

    asyncio.run(main())


def test_many_revisions_while_a_root_is_paused_are_not_all_kept():
    async def main():
        disk = MemoryDisk()
        async with served(disk) as site:
            await declare(site, "html", ["w/page/1"], "w/template/a")
            await publish(site, change("old", "w/template/a"))
            await site.propagation.Pause(pb.PauseRequest(id="old"))
            for at in range(5):
                text = OTHER if at % 2 == 0 else VIEWS
                put = await site.admin.PutViews(admin.PutViewsRequest(yaml=text))
                assert put.revision == at + 2
            site.engine._forget_views()
            assert list(site.engine.shard.views.older) == [1]
        async with served(disk) as site:
            assert list(site.engine.shard.views.older) == [1]
            await site.propagation.Resume(pb.ResumeRequest(id="old"))
            (batch,) = await lease(site)
            assert batch.views_revision == 1

    asyncio.run(main())
