"""A slow target and a failing one, on the virtual clock: the worker, its renderers and targets are the shipped code;
the network, the store and the caches are played. The engine is played, or the shipped one over a log.
"""

import asyncio

import pytest

from libs.clock.virtual import VirtualClock
from services.propagation.executor.worker import Worker, WorkerOptions
from services.propagation.simulation.lending import Lending
from services.propagation.targets.breaker import CONSECUTIVE, PROBES
from services.propagation.targets.budget import RetryBudget
from services.propagation.targets.settings import TargetSettings
from services.propagation.targets.targets import Targets
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed

LATENCY_S = 0.5
WIDTH = 32
OPTIONS = WorkerOptions("adaptive", lease_items=400, slice_items=20, slices=4, wait_s=1.0)
MAX_ATTEMPTS = 5
NAMES = ("ill", "well")
PAGES = 14_000
VIEWS = "views:" + "".join(
    f"""
  - name: {name}
    resource_prefixes: [p/{name}/]
    render: {{http: {{url: "http://{name}.test/{{title}}"}}}}
    store: {{namespace: {name}}}
    max_concurrency: 100
    retry: {{max_attempts: {MAX_ATTEMPTS}, initial_backoff: 2s, max_backoff: 60s}}"""
    for name in NAMES
)


class Site:
    """One origin: `latency_s` and `status` of its answers may change; `log` is (when asked, when answered, path)."""

    def __init__(self):
        self.latency_s = LATENCY_S
        self.status = 200
        self.running = self.most_running = 0
        self.asked = []

    def sender(self, on_end):
        site = self

        class Sender:
            def __init__(self):
                self.alarms = {}

            def send(self, exchanges):
                loop = asyncio.get_running_loop()
                for exchange in exchanges:
                    site.asked.append((loop.time(), exchange.data.split(b" ")[1]))
                    site.running += 1
                    site.most_running = max(site.most_running, site.running)
                    self.alarms[exchange] = loop.call_later(site.latency_s, self.answer, exchange, site.status)

            def answer(self, exchange, status):
                del self.alarms[exchange]
                site.running -= 1
                exchange.status, exchange.body = status, b"page"
                on_end([exchange])

            def abort(self, exchange):
                site.running -= 1
                self.alarms.pop(exchange).cancel()

            async def close(self):
                pass

        return Sender()

    def between(self, start_s, end_s):
        return sum(start_s <= at_s < end_s for at_s, _ in self.asked)


class Engine:
    """Two views with an endless supply of pages, until `stop`. A failed page is due again after a backoff that doubles,
    and a dead letter after five attempts."""

    def __init__(self, views):
        self.messages = views
        self.next = {view.name: 0 for view in views}
        self.retries = {view.name: {} for view in views}  # id -> (due, attempts)
        self.leases = {}
        self.done = {view.name: {} for view in views}  # id -> when
        self.attempts, self.dead, self.firsts = {}, [], 0
        self.supply = True

    async def views(self):
        return work_pb2.GetViewsResponse(views=self.messages, revision=1)

    async def lease(self, request):
        loop = asyncio.get_running_loop()
        end_s = loop.time() + 1.0
        while True:
            batches = [b for one in request.capacity if (b := self._batch(one.view, one.items, loop.time()))]
            if batches or loop.time() >= end_s:
                return work_pb2.LeaseResponse(batches=batches, views_revision=1)
            await asyncio.sleep(0.1)

    def _batch(self, view, room, now_s):
        waiting = self.retries[view]
        items = {i: n for i, (due_s, n) in list(waiting.items())[:room] if due_s <= now_s}
        for i in items:
            del waiting[i]
        while self.supply and len(items) < room:
            items[self.next[view]] = 0
            self.next[view] += 1
        if not items:
            return None
        ids = sorted(items)
        lease_id = len(self.leases) + 1
        self.leases[lease_id] = (view, dict(items))
        pairs = [x for n, i in enumerate(ids) if items[i] for x in (n, items[i])]
        return work_pb2.Batch(
            lease_id=lease_id,
            fencing=lease_id,
            view=view,
            ids=packed.encode_ids(ids),
            names=packed.encode_names([f"p/{i}" for i in ids]),
            rendered_version=bytes(16),
            accepted_hashes=bytes(16 * len(ids)),
            attempts=packed.encode_counts(pairs),
        )

    async def complete(self, request):
        now_s = asyncio.get_running_loop().time()
        response = work_pb2.CompleteResponse()
        for completion in request.completions:
            response.results.add()
            view, items = self.leases[completion.lease_id]
            for i in packed.decode_ids(completion.done).tolist():
                assert i in items and i not in self.done[view]
                del items[i]
                self.done[view][i] = now_s
            for i in packed.decode_ids(completion.released).tolist():
                self.retries[view][i] = (now_s, items.pop(i))
            for failure in completion.failures:
                attempts = items.pop(failure.id) + 1
                assert failure.retryable
                if attempts >= MAX_ATTEMPTS:
                    self.dead.append((view, failure.id, failure.reason))
                else:
                    self.retries[view][failure.id] = (now_s + 2.0**attempts, attempts)
        return response

    async def extend(self, request):
        return work_pb2.ExtendResponse(results=[work_pb2.ExtendResponse.Result() for _ in request.leases])

    def finished(self, view):
        return len(self.done[view]) == self.next[view]

    def rate(self, view, start_s, end_s):
        return sum(start_s <= at_s < end_s for at_s in self.done[view].values()) / (end_s - start_s)


