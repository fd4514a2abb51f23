"""The propagation server as a process of its own that is killed, and an executor played over gRPC."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration

from services.propagation.simulation.serving import VIEWS
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import (
    propagation_admin_pb2_grpc,
    propagation_pb2_grpc,
    shards_pb2_grpc,
    work_pb2,
    work_pb2_grpc,
)
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring_client import packed

DEPENDENTS = 50_000
T = "w/template/a"


class Process:
    """The real server on a data directory; `kill` is kill -9. `backend`: another one than the embedded."""

    def __init__(self, directory: Path, *settings: str, backend: str = "") -> None:
        self.command = [
            sys.executable,
            "-m",
            "services.propagation.main",
            "--set",
            "server.listen=127.0.0.1:0",
            "--set",
            f"backend={backend or f'{{embedded: {{path: {directory}, reserve_bytes: 0}}}}'}",
            *[argument for setting in settings for argument in ("--set", setting)],
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> None:
        """Starts it, and waits until it listens. Raises AssertionError with what it said when it does not."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1].decode())
        self.address = json.loads(line)["listen"][0]

    def kill(self) -> None:
        """kill -9; nothing when it does not run."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.communicate()
            self.process = None

    def stop(self) -> tuple[int, str]:
        """Asks it to stop; answers its status and what it said on standard error."""
        assert self.process is not None
        self.process.terminate()
        _, errors = self.process.communicate(timeout=300)
        status, self.process = self.process.returncode, None
        return status, errors.decode()


class Stubs:
    """A stub for each service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        stubs: Any = (propagation_pb2_grpc, work_pb2_grpc, propagation_admin_pb2_grpc, shards_pb2_grpc)
        self.propagation: Any = stubs[0].PropagationStub(channel)
        self.work: Any = stubs[1].PropagationWorkStub(channel)
        self.admin: Any = stubs[2].PropagationAdminStub(channel)
        self.across: Any = stubs[3].PropagationShardsStub(channel)


def connected(process: Process) -> grpc.aio.Channel:
    """A channel to the process as it runs now."""
    return grpc.aio.insecure_channel(process.address)


async def load(stubs: Stubs) -> None:
    """Views, and so many pages that use the template."""
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


async def edit(stubs: Stubs, version: int) -> None:
    """Edits the template as change edit<version>."""
    change = pb.Change(id=f"edit{version}", resource=T, version=version.to_bytes(16, "big"))
    response = await stubs.propagation.PublishChanges(pb.PublishChangesRequest(changes=[change]))
    assert not response.results[0].status.code


class Executor:
    """Leases and completes until it is told to stop or the server is gone. `done` holds what was acknowledged."""

    def __init__(self) -> None:
        self.done = np.zeros(2 * DEPENDENTS, np.int64)

    async def round(self, stubs: Stubs) -> bool:
        """One lease and its completion; whether there was any work."""
        batches = await self.lease(stubs)
        for batch in batches:
            await self.complete(stubs, batch)
        return bool(batches)

    async def lease(self, stubs: Stubs) -> list[work_pb2.Batch]:
        """Up to a thousand pages."""
        request = work_pb2.LeaseRequest(
            executor="test",
            capacity=[work_pb2.LeaseRequest.Capacity(view="html", items=1_000)],
            wait=Duration(nanos=200_000_000),
        )
        return list((await stubs.work.Lease(request)).batches)

    async def complete(self, stubs: Stubs, batch: work_pb2.Batch) -> None:
        """Reports all of it as done."""
        ids = packed.decode_ids(batch.ids)
        hashes = np.repeat(ids.astype("<u8") + batch.sequence, 2).tobytes()
        completion = work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, done=batch.ids, hashes=hashes)
        response = await stubs.work.Complete(work_pb2.CompleteRequest(completions=[completion]))
        assert not response.results[0].status.code
        self.done[ids] += 1
