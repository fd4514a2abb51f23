"""The worker's loop against an engine that the test plays: leases lost, engines away, views changed, orderly ends."""

import asyncio
import sys
import types

import pytest

from libs.render.types import RenderResult
from services.propagation.executor.worker import Worker, WorkerOptions
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed
from wellspring_client.errors import Aborted, Unavailable

OPTIONS = WorkerOptions("test", slice_items=2, slices=2, leases=1, wait_s=0.05, heartbeat_s=0.02)


class Engine:
    """Gives the batches it was told to, and remembers what comes back."""

    def __init__(self, *batches):
        self.batches = list(batches)
        self.completions = []
        self.extended = 0
        self.lost = set()
        self.error = None
        self.revision = 1
        self.views_read = 0
        self.view = work_pb2.View(name="html", resource_prefixes=["p/"], source_prefix="p/")
        self.view.render.entry_point.function = "worker_test_renderer:render"
        self.older = []
        self.changed = asyncio.Event()

    async def lease(self, request):
        if self.error:
            raise self.error
        response = work_pb2.LeaseResponse(views_revision=self.revision)
        if self.batches:
            response.batches.append(self.batches.pop(0))
        else:
            await asyncio.sleep(0.01)
        return response

    async def complete(self, request):
        self.completions += request.completions
        self.changed.set()
        response = work_pb2.CompleteResponse()
        for _ in request.completions:
            response.results.add()
        return response

    async def extend(self, request):
        self.extended += 1
        response = work_pb2.ExtendResponse()
        for held in request.leases:
            status = response.results.add().status
            if held.lease_id in self.lost:
                status.code = Aborted.code
        return response

    async def views(self):
        self.views_read += 1
        return work_pb2.GetViewsResponse(views=[self.view], revision=self.revision, older=self.older)

    def done(self):
        return sorted(i for c in self.completions for i in packed.decode_ids(c.done).tolist())

    def released(self):
        return sorted(i for c in self.completions for i in packed.decode_ids(c.released).tolist())


class Nothing:
    async def fetch(self, namespace, records):
        return [None for _ in records]

    async def put(self, namespace, item_key, outputs, version):
        return [None for _ in outputs]

    async def purge(self, purges):
        return {}


def batch(number, count, view="html"):
    return work_pb2.Batch(
        lease_id=number,
        fencing=number,
        view=view,
        ids=packed.encode_ids(range(count)),
        names=packed.encode_names([f"p/{n}" for n in range(count)]),
        rendered_version=bytes(16),
        accepted_hashes=bytes(16 * count),
    )


@pytest.fixture
def renderer(monkeypatch):
    module = types.ModuleType("worker_test_renderer")

    async def render(request):
        return RenderResult(request.resource.encode(), "text/plain", [("p/T", "content"), ("p/L", "existence")])

    module.render = render
    monkeypatch.setitem(sys.modules, "worker_test_renderer", module)
    return module


def run(test, *batches, options=OPTIONS):
    async def main():
        engine = Engine(*batches)
        worker = Worker(options, engine, Nothing(), Nothing())
        task = asyncio.create_task(worker.run())
        async with asyncio.timeout(120):
            await test(engine, worker)
            worker.stop()
            await task

    asyncio.run(main())


async def until(engine, condition):
    while True:
        if condition():
            return
        engine.changed.clear()
        await asyncio.wait([asyncio.ensure_future(engine.changed.wait())], timeout=0.02)


def test_every_item_of_a_batch_is_completed_once_with_its_dependencies(renderer):
    async def test(engine, worker):
        await until(engine, lambda: len(engine.done()) == 7)
        assert engine.done() == list(range(7)) and len(engine.completions) <= 4
        for completion in engine.completions:
            declared = completion.packed_dependencies
            count = len(packed.decode_ids(completion.done))
            assert declared.dependents == completion.done and len(completion.hashes) == 16 * count
            assert declared.inputs == b"p/T\0p/L\texistence"
            assert packed.decode_counts(declared.counts).tolist() == [2] * count
            assert packed.decode_counts(declared.input_index).tolist() == [0, 1] * count
        await until(engine, lambda: worker.counters.done == worker.counters.changed == 7)

    run(test, batch(1, 7))


