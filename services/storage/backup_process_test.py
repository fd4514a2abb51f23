"""Kill -9 while whole namespaces move: snapshots are whole or absent, a restore goes on, an import may be repeated."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from services.storage.rig import token
from services.storage.server_process import Process
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_admin_pb2_grpc, storage_pb2_grpc
from wellspring.storage.v1 import storage_pb2 as pb

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
KILLS = int(os.environ.get("WELLSPRING_KILLS", "3"))
RECORDS = 4000
RUNNING = admin_pb.Operation.STATE_RUNNING
SUCCEEDED = admin_pb.Operation.STATE_SUCCEEDED


class World:
    """A server that is killed, and what callers see of it."""

    def __init__(self, path: Path) -> None:
        print(f"seed {SEED}, {KILLS} kills; repeat with WELLSPRING_SEED={SEED} WELLSPRING_KILLS={KILLS}")
        self.chance = random.Random(SEED)
        self.path = path / "data"
        self.process = Process(self.path, f"mirrors={{other: {{embedded: {{path: {path / 'other'}}}}}}}")

    async def __aenter__(self) -> "World":
        self.process.start()
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
        self._channel = grpc.aio.insecure_channel(self.process.address, options=options)
        self.admin: Any = storage_admin_pb2_grpc.StorageAdminStub(self._channel)
        self.storage: Any = storage_pb2_grpc.StorageStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close(None)
        assert self.process.end(signal.SIGTERM) == 0

    async def fill(self, name: str, records: int = RECORDS) -> None:
        """A namespace with records in batches."""
        await self.make(name)
        for first in range(0, records, 500):
            batch = pb.BatchMutateRequest()
            for number in range(first, first + 500):
                one = batch.requests.add(namespace=name, record=b"r%05d" % number, token=token())
                for key in (b"", b"b"):
                    one.mutations.add().put.CopyFrom(pb.Item(key=key, value=b"%d" % number * 20))
            await self.storage.BatchMutate(batch)

    async def make(self, name: str) -> None:
        """An empty namespace."""
        space = admin_pb.Namespace(name=name, mode=admin_pb.MODE_LWW)
        await self.admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=space))

    async def crash(self, most_s: float = 0.15) -> None:
        """Kills the server after a moment and starts it again."""
        await asyncio.sleep(self.chance.uniform(0.0, most_s))
        self.process.end()
        self.process.start()

    async def again(self, method: str, request: Any) -> Any:
        """The answer, asked for until there is one."""
        while True:
            try:
                return await getattr(self.admin, method)(request)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    raise
                await asyncio.sleep(0.02)

    async def ended(self, operation: Any) -> Any:
        """The operation once it has ended."""
        while operation.state == RUNNING:
            await asyncio.sleep(0.02)
            operation = await self.again("GetOperation", admin_pb.GetOperationRequest(name=operation.name))
        return operation

    async def contents(self, name: str) -> dict[bytes, tuple[Any, ...]]:
        """All records."""
        found: dict[bytes, tuple[Any, ...]] = {}
        request = pb.ScanRequest(namespace=name, batch_records=1000)
        async for answer in self.storage.Scan(request, wait_for_ready=True):
            for record in answer.records:
                told = tuple((item.key, item.value, item.version) for item in record.items)
                found[record.record] = found.get(record.record, ()) + told
        return found


def test_a_snapshot_killed_is_whole_or_absent(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world:
            await world.fill("wiki")
            for number in range(KILLS):
                request = admin_pb.SnapshotNamespaceRequest(name="wiki", snapshot=f"s{number}")
                begun = await world.again("SnapshotNamespace", request)
                await world.crash()
                files = sorted(path.name for path in (world.path / "backups" / "snapshots").iterdir())
                done = await world.ended(begun)
                assert done.state == SUCCEEDED and done.snapshot.records == RECORDS, (done, files)
            listed = await world.again("ListSnapshots", admin_pb.ListSnapshotsRequest())
            assert [one.name for one in listed.snapshots] == [f"s{number}" for number in range(KILLS)]
            assert len({one.checksum for one in listed.snapshots}) == KILLS
            left = [path.name for path in (world.path / "backups").rglob("*.partial")]
            assert not left, left

    asyncio.run(story())


def test_a_restore_killed_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world:
            await world.fill("wiki")
            request = admin_pb.SnapshotNamespaceRequest(name="wiki", snapshot="s")
            assert (await world.ended(await world.again("SnapshotNamespace", request))).state == SUCCEEDED
            expected = await world.contents("wiki")
            for number in range(KILLS):
                name = f"copy{number}"
                again = admin_pb.RestoreNamespaceRequest(snapshot="s", namespace=name)
                begun = await world.again("RestoreNamespace", again)
                await world.crash(0.6)
                try:
                    seen = await world.contents(name)
                    assert seen == expected, "half of a restore was seen"
                except grpc.aio.AioRpcError as error:
                    assert error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND), error
                done = await world.ended(begun)
                assert done.state == SUCCEEDED, done
                assert await world.contents(name) == expected
                usage = await world.admin.GetUsage(admin_pb.GetUsageRequest(name=name))
                assert (usage.records, usage.items) == (RECORDS, 2 * RECORDS)

    asyncio.run(story())


def test_a_mirror_killed_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world:
            await world.fill("wiki", 2000)
            request = admin_pb.MirrorNamespaceRequest(name="wiki", target_backend="other", shadow_read_share=1)
            for number in range(KILLS):
                begun = await world.again("MirrorNamespace", request)
                await world.crash(0.8)
                record = b"r%05d" % number
                delete = pb.DeleteRequest(namespace="wiki", record=record, token=token())
                delete.selection.all = True
                await world.storage.Delete(delete, wait_for_ready=True)
                done = await world.ended(begun)
                assert (done.state, done.mirror.different) == (SUCCEEDED, 0), done
            done = await world.ended(await world.again("MirrorNamespace", request))
            assert (done.mirror.compared, done.mirror.different) == (2000 - KILLS, 0), done

    asyncio.run(story())


def test_an_export_and_an_import_killed_are_taken_up_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world:
            await world.fill("wiki")
            expected = await world.contents("wiki")
            data = await _exported(world)
            for number in range(KILLS):
                name = f"copy{number}"
                await world.make(name)
                task = asyncio.ensure_future(_imported(world, name, data))
                await world.crash(0.5)
                await asyncio.wait([task])
                if task.exception() is not None:
                    seen = await world.contents(name)
                    assert all(expected[record] == items for record, items in seen.items()), "half of a record"
                assert (await _imported(world, name, data)).records == RECORDS
                assert await world.contents(name) == expected
                assert not list((world.path / "backups").rglob("*.partial"))

    asyncio.run(story())


async def _exported(world: World) -> bytes:
    """An export through crashes: a token is good or refused by name, never another stream."""
    data, resume, crashes, restarts = bytearray(), "", 0, 0
    while True:
        request = admin_pb.ExportNamespaceRequest(name="wiki", resume_token=resume)
        try:
            async for answer in world.admin.ExportNamespace(request):
                data += answer.data
                resume = answer.resume_token
                if answer.sha256:
                    assert answer.sha256 == data[-32:]
                    return bytes(data)
                if crashes < KILLS:
                    crashes += 1
                    await world.crash()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                data, resume, restarts = bytearray(), "", restarts + 1
                assert restarts <= KILLS
            else:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error
                await asyncio.sleep(0.02)


async def _imported(world: World, name: str, data: bytes) -> Any:
    async def requests() -> AsyncIterator[admin_pb.ImportNamespaceRequest]:
        yield admin_pb.ImportNamespaceRequest(namespace=name)
        for at in range(0, len(data), 200_000):
            yield admin_pb.ImportNamespaceRequest(data=data[at : at + 200_000])
        yield admin_pb.ImportNamespaceRequest(finish=admin_pb.ImportNamespaceRequest.Finish(sha256=data[-32:]))

    return await world.admin.ImportNamespace(requests(), wait_for_ready=True)
