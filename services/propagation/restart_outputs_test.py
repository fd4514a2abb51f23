"""kill -9 of the real server while outputs are streamed and pages rendered again: no output is missed, no page left."""

import asyncio
from random import Random

import grpc
import pytest

from services.propagation.simulation.processes import DEPENDENTS, Executor, Process, Stubs, T, connected, edit, load
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb


@pytest.fixture
def process(tmp_path):
    started = Process(tmp_path / "data")
    started.start()
    yield started
    started.kill()


class Reader:
    """Follows the stream over kills, from the token that it had last."""

    def __init__(self):
        self.told = {}
        self.events = 0
        self.token = ""

    async def read(self, stubs, enough):
        """Until `enough` answers that there is."""
        request = pb.WatchChangesRequest(resume_token=self.token, from_beginning=not self.token, include_outputs=True)
        async for answer in stubs.propagation.WatchChanges(request):
            for event in answer.events:
                self.told[event.change.resource] = event
                self.events += 1
            self.token = answer.resume_token or self.token
            if enough():
                return


async def until_killed(process, reader, executor, after_s):
    async with connected(process) as channel:
        stubs = Stubs(channel)

        async def work():
            while True:
                await executor.round(stubs)

        tasks = [asyncio.create_task(work()), asyncio.create_task(reader.read(stubs, lambda: False))]
        await asyncio.sleep(after_s)
        process.kill()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, grpc.aio.AioRpcError) for result in results), results


async def until_done(process, reader, executor, change_id, outputs):
    async with connected(process) as channel:
        stubs = Stubs(channel)
        reading = asyncio.create_task(reader.read(stubs, lambda: len(reader.told) >= outputs))
        while (root := await stubs.propagation.GetChange(pb.GetChangeRequest(id=change_id))).state == 1:
            await executor.round(stubs)
        async with asyncio.timeout(300):
            await reading
        return root


def test_streamed_over_kills_then_all_rendered_again(process):
    seed = 5
    print("seed", seed)
    rng = Random(seed)
    executor, reader = Executor(), Reader()

    async def prepare():
        async with connected(process) as channel:
            await load(Stubs(channel))
            await edit(Stubs(channel), 1)

    async def rerender():
        async with connected(process) as channel:
            request = admin_pb2.RerenderRequest(id="again", view="html", publish_unchanged=True)
            return await Stubs(channel).admin.Rerender(request)

    asyncio.run(prepare())
    for _ in range(3):
        asyncio.run(until_killed(process, reader, executor, rng.uniform(0.1, 0.3)))
        process.start()
    root = asyncio.run(until_done(process, reader, executor, "edit1", DEPENDENTS + 1))
    assert root.state == pb.Root.STATE_DONE
    outputs = {name: event for name, event in reader.told.items() if name != T}
    assert len(outputs) == DEPENDENTS and reader.told[T].change.id == "edit1"
    assert all(list(event.change.cause.chain) == ["edit1"] for event in outputs.values())
    first = {name: event.output_hash for name, event in outputs.items()}
    # Told again is only what the last answer before a kill held.
    assert reader.events <= DEPENDENTS + 1 + 4 * 1_200

    executor.done[:] = 0
    assert asyncio.run(rerender()).pages == DEPENDENTS
    asyncio.run(until_killed(process, reader, executor, 0.2))
    process.start()
    assert asyncio.run(rerender()).pages == DEPENDENTS
    root = asyncio.run(until_done(process, reader, executor, "again", 0))
    assert root.progress.total == root.progress.done == DEPENDENTS
    assert executor.done.max() == 1 and executor.done.sum() >= DEPENDENTS - 4_000

    async def caught_up():
        def enough():
            return all(reader.told[name].output_hash != first[name] for name in first)

        async with connected(process) as channel, asyncio.timeout(300):
            await reader.read(Stubs(channel), enough)

    asyncio.run(caught_up())
    assert all(reader.told[name].change.cause.chain[0] == "again" for name in first)
