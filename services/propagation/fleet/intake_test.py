"""Bound namespaces of a real storage server followed for all shards: each has every change, over moves and restarts."""

import asyncio
from contextlib import AsyncExitStack
from random import Random

import grpc

import wellspring_client.aio
from services.propagation.fleet.testing.executor import VIEWS
from services.propagation.fleet.testing.serving import Fleet, serving
from services.propagation.intake.intake import Intake
from services.propagation.simulation.processes import Process
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb

SHARDS = 3


def storage_server(directory):
    process = Process(directory)
    process.command[2] = "services.storage.main"
    return process


async def accepted(stubs, count):
    """The roots, newest first, when there are so many."""
    async with asyncio.timeout(120):
        while True:
            found, token = [], ""
            while True:
                answer = await stubs.propagation.ListChanges(pb.ListChangesRequest(page_token=token))
                found += answer.roots
                token = answer.next_page_token
                if not token:
                    break
            if len(found) >= count:
                return found
            await asyncio.sleep(0.1)


async def watched(stubs, change_id):
    """The root as the first answer of its watch has it; it is waited for some seconds, here for as long as it takes."""
    async with asyncio.timeout(120):
        while True:
            stream = stubs.propagation.WatchChange(pb.WatchChangeRequest(id=change_id))
            try:
                async for answer in stream:
                    return answer.root
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND, error
            finally:
                stream.cancel()


def test_each_shard_has_every_write_of_a_bound_namespace(tmp_path):
    async def main(address):
        async with (
            wellspring_client.aio.connect(storage=address, timeout=60.0) as client,
            AsyncExitStack() as stack,
        ):

            def follow(engine, changes):
                return Intake(engine, client.storage, Random(1), refresh_s=0.1, changes=changes)

            fleet = Fleet(SHARDS)
            one, other = [await stack.enter_async_context(serving(fleet, leads, follow)) for leads in ((0, 1), (2,))]
            await one.stubs.admin.PutViews(admin_pb2.PutViewsRequest(yaml=VIEWS))
            await client.storage.create_namespace("wiki", resource_prefix="w/page/")
            wiki = client.storage.namespace("wiki")
            ids = []

            async def written(count):
                for _ in range(count):
                    ids.append((await wiki.put(f"P{len(ids)}", b"1")).change_id)

            await written(20)
            # The receipt's id may be asked for at once.
            assert (await watched(other.stubs, ids[-1])).change.resource == f"w/page/P{len(ids) - 1}"
            await accepted(other.stubs, 20)
            status = await other.stubs.admin.GetStatus(admin_pb2.GetStatusRequest())
            assert [one.namespace for one in status.followers] == ["wiki"]
            # While a shard is away the others may have a change; none is lost for it.
            await other.lose(2)
            await written(10)
            await one.lead(2)
            await accepted(other.stubs, 30)
            # The engine that follows dies; what was written meanwhile is read by the next one.
            await one.die()
            await written(10)
            for number in range(SHARDS):
                await other.lead(number)
            async with asyncio.timeout(120):
                while True:
                    status = await other.stubs.admin.GetStatus(admin_pb2.GetStatusRequest())
                    if status.pending == 80:
                        break
                    await asyncio.sleep(0.1)
            roots = await accepted(other.stubs, 40)
            assert sorted(root.change.id for root in roots) == sorted(ids)
            assert all(root.progress.total == 2 for root in roots), "one page in each view, in one shard"

    storage = storage_server(tmp_path / "storage")
    storage.start()
    try:
        asyncio.run(main(storage.address))
    finally:
        storage.kill()
