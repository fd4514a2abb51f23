"""Who comes goes with those who come; nobody waits for ever, whatever becomes of those before him."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from libs.cassandra.turns import LONGEST_S, PATIENCE_S, Turns, Work, answered, settle

HARD = 3
"""As many as a piece of work takes."""


class Desk:
    """Callers by name, and the pieces of work that were begun for them: each ends when it is told to."""

    def __init__(self, patience_s: float) -> None:
        self.waiting: list[tuple[str, asyncio.Future[str]]] = []
        self.pieces: list[tuple[list[str], asyncio.Future[None]]] = []
        self.idles = 0
        self.turns = Turns(self.waiting, self._take, self._idle, full=self._full, patience_s=patience_s)

    async def ask(self, name: str) -> str:
        mine: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiting.append((name, mine))
        self.turns.came()
        return await mine

    @property
    def names(self) -> list[list[str]]:
        return [names for names, _ in self.pieces]

    def _full(self) -> bool:
        return len(self.waiting) >= HARD

    def _idle(self) -> None:
        self.idles += 1

    def _take(self) -> Work | None:
        taken, self.waiting[:HARD] = self.waiting[:HARD], []
        those = [(name, mine) for name, mine in taken if not mine.done()]
        return self._work(those) if those else None

    async def _work(self, those: list[tuple[str, asyncio.Future[str]]]) -> None:
        ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pieces.append(([name for name, _ in those], ends))
        with answered([mine for _, mine in those]):
            await ends
            for name, mine in those:
                settle([mine], name)


def play(story: Callable[[Desk], Awaitable[None]], patience_s: float = 3600.0, limit_s: float | None = 60) -> None:
    async def run() -> None:
        async with asyncio.timeout(limit_s):
            await story(Desk(patience_s))

    asyncio.run(run())


CANCELLED = asyncio.CancelledError()


def end(piece: "asyncio.Future[None]", how: BaseException | None) -> None:
    if isinstance(how, asyncio.CancelledError):
        piece.cancel()
    elif how is not None:
        piece.set_exception(how)
    else:
        piece.set_result(None)


async def calm() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_who_is_alone_waits_for_nothing_and_who_comes_meanwhile_for_him() -> None:
    async def story(desk: Desk) -> None:
        asked = [asyncio.ensure_future(desk.ask("a"))]
        await calm()
        for name in "bc":
            asked.append(asyncio.ensure_future(desk.ask(name)))
            await calm()
        assert desk.names == [["a"]]
        desk.pieces[0][1].set_result(None)
        await calm()
        assert desk.names == [["a"], ["b", "c"]] and desk.idles == 0
        desk.pieces[1][1].set_result(None)
        assert await asyncio.gather(*asked) == ["a", "b", "c"]
        await calm()
        assert desk.idles == len(["once"])

    play(story)


def test_as_many_as_one_piece_takes_wait_for_nobody() -> None:
    async def story(desk: Desk) -> None:
        asked = [asyncio.ensure_future(desk.ask(name)) for name in "abcdefg"]
        await calm()
        assert desk.names == [["a", "b", "c"], ["d", "e", "f"]]
        for number in range(2):
            desk.pieces[number][1].set_result(None)
        await calm()
        assert desk.names[2:] == [["g"]]
        desk.pieces[2][1].set_result(None)
        await asyncio.gather(*asked)

    play(story)


@pytest.mark.parametrize("how", [RuntimeError("lost"), CANCELLED])
def test_who_waits_for_one_that_fails_or_is_ended_is_next(how: BaseException) -> None:
    async def story(desk: Desk) -> None:
        first, second = (asyncio.ensure_future(desk.ask(name)) for name in "ab")
        await asyncio.sleep(0)
        second.cancel()
        await calm()
        third = asyncio.ensure_future(desk.ask("c"))
        await calm()
        end(desk.pieces[0][1], how)
        with pytest.raises(type(how)):
            await first
        await calm()
        assert desk.names == [["a"], ["c"]]
        desk.pieces[1][1].set_result(None)
        assert await third == "c"

    play(story)


def test_patience_follows_what_pieces_took_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(desk: Desk) -> None:
        loop, turns = asyncio.get_running_loop(), desk.turns
        now_s = loop.time()
        waits: list[float] = []
        monkeypatch.setattr(loop, "time", lambda: now_s)

        def call_later(delay_s: float, then: object) -> asyncio.Handle:
            waits.append(delay_s)
            return loop.call_soon(int)

        monkeypatch.setattr(loop, "call_later", call_later)
        for took_s in (0.0, *[0.06] * 20, *[30.0] * 20, *[0.0] * 40):
            first = asyncio.ensure_future(desk.ask("first"))
            await calm()
            second = asyncio.ensure_future(desk.ask("second"))
            await calm()
            now_s += took_s
            desk.pieces[-1][1].set_result(None)
            await calm()
            desk.pieces[-1][1].set_result(None)
            await asyncio.gather(first, second)
            await calm()
        assert turns._took_s < 0.01
        assert waits[0] == PATIENCE_S and waits[20] == pytest.approx(0.06, abs=0.02)
        assert max(waits) == LONGEST_S and waits[-1] == PATIENCE_S

    play(story, patience_s=PATIENCE_S, limit_s=None)


@pytest.mark.parametrize("seed", range(40))
def test_nobody_waits_for_ever(seed: int) -> None:
    """Callers who come and go, pieces that end, fail, are ended or hang, in any order."""

    async def story(desk: Desk) -> None:
        chance = random.Random(seed)
        asked: list[asyncio.Future[str]] = []
        for number in range(200):
            if chance.random() < 0.6:
                asked.append(asyncio.ensure_future(desk.ask(str(number))))
            if chance.random() < 0.1:
                chance.choice(asked or [asyncio.get_running_loop().create_future()]).cancel()
            open_ = [one for _, one in desk.pieces if not one.done()]
            if open_ and chance.random() < 0.4:
                what = chance.choice(["done", "failed", "ended"])
                end(chance.choice(open_), None if what == "done" else OSError() if what == "failed" else CANCELLED)
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        while not all(one.done() for one in asked):
            await calm()
            for _, one in desk.pieces:
                if not one.done():
                    end(one, None)
        sent = [name for names in desk.names for name in names]
        assert len(sent) == len(set(sent)) and all(len(names) <= HARD for names in desk.names)
        await calm()
        assert desk.idles and not desk.waiting

    play(story)


def test_who_waits_for_one_that_hangs_goes_without_it() -> None:
    async def story(desk: Desk) -> None:
        asyncio.ensure_future(desk.ask("hangs"))
        await calm()
        second = asyncio.ensure_future(desk.ask("b"))
        while len(desk.pieces) < 2:  # noqa: ASYNC110  (its patience ends)
            await asyncio.sleep(0)
        desk.pieces[1][1].set_result(None)
        assert await second == "b" and not desk.pieces[0][1].done()
        desk.pieces[0][1].set_result(None)

    play(story, patience_s=0.001)
