"""A request that is not answered is given up, however many others are; what was answered is left alone."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from cassandra import OperationTimedOut

from libs.cassandra.bridge import Bridge
from libs.cassandra.deadlines import Deadlines


class Timers:
    """The driver's timers, which go off when they are told to."""

    def __init__(self) -> None:
        self.set: list[Callable[[], None]] = []

    def create(self, after_s: float, callback: Callable[[], None]) -> None:
        self.set.append(callback)

    def go_off(self) -> None:
        """All that are set now, on another thread than the loop's, as the driver's do."""
        due, self.set = self.set, []
        for callback in due:
            callback()


def play(story: Callable[[Deadlines, Timers], Awaitable[None]]) -> None:
    async def run() -> None:
        timers = Timers()
        await story(Deadlines(Bridge(asyncio.get_running_loop()).settle, timers.create), timers)

    asyncio.run(run())


def test_who_waits_too_long_is_told_and_nobody_else() -> None:
    async def story(deadlines: Deadlines, timers: Timers) -> None:
        loop = asyncio.get_running_loop()
        late, early, answered = loop.create_future(), loop.create_future(), loop.create_future()
        deadlines.add(early, 3600.0)
        deadlines.add(late, 0.0)
        deadlines.add(answered, 0.0)
        assert len(timers.set) == 1, "one for all"
        answered.set_result("rows")
        await asyncio.to_thread(timers.go_off)
        with pytest.raises(OperationTimedOut):
            await late
        assert answered.result() == "rows" and not early.done()
        # The one that still waits is looked at again; when it is done nothing is.
        assert len(timers.set) == 1
        early.set_result("rows")
        await asyncio.to_thread(timers.go_off)
        assert not timers.set

    play(story)


def test_one_that_was_looked_at_in_vain_is_given_up_later() -> None:
    async def story(deadlines: Deadlines, timers: Timers) -> None:
        waits = asyncio.get_running_loop().create_future()
        deadlines.add(waits, 0.05)
        while not waits.done():
            await asyncio.to_thread(timers.go_off)
        with pytest.raises(OperationTimedOut):
            await waits
        assert not timers.set

    play(story)


def test_requests_that_come_while_it_looks_are_not_forgotten() -> None:
    async def story(deadlines: Deadlines, timers: Timers) -> None:
        loop = asyncio.get_running_loop()
        given_up = 0
        looking = asyncio.create_task(_again_and_again(timers))
        for _ in range(300):
            futures = [loop.create_future() for _ in range(5)]
            for future in futures:
                deadlines.add(future, 0.0)
            await asyncio.sleep(0)
            given_up += sum(
                isinstance(one, OperationTimedOut) for one in await asyncio.gather(*futures, return_exceptions=True)
            )
        looking.cancel()
        assert given_up == 1500

    play(story)


async def _again_and_again(timers: Timers) -> None:
    while True:
        await asyncio.to_thread(timers.go_off)