class Nothing:
    async def fetch(self, namespace, records):
        return [None for _ in records]

    async def put(self, namespace, item_key, outputs, version):
        return [None for _ in outputs]

    async def purge(self, purges):
        return {}


def view_of(name):
    view = work_pb2.View(name=name, resource_prefixes=["p/"], max_concurrency=100)
    view.render.http.url = f"http://{name}.test/{{title}}"
    view.store.namespace = name
    return view


async def until(condition):
    while True:
        if condition():
            return
        await asyncio.sleep(0.01)


def played(clock):
    return Engine([view_of(name) for name in NAMES])


def on_a_log(clock):
    return Lending(clock, VIEWS, NAMES, PAGES)


def play(script, engine_of=played):
    """Runs script(engine, sites, worker, loop) beside the worker, then stops the supply and waits for the last page."""
    sites = {name: Site() for name in NAMES}
    clock = VirtualClock()

    async def main():
        engine = engine_of(clock)

        def make_sender(settings, on_end):
            return sites[settings.origin.split("/")[2].split(".")[0]].sender(on_end)

        settings = {(o := f"http://{name}.test:80"): TargetSettings(o, max_concurrency=WIDTH) for name in sites}
        worker = Worker(
            OPTIONS, engine, Nothing(), Nothing(), Targets(settings, RetryBudget(), make_sender=make_sender)
        )
        task = asyncio.create_task(worker.run())
        loop = asyncio.get_running_loop()
        await script(engine, sites, worker, loop)
        engine.supply = False
        async with asyncio.timeout(600):
            await until(lambda: all(engine.finished(name) for name in sites))
            worker.stop()
            await task
        assert not engine.dead
        return engine, sites

    return clock.run(main())


@pytest.mark.parametrize("engine_of", [played, on_a_log])
def test_n10(engine_of):
    """Renderer latency x10: concurrency falls within 5 s and recovers; zero drops; the other target does not notice."""
    limits = {}

    async def script(engine, sites, worker, loop):
        async def watch_until(end_s):
            while loop.time() < end_s:
                limits[round(loop.time(), 1)] = worker.limits().get("ill", 0)
                await asyncio.sleep(0.1)

        await watch_until(60)
        sites["ill"].latency_s = 10 * LATENCY_S
        await watch_until(120)
        sites["ill"].latency_s = LATENCY_S
        await watch_until(200)

    engine, _ = play(script, engine_of)
    by_time = sorted(limits.items())
    before = next(limit for at_s, limit in by_time if at_s >= 59)
    fallen = min(limit for at_s, limit in by_time if 60 <= at_s <= 65)
    assert before >= WIDTH / 2 and fallen <= before / 2, (before, fallen)
    assert by_time[-1][1] >= before
    usual, meanwhile = engine.rate("well", 30, 60), engine.rate("well", 62, 120)
    assert meanwhile >= 0.95 * usual, (usual, meanwhile)
    assert engine.rate("ill", 62, 120) > 0


@pytest.mark.parametrize("engine_of", [played, on_a_log])
def test_n11(engine_of):
    """Renderer returns 500 for 100 %: breaker opens, total attempts <= budget, no retry storm at close."""

    async def script(engine, sites, worker, loop):
        ill = sites["ill"]
        await asyncio.sleep(40)
        ill.status = 500
        await asyncio.sleep(60)
        ill.status = 200
        closing = next(target for target in worker.targets.all() if "ill" in target.origin)
        assert not closing.breaker.closed and closing.breaker.opened >= 3
        ill.most_running = 0
        await until(lambda: closing.breaker.closed)
        # As it closes, one request at a time, and one more for each round of good answers.
        assert ill.most_running <= PROBES
        ill.most_running = 0
        await asyncio.sleep(2 * LATENCY_S)
        assert ill.most_running <= PROBES + 1
        await asyncio.sleep(40)

    engine, sites = play(script, engine_of)
    ill = sites["ill"]
    # Left alone from a second after it began to fail: what was under way, and then the probes.
    assert ill.between(40, 100) <= CONSECUTIVE + 2 * WIDTH + PROBES * 20
    assert ill.between(42, 100) <= PROBES * 20
    firsts = len({path for _, path in ill.asked})
    retries = len(ill.asked) - firsts
    seconds = ill.asked[-1][0] - ill.asked[0][0]
    assert retries <= 0.2 * firsts + 10 * seconds
    end_s = ill.asked[-1][0]
    assert ill.between(end_s - 10, end_s) > 100  # back to work
    usual, meanwhile = engine.rate("well", 20, 40), engine.rate("well", 40, 100)
    assert meanwhile >= 0.95 * usual, (usual, meanwhile)


def test_retries_beyond_the_budget_wait_without_an_attempt():
    async def script(engine, sites, worker, loop):
        # Every page fails once in the middle of much good work: the breaker has no cause, the budget has.
        worker.targets.budget = RetryBudget(share=0.0, min_per_s=2)
        await asyncio.sleep(20)
        waiting = engine.retries["ill"]
        waiting.update({10_000_000 + n: (0.0, 1) for n in range(100)})
        engine.next["ill"] += 100
        await asyncio.sleep(20)
        tried = sum(i >= 10_000_000 for i in engine.done["ill"])
        assert 20 <= tried <= 45 and worker.counters.withheld > 0
        worker.targets.budget = RetryBudget()

    play(script)
