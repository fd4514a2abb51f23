"""Turns: one key after the other, several at once without anybody waiting for ever, and nothing is left behind."""

import asyncio
import random

from services.storage.cassandra.tasks import KeyedLocks


def test_who_holds_several_keys_holds_each_alone():
    seed = 7
    print(f"seed {seed}")
    dice = random.Random(seed)
    locks = KeyedLocks()
    holders = dict.fromkeys(range(8), 0)

    async def work(keys):
        async with locks.hold_all(sorted(keys)) if len(keys) > 1 else locks.hold(keys[0]):
            for key in keys:
                holders[key] += 1
                assert holders[key] == 1
            await asyncio.sleep(0)
            for key in keys:
                holders[key] -= 1

    async def run():
        async with asyncio.timeout(60):
            await asyncio.gather(*(work(dice.sample(range(8), dice.randrange(1, 6))) for _ in range(300)))

    asyncio.run(run())
    assert not locks._locks


def test_who_goes_away_while_it_waits_lets_go_of_what_it_holds():
    locks = KeyedLocks()

    async def run():
        async def wait():
            async with locks.hold_all([1, 2, 3]):
                raise AssertionError("2 is held")

        async with locks.hold(2):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            assert set(locks._locks) == {1, 2}, "it holds one and waits for the other"
            assert locks.held(1) and locks.held(2) and not locks.held(3)
            waiting.cancel()
            assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
            assert set(locks._locks) == {2}
        assert not locks._locks

    asyncio.run(run())


def test_who_goes_away_at_the_very_moment_of_its_turn_leaves_it_to_the_next():
    locks = KeyedLocks()
    had = []

    async def wait(name):
        async with locks.hold("key"):
            had.append(name)

    async def run():
        for early in (True, False):
            async with asyncio.timeout(60):
                async with locks.hold("key"):
                    waiting = [asyncio.create_task(wait(name)) for name in "abc"]
                    await asyncio.sleep(0)
                    if early:  # its turn comes to one who is going
                        waiting[0].cancel()
                if not early:  # he goes when his turn has come
                    waiting[0].cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
            assert waiting[0].cancelled() and not locks._locks

    asyncio.run(run())
    assert had == ["b", "c"] * 2, "in the order in which they came"
