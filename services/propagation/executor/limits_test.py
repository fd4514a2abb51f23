"""The limit follows what it is told, and is never exceeded."""

import asyncio
import contextlib

from services.propagation.executor.limits import AdaptiveLimit


def test_never_more_than_the_limit_and_everybody_gets_a_turn():
    async def main():
        limit = AdaptiveLimit(4, start=4)
        most = done = 0

        async def one():
            nonlocal most, done
            async with limit.slot():
                most = max(most, limit.running)
                await asyncio.sleep(0)
            done += 1

        await asyncio.gather(*(one() for _ in range(200)))
        assert (most, done, limit.running) == (4, 200, 0)

    asyncio.run(main())


def test_failures_halve_it_and_success_raises_it_again():
    async def main():
        limit = AdaptiveLimit(16, start=16)
        for _ in range(64):
            with contextlib.suppress(OSError):
                async with limit.slot():
                    raise OSError
        assert limit.limit < 2
        for _ in range(400):
            async with limit.slot():
                pass
        assert limit.limit == 16

    asyncio.run(main())


def test_a_waiter_that_gives_up_takes_no_slot_with_it():
    async def main():
        limit = AdaptiveLimit(1, start=1)

        async def wait():
            async with limit.slot():
                pass

        async with limit.slot():
            waiters = [asyncio.create_task(wait()) for _ in range(3)]
            await asyncio.sleep(0)
            waiters[0].cancel()
        await asyncio.wait_for(asyncio.gather(*waiters[1:]), 5)
        assert limit.running == 0

    asyncio.run(main())
