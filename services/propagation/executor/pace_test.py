"""The pace: how large slices are by what pages cost, and who waits for whom, on a virtual clock."""

import asyncio

import pytest

from libs.clock.virtual import VirtualClock
from services.propagation.executor.pace import (
    CALM_AT_MOST_S,
    LEAST_ITEMS,
    QUIET_S,
    SLICE_BYTES,
    STORE_APART_S,
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


def rendered(pace, cpu, pages, cost_s, page_bytes=0):
    pace.begin()
    cpu.used_s += pages * cost_s
    pace.end(pages, pages * page_bytes)


def test_slices_of_large_pages_are_small_whatever_they_cost():
    async def test(pace, cpu, clock):
        rendered(pace, cpu, 200, 0.00001, SLICE_BYTES // 50)
        assert pace.slice_items() == 50
        for _ in range(30):
            rendered(pace, cpu, 200, 0.00001, SLICE_BYTES)
        assert pace.slice_items() == LEAST_ITEMS
        for _ in range(60):
            rendered(pace, cpu, 200, 0.00001, 100)
        assert pace.slice_items() == 200

    paced(test)


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
        pace.begin_first()  # others have had no time yet
        await pace.turn()
        assert round(clock.monotonic(), 3) == CALM_AT_MOST_S
        await asyncio.sleep(CALM_AT_MOST_S)
        pace.begin_first()  # now they have: this one is waited for again
        pace.end_first()
        assert pace.first == 2
        await pace.turn()
        assert round(clock.monotonic(), 3) == round(3 * CALM_AT_MOST_S, 3)

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
        pace.begin_first()
        assert held == [True, False, True, False], "others have had no time yet"

    paced(test, hold=held.append)


class Slow(Told):
    """A store that takes a while."""

    def __init__(self, clock, takes_s):
        super().__init__(clock)
        self.takes_s = takes_s
        self.running = self.most = 0

    async def put(self, namespace, item_key, outputs, version):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.takes_s)
            return await super().put(namespace, item_key, outputs, version)
        finally:
            self.running -= 1


async def stored(pace, store, puts):
    documents = PacedDocuments(store, pace)
    async with asyncio.TaskGroup() as group:
        for _ in range(puts):
            group.create_task(documents.put("n", b"", [], b""))


def test_slices_are_stored_one_after_the_other():
    async def test(pace, cpu, clock):
        store = Slow(clock, 0.004)
        await stored(pace, store, 4)
        assert store.most == 1 and len(store.at) == 4

    paced(test)


def test_a_store_that_is_far_away_is_not_waited_for():
    async def test(pace, cpu, clock):
        store, began_s = Slow(clock, 1.0), clock.monotonic()
        await stored(pace, store, 10)
        assert store.most == 10
        assert round(clock.monotonic() - began_s, 3) == 1.0 + 9 * STORE_APART_S

    paced(test)


def test_a_put_that_waits_for_the_one_before_waits_for_first_turns_too():
    async def test(pace, cpu, clock):
        store = Slow(clock, 0.01)
        async with asyncio.TaskGroup() as group:
            group.create_task(stored(pace, store, 3))
            await asyncio.sleep(0.005)
            pace.begin_first()
            await asyncio.sleep(0.05)
            assert len(store.at) == 1, "what had been sent before was answered, and nothing was sent after it"
            pace.end_first()
        assert [round(at, 3) for _, at in store.at] == [0.01, 0.065, 0.075]

    paced(test)


def test_puts_that_fail_or_are_cancelled_hold_up_no_other():
    class Broken(Told):
        async def put(self, namespace, item_key, outputs, version):
            raise ValueError("no store")

    async def test(pace, cpu, clock):
        store = Slow(clock, 5.0)
        documents = PacedDocuments(store, pace)
        for ends_s in (STORE_APART_S / 2, STORE_APART_S * 2):
            one, other = (asyncio.create_task(documents.put("n", b"", [], b"")) for _ in range(2))
            await asyncio.sleep(ends_s)
            one.cancel()
            other.cancel()
            await asyncio.gather(one, other, return_exceptions=True)
        for _ in range(2):
            with pytest.raises(ValueError, match="no store"):
                await PacedDocuments(Broken(clock), pace).put("n", b"", [], b"")
        assert await PacedDocuments(Told(clock), pace).put("n", b"", [b"page"], b"") == [None]

    paced(test)


def test_a_stream_of_first_turns_stops_nothing_for_ever():
    """Each is over at once and the next is there: between two of them all else goes on."""

    async def test(pace, cpu, clock):
        store, edits = Slow(clock, 0.001), 0
        async with asyncio.TaskGroup() as group:
            storing = group.create_task(stored(pace, store, 20))
            while not storing.done() and edits < 200:
                pace.begin_first()
                await asyncio.sleep(0.01)
                pace.end_first()
                edits += 1
                await asyncio.sleep(0)
        assert edits < 200

    paced(test)


def test_first_turns_that_never_end_leave_half_of_the_time_to_all_else():
    """The next one is always begun before the last one is over."""

    async def test(pace, cpu, clock):
        free_s = 0.0
        pace.begin_first()
        while clock.monotonic() < 20 * CALM_AT_MOST_S:
            await asyncio.sleep(0.001)
            pace.begin_first()
            pace.end_first()
            free_s += 0.001 * pace._calm.is_set()
        assert 0.4 < free_s / clock.monotonic() < 0.6

    paced(test)
