"""kill -9 of the real server in the middle of a fan-out: nothing acknowledged is lost, everything is rendered.

The executor is played over gRPC. What it completed durably before a kill is never asked for again.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from random import Random

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from services.propagation.simulation.serving import VIEWS
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_admin_pb2_grpc, propagation_pb2_grpc, work_pb2, work_pb2_grpc
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring_client import packed

DEPENDENTS = 50_000
T = "w/template/a"


class Process:
    """The real server on a data directory; `kill` is kill -9."""

    def __init__(self, directory, *settings):
        self.command = [
            sys.executable,
            "-m",
            "services.propagation.main",
            "--set",
            "server.listen=127.0.0.1:0",
            "--set",
            f"backend={{embedded: {{path: {directory}, reserve_bytes: 0}}}}",
            *[argument for setting in settings for argument in ("--set", setting)],
        ]
        self.process = None
        self.address = ""

    def start(self):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1].decode())
        self.address = json.loads(line)["listen"][0]

    def kill(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.communicate()
            self.process = None

    def stop(self):
        self.process.terminate()
        _, errors = self.process.communicate(timeout=20)
        status, self.process = self.process.returncode, None
        return status, errors.decode()


@pytest.fixture
def process(tmp_path):
    started = Process(tmp_path / "data")
    started.start()
    yield started
    started.kill()


class Stubs:
    def __init__(self, channel):
        self.propagation = propagation_pb2_grpc.PropagationStub(channel)
        self.work = work_pb2_grpc.PropagationWorkStub(channel)
        self.admin = propagation_admin_pb2_grpc.PropagationAdminStub(channel)


def connected(process):
    return grpc.aio.insecure_channel(process.address)


async def load(stubs):
    await stubs.admin.PutViews(admin_pb2.PutViewsRequest(yaml=VIEWS))
    for start in range(0, DEPENDENTS, 10_000):
        names = [f"w/page/{at:06}" for at in range(start, start + 10_000)]
        declaration = pb.PackedDeclarations(
            view="html",
            dependents="\0".join(names).encode(),
            inputs=T.encode(),
            counts=packed.encode_counts([1] * len(names)),
            input_index=packed.encode_counts([0] * len(names)),
        )
        await stubs.propagation.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[declaration]))


async def edit(stubs, version):
    change = pb.Change(id=f"edit{version}", resource=T, version=version.to_bytes(16, "big"))
    response = await stubs.propagation.PublishChanges(pb.PublishChangesRequest(changes=[change]))
    assert not response.results[0].status.code


class Executor:
    """Leases and completes until it is told to stop or the server is gone. `done` holds what was acknowledged."""

    def __init__(self):
        self.done = np.zeros(2 * DEPENDENTS, np.int64)
        self.versions = {}

    async def round(self, stubs):
        request = work_pb2.LeaseRequest(
            executor="test",
            capacity=[work_pb2.LeaseRequest.Capacity(view="html", items=1_000)],
            wait=Duration(nanos=200_000_000),
        )
        batches = (await stubs.work.Lease(request)).batches
        for batch in batches:
            ids = packed.decode_ids(batch.ids)
            hashes = np.repeat(ids.astype("<u8") + batch.sequence, 2).tobytes()
            completion = work_pb2.Completion(
                lease_id=batch.lease_id, fencing=batch.fencing, done=batch.ids, hashes=hashes
            )
            response = await stubs.work.Complete(work_pb2.CompleteRequest(completions=[completion]))
            assert not response.results[0].status.code
            self.done[ids] += 1
        return bool(batches)


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
    lane = "default_lane=fast"
    for setting in ("rules_file=x", lane, "server.workers=2", "views_file=/nowhere/views.yaml"):
        with pytest.raises(AssertionError) as caught:
            Process(tmp_path / "other", "lanes=[{name: slow}, {name: default}]", setting).start()
        assert (
            "Traceback" not in str(caught.value)
            and setting.split("=")[0].split(".")[0] in str(caught.value)
            or ("/nowhere/views.yaml" in str(caught.value))
        )
    status, _ = process.stop()
    assert status == 0
