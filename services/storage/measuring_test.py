"""The figures of each namespace: what came, what was refused and why, what is held; none that the store cannot tell."""

import asyncio
import dataclasses

import pytest
from prometheus_client import CollectorRegistry

from libs.errors.errors import Unavailable, WellspringError
from services.storage.conformance.kit import Case, Clock
from services.storage.domain.model import Mode
from services.storage.domain.namespace import Deployment, Quota, Settings
from services.storage.measuring import Measures
from services.storage.registry import Registry
from services.storage.store.memory import memory_store


class Away:
    """A store that does not answer for one namespace."""

    def __init__(self, inside):
        self.inside = inside
        self.silent = ""

    def __getattr__(self, name):
        return getattr(self.inside, name)

    async def usage(self, namespace):
        if namespace.name == self.silent:
            raise Unavailable("nobody is there")
        return await self.inside.usage(namespace)


class World:
    """A registry on a clock that stands, and its metrics."""

    def __init__(self):
        clock = Clock()
        self.store = Away(memory_store(clock))
        self.case = Case(self.store.inside, clock, lambda: None)
        self.registry = Registry(self.store, Deployment(), clock, lambda: 0.0)
        self.measures = Measures(self.registry, self.store)
        self.metrics = CollectorRegistry()
        self.metrics.register(self.measures)

    def value(self, name, namespace="a", **labels):
        return self.metrics.get_sample_value(f"wellspring_storage_{name}", {"namespace": namespace, **labels})


def test_what_comes_is_counted_and_what_is_refused_by_the_quota_that_was_spent():
    async def story():
        world = World()
        quota = Quota(max_reads_per_s=3, max_writes_per_s=5, max_concurrent=2)
        await world.registry.create(Settings("a", Mode.LWW, quota=quota))
        await world.registry.create(Settings("b", Mode.LWW))
        enter = world.registry.enter
        gates = [enter("a", "", write=True, count=5), enter("a", "", write=False)]
        assert world.value("in_flight") == 2
        with pytest.raises(WellspringError):
            enter("a", "", write=False)
        for gate in gates:
            gate.leave()
        for _ in range(2):
            with pytest.raises(WellspringError):
                enter("a", "", write=True)
        entered = {}
        for _ in range(2):
            world.registry.enter_batch(entered, "a", "", write=False)
            world.registry.enter_batch(entered, "b", "", write=True)
        with pytest.raises(WellspringError):
            world.registry.enter_batch(entered, "a", "", write=False)
        told = {name: world.value(name) for name in ("reads_total", "writes_total", "in_flight")}
        assert told == {"reads_total": 3, "writes_total": 5, "in_flight": 1}
        refused = {
            quota: world.value("refused_total", quota=quota) for quota in world.registry.gate("a").traffic.refused
        }
        assert refused == {"max_concurrent": 1, "max_writes_per_s": 2, "max_reads_per_s": 1}
        assert (world.value("reads_total", "b"), world.value("writes_total", "b")) == (0, 2)

    asyncio.run(story())


def test_counts_go_on_when_settings_change_and_begin_anew_with_a_new_namespace():
    async def story():
        world = World()
        await world.registry.create(Settings("a", Mode.LWW))
        world.registry.enter("a", "", write=True).leave()
        await world.registry.update("a", "", lambda settings: dataclasses.replace(settings, description="other"))
        world.registry.enter("a", "", write=True).leave()
        assert world.value("writes_total") == 2
        await world.registry.delete("a", "", 0)
        world.case.clock.now_us += 1
        assert await world.registry.purge_due() == 1
        assert world.value("writes_total") is None
        await world.registry.create(Settings("a", Mode.LWW))
        assert world.value("writes_total") == 0

    asyncio.run(story())


def test_what_is_held_is_told_beside_its_bounds_and_left_out_when_the_store_does_not_answer():
    async def story():
        world = World()
        space = await world.registry.create(Settings("a", Mode.LWW, quota=Quota(max_bytes=1000, max_records=7)))
        await world.registry.create(Settings("b", Mode.LWW))
        assert world.value("records") is None
        await world.case.put(space, b"r", {b"1": b"x", b"2": b"y"})
        await world.measures.look()
        usage = await world.store.usage(space)
        assert (world.value("records"), world.value("items"), world.value("bytes")) == (1, 2, usage.size_bytes)
        assert (world.value("quota_records"), world.value("quota_bytes")) == (7, 1000)
        assert (world.value("records", "b"), world.value("quota_records", "b")) == (0, None)
        world.store.silent = "a"
        await world.measures.look()
        assert (world.value("records"), world.value("bytes"), world.value("items", "b")) == (None, None, 0)

    asyncio.run(story())
