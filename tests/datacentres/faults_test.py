"""Faults that need no cluster come over callers at work: what they see is what the table says, and all of it heals."""

import asyncio
import contextlib
import itertools
import os
import shutil
from collections import Counter

import grpc

from services.storage.rig import put, refusal
from tests.datacentres import faults
from tests.datacentres.asking import Asker, Away, patiently, until
from tests.histories.clients import channel
from tests.histories.server import Server
from tests.system.served import Served
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_admin_pb2_grpc, storage_pb2_grpc
from wellspring.storage.v1 import storage_pb2 as pb

MIB = 1 << 20
SPACE = "faults"


class Caller:
    """Writes one record after the other, each until it is answered; ``saw`` counts the failures by their reasons."""

    def __init__(self, asker):
        self.asker = asker
        self.saw = Counter()
        self.acknowledged = {}
        self._stopping = asyncio.Event()

    async def run(self):
        for number in itertools.count():
            if self._stopping.is_set():
                return
            request = put(b"%d" % number, b"%d" % number, namespace=SPACE)
            while True:
                try:
                    receipt = await self.asker.put(request)
                    break
                except Away as away:
                    self.saw[away.reason] += 1
                    await asyncio.sleep(0.05)
            assert receipt.outcome in (pb.OUTCOME_APPLIED, pb.OUTCOME_REPEATED)
            self.acknowledged[request.record] = request.item.value

    def stop(self):
        """After the write that is under way."""
        self._stopping.set()

    async def acknowledges(self, more):
        """Waits for so many more writes."""
        wanted = len(self.acknowledged) + more

        async def enough():
            return len(self.acknowledged) >= wanted

        await until(enough, f"{more} more writes")

    async def fails(self):
        """Waits for a failure."""
        before = self.saw.total()

        async def failed():
            return self.saw.total() > before

        await until(failed, "a call fails")


@contextlib.asynccontextmanager
async def asking(server):
    """A caller of the server, which has a namespace then."""
    async with channel(server.address) as to:
        admin = storage_admin_pb2_grpc.StorageAdminStub(to)
        space = admin_pb.Namespace(name=SPACE, mode=admin_pb.MODE_CAS)
        await admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=space), timeout=60)
        yield Asker("local", to)


def test_a_server_killed(tmp_path):
    with Server([f"backend.embedded.path={tmp_path / 'data'}"]) as server:

        async def story():
            async with asking(server) as asker:
                caller = Caller(asker)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(caller.run())
                    await caller.acknowledges(3)
                    server.kill()
                    await caller.fails()
                    server.start()
                    await caller.acknowledges(3)
                    caller.stop()
                assert await asker.scan(SPACE) == caller.acknowledged
                assert set(caller.saw) == set(faults.SERVER_KILLED.saw)

        asyncio.run(story())


def test_answers_lost(tmp_path):
    with Server([f"backend.embedded.path={tmp_path / 'data'}"]) as server:

        async def story():
            async with asking(server) as asker:
                late, ignored = (put(record, b"1", namespace=SPACE) for record in (b"late", b"ignored"))
                saw = set()
                server.stop()
                try:
                    await asker.put(late, timeout_s=0.5)
                except Away as away:
                    saw.add(away.reason)
                finally:
                    server.go_on()
                assert saw == set(faults.ANSWERS_LOST.saw)
                receipts = [await patiently("an answer", asker.put, request) for request in (late, ignored)]
                assert receipts[0].outcome in (pb.OUTCOME_APPLIED, pb.OUTCOME_REPEATED)
                for request, receipt in zip((late, ignored), receipts, strict=True):
                    again = await patiently("the same again", asker.put, request)
                    assert (again.outcome, again.version) == (pb.OUTCOME_REPEATED, receipt.version)

        asyncio.run(story())


def test_the_disk_full(tmp_path):
    """The limit of a file's size stands for the disk's end: every write beyond it fails, as on a full disk."""
    embedded = {
        "path": str(tmp_path / "data"),
        "reserve_bytes": 0,
        "write_buffer_bytes": 64 * MIB,
        "log_bytes": 256 * MIB,
    }
    served = Served(tmp_path / "storage", "storage", "grpcio", {"backend": {"embedded": embedded}})
    whole = served.process.command
    served.process.command = [shutil.which("prlimit"), f"--fsize={8 * MIB}", *whole]

    async def fill():
        async with channel(served.address) as to:
            space = admin_pb.Namespace(name="full", mode=admin_pb.MODE_CAS)
            admin = storage_admin_pb2_grpc.StorageAdminStub(to)
            await admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=space), timeout=60)
            stub = storage_pb2_grpc.StorageStub(to)
            kept = {}
            for number in range(100):
                request = put(b"%d" % number, os.urandom(MIB // 2), namespace="full")
                try:
                    await stub.Put(request, timeout=60)
                except grpc.aio.AioRpcError:
                    again = await refusal(stub.Put(request, timeout=60))
                    return kept, again.reason
                kept[request.record] = request.item.value
            raise AssertionError("the disk never became full")

    async def read(kept):
        async with channel(served.address) as to:
            stub = storage_pb2_grpc.StorageStub(to)
            for record, value in kept.items():
                answer = await stub.Get(pb.GetRequest(namespace="full", record=record), timeout=60)
                assert answer.items[0].value == value
            await stub.Put(put(b"after", b"room", namespace="full"), timeout=60)

    try:
        served.start()
        kept, reason = asyncio.run(fill())
        assert kept and reason in faults.DISK_FULL.saw, reason
        served.kill()
        served.process.command = whole
        served.start()
        asyncio.run(read(kept))
    finally:
        served.kill()
