"""Time passed in: the monotone numbers, and the clock that jumps."""

import asyncio
import random
import threading
import time

import pytest

from libs.clock.clock import MonotoneMicros, SystemClock, within
from libs.clock.virtual import VirtualClock


def test_numbers_increase_whatever_the_wall_clock_does():
    rng = random.Random(7)
    clock = VirtualClock()
    micros = MonotoneMicros(clock)
    last = 0
    for _ in range(2_000):
        clock.set_wall(clock.time_ns() + rng.choice([-(10**12), -1000, 0, 1, 1000, 10**9]))
        number = micros.next()
        assert number > last
        assert number >= clock.time_ns() // 1000
        assert micros.lead_us == number - clock.time_ns() // 1000
        last = number


def test_numbers_go_on_after_a_restart_with_a_clock_set_back():
    clock = VirtualClock()
    first = MonotoneMicros(clock).next()
    clock.set_wall(clock.time_ns() - 3_600 * 10**9)
    again = MonotoneMicros(clock, floor_us=first)
    assert again.next() == first + 1
    assert again.lead_us == 3_600 * 10**6 + 1
    again.observe(first + 500)
    assert again.next() == first + 501
    again.observe(1)
    assert again.last_us == first + 501


def test_run_jumps_over_hours():
    clock = VirtualClock()
    woken = []

    async def sleeper(name, seconds, sleep):
        await sleep(seconds)
        woken.append((name, clock.monotonic()))

    async def main():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sleeper("clock", 7200, clock.sleep))
            tasks.create_task(sleeper("asyncio", 3600, asyncio.sleep))
            tasks.create_task(sleeper("soon", 0.001, clock.sleep))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(100):
                    await asyncio.Event().wait()
            assert clock.monotonic() == pytest.approx(100)
        return clock.time_ns()

    begun, start = time.monotonic(), clock.time_ns()
    assert clock.run(main()) - start == pytest.approx(7200e9)
    assert time.monotonic() - begun < 60
    assert [(name, round(when, 3)) for name, when in woken] == [
        ("soon", 0.001),
        ("asyncio", 3600),
        ("clock", 7200),
    ]


def test_advance_wakes_on_the_way_and_no_further():
    async def main():
        clock = VirtualClock()
        ticks = []

        async def tick():
            while True:
                await clock.sleep(10)
                ticks.append(clock.monotonic())

        task = asyncio.create_task(tick())
        await clock.advance(35)
        assert ticks == [10, 20, 30]
        assert clock.monotonic() == 35
        await clock.advance(5)
        assert ticks[-1] == 40
        task.cancel()

    asyncio.run(main())


def test_run_waits_for_other_threads_when_told_to():
    clock = VirtualClock()

    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        threading.Timer(0.02, lambda: loop.call_soon_threadsafe(done.set_result, "from outside")).start()
        async with asyncio.timeout(1):
            return await done

    assert clock.run(main(), patience_s=10) == "from outside"
    assert clock.monotonic() < 1


def test_a_standstill_is_an_error(monkeypatch):
    monkeypatch.setattr("libs.clock.virtual._STALL_S", 0.01)

    async def main():
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="stands still"):
        VirtualClock().run(main())


@pytest.mark.parametrize("clock", [SystemClock(), VirtualClock()])
def test_within(clock):
    async def main():
        ended = []

        async def forever():
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        async def fails():
            raise KeyError("its own")

        async def answers():
            await clock.sleep(0)
            return 5

        assert await within(clock, 1000, answers()) == 5
        with pytest.raises(KeyError):
            await within(clock, 1000, fails())
        with pytest.raises(TimeoutError):
            await within(clock, 0.001, forever())
        assert ended == [True]
        outer = asyncio.create_task(within(clock, 1e9, forever()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert ended == [True, True], "a cancelled wait leaves no task behind"

    if isinstance(clock, VirtualClock):
        clock.run(main())
    else:
        asyncio.run(main())
