"""Several shards answer and do what one does: the same graph, the same edits, in one engine or over several of them."""

import asyncio
from contextlib import AsyncExitStack
from random import Random

import pytest

from services.propagation.fleet.testing.executor import VIEWS, Executor, declaration
from services.propagation.fleet.testing.serving import Fleet, serving
from services.propagation.simulation.site import Site
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb

PAGES, SOURCES = 60, 8
_FINISHED = (pb.Root.STATE_DONE, pb.Root.STATE_CANCELLED, pb.Root.STATE_DONE_WITH_FAILURES)


def graph(rng):
    """(reads of each page's html, by page)."""
    return {
        f"w/page/{at}": [f"w/source/{number}" for number in sorted(rng.sample(range(SOURCES), rng.randint(1, 3)))]
        for at in range(PAGES)
    }


def change(site, number, source):
    version = site.edit(source)
    return pb.Change(id=f"edit{number}", resource=source, version=version.to_bytes(16, "big"))


async def published(stubs, *changes):
    response = await stubs.propagation.PublishChanges(pb.PublishChangesRequest(changes=changes))
    assert not [one for one in response.results if one.status.code]
    return list(response.results)


async def told(stubs, change_id):
    return await stubs.propagation.GetChange(pb.GetChangeRequest(id=change_id))


async def drained(executor, engines):
    """Works until no root is unfinished."""
    while True:
        worked = await executor.round(engines)
        listed = await changes_of(engines[0])
        if not worked and all(root.state in _FINISHED for root in listed):
            return listed
        if not worked:
            await asyncio.sleep(0.01)


async def changes_of(stubs):
    found, token = [], ""
    while True:
        answer = await stubs.propagation.ListChanges(pb.ListChangesRequest(page_size=7, page_token=token))
        found += answer.roots
        token = answer.next_page_token
        if not token:
            return found


async def dependents_of(stubs, resource):
    asked = pb.ListDependentsRequest(resource=resource, view="html", page_size=5)
    return {name async for page in stubs.propagation.ListDependents(asked) for name in page.names.decode().split("\0")}


async def outputs_of(stubs, view):
    found, token = set(), ""
    while True:
        answer = await stubs.admin.ListOutputs(admin_pb2.ListOutputsRequest(view=view, page_size=9, page_token=token))
        found |= set(answer.names.decode().split("\0")) if answer.names else set()
        token = answer.next_page_token
        if not token:
            return found


async def play(seed, shards, engines):
    """One script on so many shards and engines; answers all that a caller can see at its end."""
    rng, site = Random(seed), Site()
    fleet = Fleet(shards)
    async with AsyncExitStack() as stack:
        served = [
            await stack.enter_async_context(serving(fleet, range(nth, shards, engines))) for nth in range(engines)
        ]
        every = [one.stubs for one in served]
        stubs = rng.choice(every)
        executor = Executor(site)
        assert not (await stubs.admin.PutViews(admin_pb2.PutViewsRequest(yaml=VIEWS))).mistakes
        reads = graph(rng)
        summaries = {page: [f"view/html/{page}"] for page in reads}
        for view, sets in (("html", reads), ("summary", summaries)):
            site.reads |= {(view, page): [(name, "content") for name in names] for page, names in sets.items()}
            asked = pb.DeclareDependenciesRequest(packed=[declaration(view, sets)])
            added = await stubs.propagation.DeclareDependencies(asked)
            assert added.edges_added == sum(map(len, sets.values()))
        number, states, seen = 0, [], []
        for _ in range(4):
            made = [change(site, number + at, f"w/source/{rng.randrange(SOURCES)}") for at in range(rng.randint(1, 4))]
            number += len(made)
            await published(rng.choice(every), *made)
            again = await published(rng.choice(every), made[0])
            assert again[0].repeated_id
            for _ in range(rng.randint(0, 3)):
                await executor.round(every, 7)
        await published(stubs, *(change(site, f"-last{at}", f"w/source/{at}") for at in range(SOURCES)))
        await drained(executor, every)
        paused = change(site, "-paused", "w/source/0")
        token = (await published(stubs, paused))[0].visibility_token
        await stubs.propagation.Pause(pb.PauseRequest(id=paused.id))
        assert (await told(stubs, paused.id)).state == pb.Root.STATE_PAUSED
        page = next(page for page, names in reads.items() if "w/source/0" in names)
        for view in ("html", "summary"):
            asked = pb.AwaitVisibleRequest(visibility_token=token, resource=page, view=view)
            seen.append((await stubs.propagation.AwaitVisible(asked, timeout=0.4)).state)
        assert not await executor.round(every)
        await rng.choice(every).propagation.Resume(pb.ResumeRequest(id=paused.id))
        roots = await drained(executor, every)
        for view in ("html", "summary"):
            asked = pb.AwaitVisibleRequest(visibility_token=token, resource=page, view=view)
            assert (await rng.choice(every).propagation.AwaitVisible(asked)).visible
        for root in sorted(roots, key=lambda root: root.change.id):
            progress = root.progress
            states.append((root.change.id, root.state, progress.total, progress.done, progress.failed))
            assert progress.done == progress.total
        impact = await stubs.propagation.EstimateImpact(pb.EstimateImpactRequest(resource="w/source/1"))
        status = await stubs.admin.GetStatus(admin_pb2.GetStatusRequest())
        for place in site.reads:
            assert site.stored[place][1] == site.render(place), place
        return {
            "roots": states,
            "states while paused": seen,
            "pages": {place: body for place, (_, body) in site.stored.items()},
            "counts": [
                (await stubs.propagation.CountDependents(pb.CountDependentsRequest(resource=f"w/source/{at}"))).total
                for at in range(SOURCES)
            ],
            "dependents": [await dependents_of(rng.choice(every), f"w/source/{at}") for at in range(SOURCES)],
            "outputs": [await outputs_of(rng.choice(every), view) for view in ("html", "summary")],
            "impact": (sorted((one.view, one.dependents) for one in impact.views), impact.transitive),
            "status": (status.edges, status.pending, status.leased, status.dead_letters, status.active_roots),
        }


@pytest.mark.parametrize("seed", range(3))
def test_several_shards_end_as_one_does(seed):
    print("seed", seed)
    alone = asyncio.run(play(seed, 1, 1))
    for shards, engines in ((4, 1), (3, 2)):
        together = asyncio.run(play(seed, shards, engines))
        for what, wanted in alone.items():
            assert together[what] == wanted, (what, shards, engines)