def test_a_lost_lease_ends_its_work(renderer):
    async def test(engine, worker):
        started = asyncio.Event()

        async def render(request):
            started.set()
            await asyncio.sleep(60)

        renderer.render = render
        engine.batches.append(batch(1, 4))
        await started.wait()
        engine.lost.add(1)
        await until(engine, lambda: worker.leases_held == 0)
        assert not engine.completions

    run(test)


def test_stopping_finishes_what_has_begun_and_gives_back_the_rest(renderer):
    async def test(engine, worker):
        started, go_on = asyncio.Event(), asyncio.Event()

        async def render(request):
            started.set()
            await go_on.wait()
            return RenderResult(b"x", "text/plain")

        renderer.render = render
        engine.batches.append(batch(1, 9))
        await started.wait()
        worker.stop()
        go_on.set()
        await until(engine, lambda: len(engine.done()) + len(engine.released()) == 9)
        assert sorted(engine.done() + engine.released()) == list(range(9)) and len(engine.released()) >= 5

    run(test)


def test_an_engine_that_is_away_is_asked_again(renderer):
    async def test(engine, worker):
        await until(engine, lambda: worker.connected)
        engine.error = Unavailable("away")
        await until(engine, lambda: not worker.connected)
        engine.error = None
        engine.batches.append(batch(1, 2))
        await until(engine, lambda: engine.done() == [0, 1])
        assert worker.connected

    run(test)


def test_views_that_change_are_read_again(renderer):
    async def test(engine, worker):
        await until(engine, lambda: engine.views_read == 1)
        engine.view.render.entry_point.function = "worker_test_renderer:other"

        async def other(request):
            return RenderResult(b"other", "text/plain")

        renderer.other = other
        engine.revision = 2
        await until(engine, lambda: engine.views_read == 2)
        engine.batches.append(batch(1, 1))
        await until(engine, lambda: engine.done() == [0])
        assert not engine.completions[-1].packed_dependencies.inputs

    run(test)


def test_a_view_that_cannot_be_rendered_here_is_given_back(renderer):
    async def test(engine, worker):
        engine.view.render.entry_point.function = "no_such_module:render"
        await until(engine, lambda: engine.views_read == 1)
        engine.batches.append(batch(1, 3))
        await until(engine, lambda: engine.released() == [0, 1, 2])

    run(test)


def test_heartbeats_come_while_a_batch_is_held(renderer):
    async def test(engine, worker):
        async def render(request):
            while engine.extended < 2:  # noqa: ASYNC110 - the engine tells nobody
                await asyncio.sleep(0.01)
            return RenderResult(b"x", "text/plain")

        renderer.render = render
        engine.batches.append(batch(1, 2))
        await until(engine, lambda: len(engine.done()) == 2)

    run(test)


def test_n30_a_batch_is_rendered_with_the_view_of_its_revision(renderer):
    rendered = []

    def module(name, word):
        async def render(request):
            rendered.append((word, request.resource))
            return RenderResult(word.encode(), "text/plain")

        made = types.ModuleType(name)
        made.render = render
        sys.modules[name] = made

    module("worker_test_old", "old")
    module("worker_test_new", "new")

    def view(name, function, revision):
        made = work_pb2.View(name=name, resource_prefixes=["p/"], source_prefix="p/", revision=revision)
        made.render.entry_point.function = f"worker_test_{function}:render"
        return made

    async def test(engine, worker):
        engine.view = view("html", "new", 2)
        engine.older = [view("html", "old", 1), view("retired", "old", 1)]
        engine.revision = 2
        for number, (name, revision) in enumerate([("html", 1), ("html", 2), ("retired", 1)], start=10):
            one = batch(number, 1, name)
            one.views_revision = revision
            one.names = f"p/{name}/{revision}".encode()
            engine.batches.append(one)
        await until(engine, lambda: len(rendered) == 3)
        assert sorted(rendered) == [("new", "p/html/2"), ("old", "p/html/1"), ("old", "p/retired/1")]
        await until(engine, lambda: len(engine.done()) == 3)
        assert {"html", "retired"} == set(worker.limits()), "a retired view is asked for while it is at work"

    run(test)
