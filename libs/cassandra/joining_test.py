"""Whoever asks gets a read that was sent after he asked, whatever the order in which things happen."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from libs.cassandra.joining import Joined
from libs.errors.errors import Unavailable

NEVER_S = 3600.0
GET: Any = object()


class Store:
    """Holds one value. Each read takes the value as it is when it is *served*, and is answered when it is told to."""

    def __init__(self) -> None:
        self.value = 0
        self.sent: list[asyncio.Future[Any]] = []
        self.grown = asyncio.Event()

    async def execute(self, statement: Any, values: Sequence[Any], consistency: int) -> list[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent.append(answer)
        self.grown.set()
        return [(await answer,)]

    def serve(self, number: int) -> None:
        self.sent[number].set_result(self.value)

    @property
    def open(self) -> list[asyncio.Future[Any]]:
        return [one for one in self.sent if not one.done()]


def play(story: Callable[[Store, Joined], Awaitable[None]], patience_s: float = NEVER_S) -> None:
    async def run() -> None:
        store = Store()
        await story(store, Joined(store, patience_s))

    asyncio.run(run())


def ask(joined: Joined, name: str = "a", consistency: int = 1) -> "asyncio.Task[list[Any]]":
    return asyncio.create_task(joined.execute(name, GET, (name,), consistency))


async def settle() -> None:
    """Until everybody waits."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_read_after_a_write_was_answered_does_not_join_one_begun_before() -> None:
    async def story(store: Store, joined: Joined) -> None:
        before = ask(joined)
        await settle()
        taken = store.value  # the store serves the first read, its answer is on the way
        store.value = 1  # a write of any server, and its answer
        after = ask(joined)
        await settle()
        store.sent[0].set_result(taken)
        await settle()
        store.serve(1)
        assert [await before, await after] == [[(0,)], [(1,)]]

    play(story)


def test_those_who_come_while_one_is_under_way_share_the_next() -> None:
    async def story(store: Store, joined: Joined) -> None:
        first = ask(joined)
        await settle()
        others = [ask(joined) for _ in range(100)]
        await settle()
        assert len(store.sent) == 1
        store.serve(0)
        await settle()
        assert len(store.sent) == 2
        late = ask(joined)  # the second is under way: not joined
        await settle()
        store.value = 5
        store.serve(1)
        await settle()
        store.serve(2)
        answers = await asyncio.gather(first, *others, late)
        assert answers == [[(0,)], *([[(5,)]] * 100), [(5,)]]
        assert len(store.sent) == 3 and not joined._sent and not joined._waiting

    play(story)


def test_other_records_and_consistencies_are_other_reads() -> None:
    async def story(store: Store, joined: Joined) -> None:
        asked = [ask(joined, name, consistency) for name in "ab" for consistency in (1, 2)]
        await settle()
        assert len(store.sent) == 4
        for number in range(4):
            store.serve(number)
        await asyncio.gather(*asked)

    play(story)


def test_the_next_does_not_wait_for_ever_for_one_that_hangs() -> None:
    async def story(store: Store, joined: Joined) -> None:
        hanging = ask(joined)
        await settle()
        others = [ask(joined) for _ in range(3)]
        store.grown.clear()
        await store.grown.wait()
        store.serve(1)
        assert await asyncio.gather(*others) == [[(0,)]] * 3
        store.serve(0)
        await hanging
        assert not joined._sent and not joined._waiting

    play(story, 0.005)


@pytest.mark.parametrize("gone", ["the first", "who leads the next", "who shares"])
def test_somebody_who_goes_away_takes_nobody_along(gone: str) -> None:
    async def story(store: Store, joined: Joined) -> None:
        asked = [ask(joined) for _ in range(5)]
        await settle()
        left = asked.pop({"the first": 0, "who leads the next": 1, "who shares": 2}[gone])
        left.cancel()
        await settle()
        while not all(one.done() for one in asked):
            for one in store.open:
                one.set_result(7)
            await settle()
        assert [one.result() for one in asked] == [[(7,)]] * 4
        assert left.cancelled() and not joined._sent and not joined._waiting

    play(story)


def test_who_sends_the_shared_read_goes_away_while_it_is_under_way() -> None:
    async def story(store: Store, joined: Joined) -> None:
        asked = [ask(joined) for _ in range(4)]
        await settle()
        store.serve(0)
        await settle()
        asked[1].cancel()  # its read is the one that the others share
        await settle()
        assert len(store.sent) == 3  # one of them sends it again
        store.value = 9
        store.serve(2)
        await settle()
        for one in store.open:  # the other had come after it was sent
            one.set_result(9)
        assert [await asked[2], await asked[3]] == [[(9,)]] * 2

    play(story)


def test_a_failure_is_that_of_all_who_share_and_of_no_other() -> None:
    async def story(store: Store, joined: Joined) -> None:
        asked = [ask(joined) for _ in range(3)]
        await settle()
        store.serve(0)
        await settle()
        store.sent[1].set_exception(Unavailable("away"))
        failed = await asyncio.gather(*asked[1:], return_exceptions=True)
        assert [type(one) for one in failed] == [Unavailable, Unavailable]
        again = ask(joined)
        await settle()
        store.serve(2)
        assert await again == [(0,)]

    play(story)


@pytest.mark.parametrize("time", range(20))
def test_any_interleaving_shows_what_was_written_before(time: int) -> None:
    """Random reads, writes, servings, answers and departures; of each read the least that it may answer is known."""
    seed = random.getrandbits(32)
    print("seed", seed)
    draw = random.Random(seed)

    async def story(store: Store, joined: Joined) -> None:
        asked: list[tuple[int, asyncio.Task[list[Any]]]] = []
        served: dict[int, int] = {}
        for _ in range(400):
            match draw.choice("rrrrwsssaaac"):
                case "r":
                    asked.append((store.value, ask(joined)))
                case "w":
                    store.value += 1
                case "s":
                    served |= {
                        n: store.value for n in range(len(store.sent)) if n not in served and draw.random() < 0.5
                    }
                case "a":
                    ready = [n for n in served if not store.sent[n].done()]
                    if ready:
                        number = draw.choice(ready)
                        store.sent[number].set_result(served[number])
                case "c":
                    draw.choice(asked)[1].cancel() if asked else None
            if draw.random() < 0.7:
                await settle()
        while not all(task.done() for _, task in asked):
            for one in store.open:
                one.set_result(store.value)
            await settle()
        answers = [(least, task.result()[0][0]) for least, task in asked if not task.cancelled()]
        assert all(least <= seen <= store.value for least, seen in answers), answers
        assert not joined._sent and not joined._waiting

    play(story, 0.0 if time % 2 else NEVER_S)
