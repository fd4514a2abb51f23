"""Long pieces of work: one at a time, behind brief calls, never behind them for ever, and with rests in between."""

import asyncio

import pytest

from libs.clock.clock import SystemClock
from services.propagation.domain.long_work import OF_LATE_S, REST_SHARE, LongWork


class Told:
    """A clock that stands still until it is told; it notes what is slept."""

    def __init__(self):
        self.now_s = 100.0
        self.slept = []
        self.meanwhile = lambda: None

    def time_ns(self):
        return int(self.now_s * 1e9)

    def monotonic(self):
        return self.now_s

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.meanwhile()
        await asyncio.sleep(0)
        self.now_s += seconds


def lately_asked(clock):
    """Long work beside which a brief call has come."""
    work = LongWork(clock)
    with work.brief_call():
        return work


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_piece_waits_for_the_brief_call_that_is_under_way():
    async def main():
        work, done = LongWork(Told()), []
        with work.brief_call(), work.brief_call():
            piece = asyncio.ensure_future(work.turn(lambda: done.append("piece")))
            await turns(5)
            assert done == []
            done.append("calls")
        await asyncio.wait_for(piece, 60)
        assert done == ["calls", "piece"]

    asyncio.run(main())


def test_brief_calls_that_never_end_do_not_stop_it():
    async def main():
        work = LongWork(SystemClock())
        with work.brief_call():
            assert await asyncio.wait_for(work.turn(lambda: "done"), 60) == "done"
            assert await asyncio.wait_for(work.turn(lambda: "again"), 60) == "again"

    asyncio.run(main())


def test_pieces_go_in_order_and_the_loop_rests_in_proportion_within_limits():
    async def main():
        clock, done = Told(), []
        work = lately_asked(clock)

        def piece(name, takes_s):
            clock.now_s += takes_s
            done.append(name)
            return name

        names = [("a", 0.002), ("b", 0.001), ("c", 0.0), ("d", 0.0002), ("e", 0.0004), ("f", 9.0), ("g", 0.0)]
        answers = await asyncio.gather(*(work.turn(lambda one=one: piece(*one)) for one in names))
        assert answers == done == ["a", "b", "c", "d", "e", "f", "g"]
        assert clock.slept == pytest.approx([REST_SHARE * 0.002, REST_SHARE * 0.001, 0.003])

    asyncio.run(main())


def test_a_call_that_comes_in_the_rest_goes_before_the_next_piece():
    async def main():
        clock, done = Told(), []

        async def call():
            with work.brief_call():
                await turns(3)
                done.append("call")

        def takes_a_second():
            clock.now_s += 1.0
            done.append("piece")

        work = lately_asked(clock)
        calls = []
        clock.meanwhile = lambda: calls.append(asyncio.ensure_future(call()))
        await asyncio.gather(work.turn(takes_a_second), work.turn(takes_a_second))
        await asyncio.gather(*calls)
        assert done == ["piece", "call", "piece"]

    asyncio.run(main())


def test_where_no_brief_calls_come_nothing_rests_and_others_have_their_turns_of_the_loop():
    async def main():
        clock, others = Told(), []
        work = lately_asked(clock)

        async def other():
            while True:
                others.append(clock.now_s)
                await asyncio.sleep(0)

        def takes_a_second():
            clock.now_s += 1.0

        clock.now_s += OF_LATE_S
        running = asyncio.ensure_future(other())
        began_s = clock.now_s
        for _ in range(5):
            await work.turn(takes_a_second)
        assert clock.slept == [] and len({at for at in others if at >= began_s}) >= 4
        with work.brief_call():
            pass
        for _ in range(2):
            await work.turn(takes_a_second)
        assert clock.slept == pytest.approx([0.003])
        running.cancel()

    asyncio.run(main())


def test_a_piece_that_fails_or_is_given_up_holds_up_nobody():
    async def main():
        work, done = LongWork(Told()), []

        def fails():
            raise ValueError("no")

        with work.brief_call():
            waits = asyncio.ensure_future(work.turn(lambda: done.append("given up")))
            behind = asyncio.ensure_future(work.turn(lambda: done.append("given up, too")))
            await turns(2)
            for task in (waits, behind):
                task.cancel()
        answers = await asyncio.gather(waits, behind, work.turn(fails), work.turn(lambda: 7), return_exceptions=True)
        assert [type(answer) for answer in answers] == [
            asyncio.CancelledError,
            asyncio.CancelledError,
            ValueError,
            int,
        ]
        assert done == []

    asyncio.run(main())
