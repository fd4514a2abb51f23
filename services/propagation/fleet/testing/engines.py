"""Engines of a fleet as real processes on a real broker, and an executor that works at all of them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import grpc

from libs.kafka.testing.broker import PATIENCE_S
from services.propagation.fleet.shards import SHARD_HEADER
from services.propagation.simulation.processes import Process, Stubs
from tools.dev.servers.kafka import Kafka
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed

SESSION_S = 15
SHARDS, PAGES, SUMMARIES = 4, 4_000, 400


def server(kafka: Kafka, path: Path, prefix: str, *settings: str, shards: int = SHARDS, more: str = "") -> Process:
    """An engine of the fleet of this prefix; `more`: of its backend."""
    brokers = f"bootstrap_servers: ['{kafka.address}'], topic_prefix: '{prefix}', group: {prefix}engines"
    log = f"kafka: {{{brokers}, replication: 1}}, shards: {shards}, session_timeout: {SESSION_S}s{more}"
    backend = f"{{sharded: {{{log}, embedded: {{path: {path}, reserve_bytes: 0}}}}}}"
    return Process(path, *settings, backend=backend)


async def leads(stubs: Stubs) -> set[int]:
    """The shards that an engine leads now."""
    found = set()
    for shard in range(SHARDS):
        try:
            asked = stubs.admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=[(SHARD_HEADER, str(shard))])
            await asked
            found.add(shard)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.ABORTED, error
    return found


async def led_by(wanted: Mapping[Stubs, int]) -> None:
    """Waits until each of the engines (by their stubs) leads so many shards."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = [len(await leads(stubs)) for stubs in wanted]
            if found == list(wanted.values()):
                return
            await asyncio.sleep(0.2)


async def lent(stubs: Stubs, items: int = 200, view: str = "html") -> list[tuple[list[str], work_pb2.Batch]]:
    """(page, batch) pairs of one lease."""
    capacity = [work_pb2.LeaseRequest.Capacity(view=view, items=items)]
    request = work_pb2.LeaseRequest(executor="test", capacity=capacity)
    return [(batch.names.decode().split("\0"), batch) for batch in (await stubs.work.Lease(request)).batches]


async def completed(stubs: Stubs, batch: work_pb2.Batch) -> int:
    """The status of a completion of the whole batch."""
    hashes = b"".join(batch.rendered_version for _ in packed.decode_ids(batch.ids))
    completion = work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, done=batch.ids, hashes=hashes)
    response = await stubs.work.Complete(work_pb2.CompleteRequest(completions=[completion]))
    return int(response.results[0].status.code)


async def rendered(engines: Sequence[Stubs], done: Counter[str], pages: int) -> None:
    """Works at all engines until so many completions of pages are acknowledged."""
    async with asyncio.timeout(PATIENCE_S):
        while sum(done.values()) < pages:
            for stubs in engines:
                for names, batch in await lent(stubs):
                    assert await completed(stubs, batch) == 0
                    done.update(names)


async def summarised(engines: Sequence[Stubs], change_id: str) -> Counter[str]:
    """Works at all engines until the root is done; answers how often each summary was rendered."""
    done: Counter[str] = Counter()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for stubs in engines:
                for names, batch in await lent(stubs, view="summary"):
                    assert await completed(stubs, batch) == 0
                    done.update(names)
            root = await engines[0].propagation.GetChange(pb.GetChangeRequest(id=change_id))
            if root.state == pb.Root.STATE_DONE:
                assert root.progress.done == PAGES + SUMMARIES
                return done


async def rendered_over_moves(
    engines: Callable[[], Sequence[Stubs]], done: Counter[str], finished: Callable[[], Awaitable[object]]
) -> None:
    """Works at engines that come, go and give shards away, until that is so. Counts what was acknowledged."""
    async with asyncio.timeout(PATIENCE_S):
        while not await finished():
            for stubs in engines():
                try:
                    for names, batch in await lent(stubs):
                        code = await completed(stubs, batch)
                        assert code in (0, grpc.StatusCode.ABORTED.value[0], grpc.StatusCode.UNAVAILABLE.value[0])
                        done.update(names if code == 0 else ())
                except grpc.aio.AioRpcError as error:
                    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error


async def grown(engines: Sequence[Stubs], shards: int) -> None:
    """Waits until the engines that are there lead all of so many shards, and nothing grows any more."""
    async with asyncio.timeout(2 * PATIENCE_S):
        while True:
            try:
                states = [
                    (await stubs.admin.GetShards(admin_pb2.GetShardsRequest(), timeout=5)).shards for stubs in engines
                ]
                if all((state.shards, len(state.led), state.growing_to) == (shards, shards, 0) for state in states):
                    return
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), error
            await asyncio.sleep(0.2)
