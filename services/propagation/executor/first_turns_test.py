"""First turns in an executor, against an engine that the test plays: asked for always, begun at once."""

import asyncio
import sys
import types

import pytest

from libs.render.types import RenderResult
from services.propagation.executor.worker import FIRST_CALLS, MOST_FIRST, Worker, WorkerOptions
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed
from wellspring_client.errors import Aborted


class Engine:
    """What is in `first` goes to the calls for first turns, what is in `ordinary` to the others; a call that gets
    nothing waits for ever."""

    def __init__(self):
        self.first, self.ordinary, self.done = [], [], []
        self.asking = 0
        self.lost = set()
        self.changed = asyncio.Event()

    def give(self, *batches):
        self.first.append(batches)
        self.changed.set()

    async def lease(self, request):
        given = self.first if request.first_turns else self.ordinary
        self.asking += request.first_turns
        try:
            await until(self, lambda: given)
        finally:
            self.asking -= request.first_turns
        return work_pb2.LeaseResponse(views_revision=1, batches=given.pop(0))

    async def complete(self, request):
        response = work_pb2.CompleteResponse()
        for completion in request.completions:
            self.done = sorted(self.done + packed.decode_ids(completion.done).tolist())
            response.results.add()
        self.changed.set()
        return response

    async def extend(self, request):
        response = work_pb2.ExtendResponse()
        for held in request.leases:
            status = response.results.add().status
            if held.lease_id in self.lost:
                status.code = Aborted.code
        return response

    async def views(self):
        view = work_pb2.View(name="html", resource_prefixes=["p/"], source_prefix="p/")
        view.render.entry_point.function = "first_turns_test_renderer:render"
        return work_pb2.GetViewsResponse(views=[view], revision=1)


class Nothing:
    async def fetch(self, namespace, records):
        return [None for _ in records]

    async def put(self, namespace, item_key, outputs, version):
        return [None for _ in outputs]

    async def purge(self, purges):
        return {}


def batch(number, *pages):
    return work_pb2.Batch(
        lease_id=number,
        fencing=number,
        view="html",
        ids=packed.encode_ids(pages),
        names=packed.encode_names([f"p/{page}" for page in pages]),
        rendered_version=bytes(16),
        accepted_hashes=bytes(16 * len(pages)),
    )


@pytest.fixture
def slow(monkeypatch):
    """The pages whose renders do not end before they are taken out."""
    slow = {}

    async def render(request):
        if request.resource in slow:
            await slow[request.resource].wait()
        return RenderResult(request.resource.encode(), "text/plain")

    module = types.ModuleType("first_turns_test_renderer")
    module.render = render
    monkeypatch.setitem(sys.modules, "first_turns_test_renderer", module)
    return slow


async def until(engine, condition):
    while not condition():
        engine.changed.clear()
        waiting = asyncio.ensure_future(engine.changed.wait())
        await asyncio.wait([waiting], timeout=0.02)
        waiting.cancel()


def served(test):
    """Runs the test with a worker that waits for first turns and has one slot for all else, and stops it."""

    async def main():
        engine = Engine()
        options = WorkerOptions("test", slice_items=1, slices=1, leases=1, heartbeat_s=0.02, reserved_items=5)
        worker = Worker(options, engine, Nothing(), Nothing())
        async with asyncio.timeout(60):
            running = asyncio.create_task(worker.run())
            await until(engine, lambda: engine.asking == FIRST_CALLS)
            await test(engine, worker)
            worker.stop()
            await running

    asyncio.run(main())


def test_first_turns_are_asked_for_apart_and_wait_for_no_slot(slow):
    """The only slot is taken by a render that does not end; a first turn is rendered beside it."""
    ends = slow["p/0"] = asyncio.Event()

    async def test(engine, worker):
        engine.ordinary.append([batch(1, 0)])
        await until(engine, lambda: worker.leases_held == 1)
        engine.give(batch(2, 7))
        await until(engine, lambda: engine.done == [7])
        ends.set()
        await until(engine, lambda: engine.done == [0, 7])

    served(test)


def test_a_first_turn_that_takes_long_keeps_no_other_slice_waiting(slow):
    """First turns have the executor to themselves for a moment, not for as long as their renderer likes."""
    ends = slow["p/7"] = asyncio.Event()

    async def test(engine, worker):
        engine.give(batch(2, 7))
        await until(engine, lambda: worker.leases_held == 1)
        engine.ordinary.append([batch(1, 0, 1, 2)])
        await until(engine, lambda: engine.done == [0, 1, 2])
        ends.set()
        await until(engine, lambda: engine.done == [0, 1, 2, 7])

    served(test)


def test_a_call_that_brought_a_first_turn_is_followed_by_another_at_once(slow):
    """Also while the turn that it brought goes on; and one that brought those of several batches begins all of them."""
    ends = asyncio.Event()
    slow.update((f"p/{page}", ends) for page in range(7, 11))

    async def test(engine, worker):
        engine.give(batch(1, 7), batch(2, 8))
        await until(engine, lambda: worker.leases_held == 2 and engine.asking == FIRST_CALLS)
        engine.give(batch(3, 9))
        engine.give(batch(4, 10))
        # One that waited already goes on waiting; no other joins it while so many are under way.
        await until(engine, lambda: worker.leases_held == MOST_FIRST and engine.asking < FIRST_CALLS)
        ends.set()
        await until(engine, lambda: engine.done == [7, 8, 9, 10])
        await until(engine, lambda: engine.asking == FIRST_CALLS)

    served(test)


def test_a_first_turn_whose_lease_is_lost_is_dropped_and_the_next_one_served(slow):
    slow["p/7"] = asyncio.Event()

    async def test(engine, worker):
        engine.give(batch(1, 7))
        await until(engine, lambda: worker.leases_held == 1)
        engine.lost.add(1)
        await until(engine, lambda: not worker.leases_held)
        for page in range(10, 10 + 2 * MOST_FIRST):
            engine.give(batch(page, page))
            await until(engine, lambda page=page: page in engine.done)
        assert 7 not in engine.done

    served(test)


def test_a_worker_that_stops_waits_for_no_engine_and_finishes_first_turns(slow):
    ends = slow["p/7"] = asyncio.Event()

    async def test(engine, worker):
        engine.give(batch(1, 7))
        await until(engine, lambda: worker.leases_held == 1 and engine.asking == FIRST_CALLS)
        worker.stop()
        await until(engine, lambda: engine.asking == 0)
        assert not engine.done
        ends.set()
        await until(engine, lambda: engine.done == [7])

    served(test)
