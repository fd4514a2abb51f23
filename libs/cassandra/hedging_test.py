"""A slow read is sent a second time, and whichever of the two is answered first is the answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from libs.cassandra.options import Options
from libs.cassandra.session import Session, Statement
from libs.errors.errors import WellspringError

FAILURES = [RuntimeError("of the first"), RuntimeError("of the second")]


class Asked:
    """A request as the driver keeps it; :meth:`answer` and :meth:`fail` are what a node does."""

    def add_callbacks(self, answered: Any, failed: Any, callback_args: Any, errback_args: Any) -> None:
        self.answer = lambda rows: answered(rows, *callback_args)
        self.fail = lambda error: failed(error, *errback_args)


class Raw:
    """The driver's session: keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.grown = asyncio.Event()

    def execute_async(self, bound: Any, timeout: None) -> Asked:
        self.asked.append(Asked())
        self.grown.set()
        return self.asked[-1]

    def bind(self, values: Any) -> Any:
        return type("Bound", (), {})()


class Cluster:
    """The driver's cluster, whose timers never go off."""

    metadata = None

    class connection_class:
        @staticmethod
        def create_timer(after_s: float, callback: Any) -> None: ...


def play(
    story: Callable[[Session, Raw, Any], Awaitable[None]], hedge_after_s: float = 0.001, share: float = 1.0
) -> None:
    async def run() -> None:
        raw = Raw()
        options = Options((("nobody", 1),), "k", "dc1", hedge_after_s=hedge_after_s, hedge_share=share)
        session = Session(Cluster, raw, options, asyncio.get_running_loop())
        read = asyncio.create_task(session.execute(Statement(raw, write=False, conditional=False), ()))
        await raw.grown.wait()
        await story(session, raw, read)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


async def second(raw: Raw) -> None:
    """Until it was sent again."""
    while len(raw.asked) < 2:
        raw.grown.clear()
        await raw.grown.wait()


def test_the_second_answers_first() -> None:
    async def story(session: Session, raw: Raw, read: Any) -> None:
        await second(raw)
        raw.asked[1].answer([(2,)])
        assert await read == [(2,)] and session.hedged == 1
        raw.asked[0].answer([(1,)])  # too late, and nobody minds

    play(story)


def test_the_first_answers_first() -> None:
    async def story(session: Session, raw: Raw, read: Any) -> None:
        await second(raw)
        raw.asked[0].answer([(1,)])
        assert await read == [(1,)]
        raw.asked[1].fail(FAILURES[1])

    play(story)


@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_fails_leaves_it_to_the_other(failing: int) -> None:
    async def story(session: Session, raw: Raw, read: Any) -> None:
        await second(raw)
        raw.asked[failing].fail(FAILURES[failing])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not read.done()
        raw.asked[1 - failing].answer([(3,)])
        assert await read == [(3,)]

    play(story)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_when_both_fail_the_first_one_tells_why(order: tuple[int, int]) -> None:
    async def story(session: Session, raw: Raw, read: Any) -> None:
        await second(raw)
        for number in order:
            raw.asked[number].fail(FAILURES[number])
        with pytest.raises(WellspringError) as told:
            await read
        assert told.value.__cause__ is FAILURES[0]

    play(story)


def test_a_caller_that_goes_away_leaves_nothing_behind() -> None:
    async def story(session: Session, raw: Raw, read: Any) -> None:
        await second(raw)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        raw.asked[1].answer([(1,)])
        raw.asked[0].fail(FAILURES[0])
        await asyncio.sleep(0)

    play(story)


def test_without_credit_or_time_to_spare_it_is_sent_once() -> None:
    async def story(session: Session, raw: Raw, read: Any) -> None:
        await asyncio.sleep(0.01)  # longer than the shorter of the two waits
        raw.asked[0].fail(FAILURES[0])
        with pytest.raises(WellspringError):
            await read
        assert session.hedged == 0 and len(raw.asked) == 1

    play(story, hedge_after_s=3600.0)
    play(story, share=0.0)
