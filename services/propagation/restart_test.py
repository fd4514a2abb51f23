"""kill -9 of the real server in the middle of a fan-out: nothing acknowledged is lost, everything is rendered.

The executor is played over gRPC. What it completed durably before a kill is never asked for again.
"""

import asyncio
from random import Random

import grpc
import pytest

from services.propagation.simulation.processes import DEPENDENTS, Executor, Process, Stubs, T, connected, edit, load
from services.propagation.simulation.serving import VIEWS
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2


@pytest.fixture
def process(tmp_path):
    started = Process(tmp_path / "data")
    started.start()
    yield started
    started.kill()


def test_killed_again_and_again_during_a_fan_out(process):
    seed = 11
    print("seed", seed)
    rng = Random(seed)
    executor = Executor()

    async def prepare():
        async with connected(process) as channel:
            stubs = Stubs(channel)
            await load(stubs)
            await edit(stubs, 1)

    async def some(rounds):
        async with connected(process) as channel:
            stubs = Stubs(channel)
            for _ in range(rounds):
                await executor.round(stubs)

    async def until_killed():
        """Works on while the server dies under it."""
        async with connected(process) as channel:
            stubs = Stubs(channel)

            async def work():
                while True:
                    await executor.round(stubs)

            workers = [asyncio.create_task(work()) for _ in range(3)]
            await asyncio.sleep(rng.uniform(0.05, 0.15))
            process.kill()
            results = await asyncio.gather(*workers, return_exceptions=True)
            assert all(isinstance(result, grpc.aio.AioRpcError) for result in results), results

    async def finish():
        async with connected(process) as channel:
            stubs = Stubs(channel)
            while True:
                root = await stubs.propagation.GetChange(pb.GetChangeRequest(id="edit1"))
                if root.state != pb.Root.STATE_ACTIVE:
                    return root
                await executor.round(stubs)

    async def progress():
        async with connected(process) as channel:
            return (await Stubs(channel).propagation.GetChange(pb.GetChangeRequest(id="edit1"))).progress

    asyncio.run(prepare())
    asyncio.run(some(4))
    for _ in range(4):
        asyncio.run(until_killed())
        process.start()
        acknowledged = int((executor.done > 0).sum())
        at = asyncio.run(progress())
        assert at.total == DEPENDENTS and at.done >= acknowledged, f"seed {seed}"
    root = asyncio.run(finish())
    assert root.state == pb.Root.STATE_DONE and root.progress.done == DEPENDENTS
    assert executor.done.max() == 1, "what was acknowledged is never leased again"
    # What a kill took between the commit and its acknowledgement was durable, and is not asked for again either.
    assert DEPENDENTS - 12 * 1_000 <= executor.done.sum() <= DEPENDENTS


def test_killed_right_after_the_acknowledgement_of_a_change(process):
    async def prepare():
        async with connected(process) as channel:
            stubs = Stubs(channel)
            await stubs.admin.PutViews(admin_pb2.PutViewsRequest(yaml=VIEWS))
            name = pb.Declaration(dependent="w/page/1", view="html", dependencies=[pb.Dependency(resource=T)])
            await stubs.propagation.DeclareDependencies(pb.DeclareDependenciesRequest(declarations=[name]))

    async def one(version):
        async with connected(process) as channel:
            await edit(Stubs(channel), version)

    async def look(version):
        async with connected(process) as channel:
            stubs = Stubs(channel)
            root = await stubs.propagation.GetChange(pb.GetChangeRequest(id=f"edit{version}"))
            views = await stubs.work.GetViews(work_pb2.GetViewsRequest())
            return root, views

    asyncio.run(prepare())
    for version in range(1, 6):
        asyncio.run(one(version))
        process.kill()
        process.start()
        root, views = asyncio.run(look(version))
        assert root.state == pb.Root.STATE_ACTIVE and root.progress.total == 1
        assert [view.name for view in views.views] == ["html", "summary"]


def test_stops_in_an_orderly_way_and_refuses_what_it_cannot_do(process, tmp_path):
    second = Process(tmp_path / "data")
    with pytest.raises(AssertionError, match="in use"):
        second.start()
    refused = {
        "rules_file=/nowhere/rules.yaml": "/nowhere/rules.yaml: No such file",
        "default_lane=fast": "default_lane: 'fast'",
        "server.workers=2": "server.workers: ",
        "views_file=/nowhere/views.yaml": "/nowhere/views.yaml: No such file",
    }
    for setting, expected in refused.items():
        with pytest.raises(AssertionError) as caught:
            Process(tmp_path / "other", "lanes=[{name: slow}, {name: default}]", setting).start()
        assert "Traceback" not in str(caught.value) and expected in str(caught.value)
    status, _ = process.stop()
    assert status == 0
