"""The pace: how large slices are by what pages cost, and who waits for whom, on a virtual clock."""

import asyncio

from libs.clock.virtual import VirtualClock
from services.propagation.executor.pace import (
    CALM_AT_MOST_S,
    LEAST_ITEMS,
    QUIET_S,
    UNMEASURED_ITEMS,
    Pace,
    PacedCaches,
    PacedDocuments,
)


class Cpu:
    """A thread's CPU seconds, as the test says."""

    def __init__(self):
        self.used_s = 100.0

    def __call__(self):
        return self.used_s


def paced(test, **options):
    """Runs the test with a pace of at most 200 pages a slice and 5 ms each."""
    clock, cpu = VirtualClock(), Cpu()

    async def main():
        await test(Pace(200, options.get("slice_s", 0.005), options.get("hold"), cpu), cpu, clock)

    clock.run(main())


def rendered(pace, cpu, pages, cost_s):
    pace.begin()
    cpu.used_s += pages * cost_s
    pace.end(pages)


def test_slices_follow_what_pages_cost_the_loop():
    async def test(pace, cpu, clock):
        assert pace.slice_items() == UNMEASURED_ITEMS
        rendered(pace, cpu, 200, 0.0002)
        assert pace.slice_items() in (99, 100)
        for _ in range(30):
            rendered(pace, cpu, 200, 0.00001)
        assert pace.slice_items() == 200
        for _ in range(30):
            rendered(pace, cpu, 200, 0.01)
        assert pace.slice_items() == LEAST_ITEMS

    paced(test)


def test_where_first_turns_come_slices_are_half_as_large():
    async def test(pace, cpu, clock):
        rendered(pace, cpu, 200, 0.0001)
        pace.begin_first()
        pace.end_first()
        assert pace.slice_items() == 50
        await asyncio.sleep(QUIET_S - 0.01)
        assert pace.slice_items() == 50
        await asyncio.sleep(0.02)
        assert pace.slice_items() == 200

    paced(test)


def test_without_a_budget_slices_are_as_large_as_they_may_be():
    async def test(pace, cpu, clock):
        rendered(pace, cpu, 400, 0.01)
        assert pace.slice_items() == 200

    paced(test, slice_s=0.0)


def test_what_the_loop_does_between_slices_is_no_cost_of_pages():
    async def test(pace, cpu, clock):
        for _ in range(40):
            rendered(pace, cpu, 100, 0.0001)
            cpu.used_s += 7.0
        assert pace.slice_items() == UNMEASURED_ITEMS  # never 200 pages in a row: not measured
        for _ in range(10):
            cpu.used_s += 7.0
            rendered(pace, cpu, 200, 0.0001)
        assert pace.slice_items() == 200

    paced(test)


def test_slices_side_by_side_are_measured_together():
    async def test(pace, cpu, clock):
        pace.begin()
        pace.begin()
        cpu.used_s += 0.02
        pace.end(100)
        pace.end(100)
        assert pace.slice_items() == 200

    paced(test)


class Told:
    """A store and a cache that note when they were asked."""

    def __init__(self, clock):
        self.clock = clock
        self.at = []

    async def put(self, namespace, item_key, outputs, version):
        self.at.append(("put", self.clock.monotonic()))
        return [None for _ in outputs]

    async def fetch(self, namespace, records, *, strong=False):
        self.at.append(("fetch", self.clock.monotonic()))
        return [None for _ in records]

    async def purge(self, purges):
        self.at.append(("purge", self.clock.monotonic()))
        return {}


def test_puts_and_purges_wait_until_first_turns_are_done_and_reads_do_not():
    async def test(pace, cpu, clock):
        told = Told(clock)
        documents, caches = PacedDocuments(told, pace), PacedCaches(told, pace)
        pace.begin_first()
        pace.begin_first()
        async with asyncio.TaskGroup() as group:
            group.create_task(documents.put("n", b"", [], b""))
            group.create_task(caches.purge([]))
            group.create_task(documents.fetch("n", []))
            await asyncio.sleep(0.01)
            pace.end_first()
            await asyncio.sleep(0.01)
            assert told.at == [("fetch", 0.0)]
            pace.end_first()
        assert [what for what, _ in told.at] == ["fetch", "put", "purge"]
        assert {round(at, 3) for _, at in told.at[1:]} == {0.02}

    paced(test)


def test_a_first_turn_that_takes_long_is_waited_for_a_moment_only():
    async def test(pace, cpu, clock):
        pace.begin_first()
        await pace.turn()
        assert round(clock.monotonic(), 3) == CALM_AT_MOST_S
        assert pace.first == 1
        pace.begin_first()  # the next one is waited for again
        pace.end_first()
        assert pace.first == 1
        await pace.turn()
        assert round(clock.monotonic(), 3) == 2 * CALM_AT_MOST_S

    paced(test)


def test_targets_are_held_while_first_turns_are_under_way_and_not_longer():
    held = []

    async def test(pace, cpu, clock):
        pace.begin_first()
        pace.begin_first()
        pace.end_first()
        assert held == [True]
        pace.end_first()
        assert held == [True, False]
        pace.begin_first()
        await pace.turn()
        assert held == [True, False, True, False]
        pace.end_first()
        assert held == [True, False, True, False]

    paced(test, hold=held.append)
