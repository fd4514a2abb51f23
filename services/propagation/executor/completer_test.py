"""When the engine is told: small reports gathered, first turns at once; on a virtual clock."""

import asyncio
from functools import partial

from libs.clock.virtual import VirtualClock
from services.propagation.executor.completer import GATHER_ITEMS, GATHER_S, LATE_S, Completer, Counters
from services.propagation.executor.pages import Item
from services.propagation.executor.slices import Report
from wellspring.propagation.v1 import work_pb2


class Engine:
    """Answers after `takes_s`, and notes when it was asked and for which leases."""

    def __init__(self, clock, takes_s=0.0):
        self.clock = clock
        self.takes_s = takes_s
        self.asked = []

    async def complete(self, request):
        items = sum(len(one.hashes) // 16 for one in request.completions)
        self.asked.append((round(self.clock.monotonic(), 3), [one.lease_id for one in request.completions], items))
        await asyncio.sleep(self.takes_s)
        response = work_pb2.CompleteResponse()
        for _ in request.completions:
            response.results.add()
        return response


def report(first, count):
    made = Report()
    made.done = [(Item(number, f"p/{number}", bytes(16)), bytes(16), None) for number in range(first, first + count)]
    return made


def told(test, takes_s=0.0):
    clock = VirtualClock()
    counters = Counters()

    async def main():
        engine = Engine(clock, takes_s)
        completer = Completer(engine, counters)
        running = asyncio.create_task(completer.run())
        await asyncio.sleep(0)
        await test(completer, engine)
        await asyncio.sleep(1)
        running.cancel()
        return engine.asked

    return clock.run(main()), counters


def after():
    """What a report's owner does."""


def test_small_reports_are_gathered_for_a_moment():
    async def test(completer, engine):
        for at in range(3):
            completer.tell(work_pb2.Batch(lease_id=1), report(10 * at, 10), after, more=True)
            await asyncio.sleep(0.005)

    asked, counters = told(test)
    assert asked == [(GATHER_S, [1], 30)]
    assert counters.done == 30


def test_enough_of_them_are_sent_at_once():
    async def test(completer, engine):
        half = GATHER_ITEMS // 2
        for at in range(2):
            completer.tell(work_pb2.Batch(lease_id=1), report(half * at, half), after, more=True)
        await asyncio.sleep(0.005)
        completer.tell(work_pb2.Batch(lease_id=1), report(5_000, 1), after, more=True)

    asked, _ = told(test)
    assert asked == [(0.0, [1], GATHER_ITEMS), (round(0.005 + GATHER_S, 3), [1], 1)]


def test_the_last_report_takes_the_gathered_ones_along():
    async def test(completer, engine):
        completer.tell(work_pb2.Batch(lease_id=1), report(0, 10), after, more=True)
        await asyncio.sleep(0.005)
        completer.tell(work_pb2.Batch(lease_id=2), report(10, 10), after)

    asked, _ = told(test)
    assert asked == [(0.005, [1, 2], 20)]


def test_a_first_turn_is_told_beside_a_request_that_is_under_way():
    async def test(completer, engine):
        completer.tell(work_pb2.Batch(lease_id=1), report(0, 10), after)
        await asyncio.sleep(0.1)
        completer.tell(work_pb2.Batch(lease_id=2), report(10, 10), after)
        completer.tell(work_pb2.Batch(lease_id=3), report(20, 1), after, first=True)

    asked, counters = told(test, takes_s=0.5)
    assert asked == [(0.0, [1], 10), (0.1, [3], 1), (0.5, [2], 10)]
    assert counters.done == 21


def test_an_engine_that_stands_still_is_waited_for_beside_the_next_requests():
    answered = []

    async def test(completer, engine):
        completer.tell(work_pb2.Batch(lease_id=1), report(0, 10), partial(answered.append, 1))
        await asyncio.sleep(0.1)
        engine.takes_s = 0.0
        for lease in (2, 3):
            completer.tell(work_pb2.Batch(lease_id=lease), report(10 * lease, 10), partial(answered.append, lease))
        await asyncio.sleep(LATE_S)
        assert sorted(answered) == [2, 3]
        await asyncio.sleep(10)

    asked, counters = told(test, takes_s=10.0)
    assert asked == [(0.0, [1], 10), (LATE_S, [2, 3], 20)]
    assert counters.done == 30 and sorted(answered) == [1, 2, 3]


def test_leases_of_two_lives_of_the_engine_are_told_apart():
    async def test(completer, engine):
        completer.tell(work_pb2.Batch(lease_id=1, fencing=1), report(0, 10), after, more=True)
        completer.tell(work_pb2.Batch(lease_id=1, fencing=2), report(0, 10), after)

    asked, _ = told(test)
    assert asked == [(0.0, [1, 1], 20)]


def test_each_report_is_answered_for_once():
    answered = []

    async def test(completer, engine):
        for at in range(4):
            batch = work_pb2.Batch(lease_id=at)
            completer.tell(batch, report(at, 1), partial(answered.append, at), first=at == 2, more=at < 3)

    told(test)
    assert sorted(answered) == [0, 1, 2, 3]
