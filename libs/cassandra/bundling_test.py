"""Writes that come together are one request, and each caller has his own outcome."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from libs.cassandra.bundling import Bundled
from libs.cassandra.errors import OutcomeUnknown
from libs.cassandra.limits import BatchLimits
from libs.errors.errors import Unavailable

NEVER_S = 3600.0
LIMITS = BatchLimits(bytes=1000, partitions=9)


class Store:
    """Answers a batch when it is told to; each write is a name."""

    def __init__(self) -> None:
        self.options: Any = SimpleNamespace(request_timeout_s=8.0)
        self.sent: list[tuple[list[str], asyncio.Future[Any], float | None]] = []
        self.grown = asyncio.Event()
        self.refuses: Callable[[list[str]], Exception | None] | None = None

    async def batch(self, writes: Sequence[Any], consistency: int, *, timeout_s: float | None = None) -> list[Any]:
        assert consistency == 6
        names = [name for name, _ in writes]
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent.append((names, answer, timeout_s))
        self.grown.set()
        if self.refuses is not None:
            error = self.refuses(names)
            if error is not None:
                raise error
            return []
        await answer
        return []

    @property
    def bundles(self) -> list[list[str]]:
        return [names for names, _, _ in self.sent]

    def answer(self, number: int) -> None:
        self.sent[number][1].set_result(None)

    def answer_all(self) -> None:
        for _, future, _ in self.sent:
            if not future.done():
                future.set_result(None)


def play(story: Callable[[Store, Bundled], Awaitable[None]], patience_s: float = NEVER_S) -> None:
    async def run() -> None:
        store = Store()
        async with asyncio.timeout(60):
            await story(store, Bundled(store, 6, LIMITS, patience_s=patience_s))

    asyncio.run(run())


def ask(bundled: Bundled, *names: str, size: int = 100, partitions: int = 3) -> "asyncio.Task[None]":
    writes: Any = [(name, ()) for name in names]
    return asyncio.create_task(bundled.write(writes, size_bytes=size, partitions=partitions))


async def settle() -> None:
    """Until everybody waits."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_one_that_is_alone_goes_at_once_and_as_it_is() -> None:
    async def story(store: Store, bundled: Bundled) -> None:
        one = ask(bundled, "a", "b")
        await settle()
        assert store.bundles == [["a", "b"]] and store.sent[0][2] == 8.0
        store.answer(0)
        await one

    play(story)


def test_those_of_one_turn_go_together_as_far_as_the_nodes_allow() -> None:
    async def story(store: Store, bundled: Bundled) -> None:
        asked = [ask(bundled, name) for name in "abcd"]  # nine partitions are three callers
        large = [ask(bundled, name, size=600, partitions=1) for name in "xy"]
        huge = ask(bundled, "z", size=5000, partitions=20)
        await settle()
        assert store.bundles == [["a", "b", "c"], ["d", "x"], ["y"], ["z"]]
        store.answer_all()
        await asyncio.gather(*asked, *large, huge)

    play(story)


def test_nobody_is_answered_before_his_writes_are() -> None:
    async def story(store: Store, bundled: Bundled) -> None:
        early = [ask(bundled, name) for name in "abc"]
        await settle()
        late = ask(bundled, "d")
        await settle()
        assert store.bundles == [["a", "b", "c"]]
        more = [ask(bundled, name) for name in "ef"]
        await settle()
        assert store.bundles[1:] == [["d", "e", "f"]]
        store.answer(1)
        await asyncio.gather(late, *more)
        assert not any(one.done() for one in early)
        store.answer(0)
        await asyncio.gather(*early)

    play(story)


def test_while_one_is_under_way_who_comes_waits_for_it_to_end_and_goes_with_the_others() -> None:
    async def story(store: Store, bundled: Bundled) -> None:
        first = ask(bundled, "first")
        await settle()
        others = []
        for name in "ab":
            others.append(ask(bundled, name))
            await settle()
        assert store.bundles == [["first"]]
        store.answer(0)
        await settle()
        assert store.bundles[1:] == [["a", "b"]]
        store.answer(1)
        await asyncio.gather(first, *others)
        assert not bundled._waiting

    play(story)


def test_as_many_as_one_batch_takes_wait_for_nothing() -> None:
    async def story(store: Store, bundled: Bundled) -> None:
        asked = []
        for name in ("first", *"abcdefgh"):
            asked.append(ask(bundled, name))
            await settle()
        assert store.bundles == [["first"], ["a", "b", "c"], ["d", "e", "f"]]
        store.answer(1)
        await settle()
        assert len(store.sent) == 3  # two are under way
        store.answer_all()
        await settle()
        assert store.bundles[3:] == [["g", "h"]]
        store.answer_all()
        await asyncio.gather(*asked)

    play(story)


def test_requests_that_take_long_hold_nobody_up() -> None:
    async def story(store: Store, bundled: Bundled) -> None:
        stuck = ask(bundled, "stuck")
        await settle()
        waiting = ask(bundled, "a")
        store.grown.clear()
        await store.grown.wait()
        store.answer(1)
        await waiting
        assert not stuck.done()
        store.answer_all()
        await stuck

    play(story, patience_s=0.001)


def test_a_batch_that_fails_is_followed_by_one_for_each_and_one_that_fails_alone_fails_alone() -> None:
    async def story(store: Store, bundled: Bundled) -> None:
        def refuses(names: list[str]) -> Exception | None:
            if len(names) > 1:
                return OutcomeUnknown("lost")
            return Unavailable("not there") if names == ["b"] else None

        store.refuses = refuses
        asked = [ask(bundled, name) for name in "abc"]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert results[0] is None and results[2] is None and isinstance(results[1], Unavailable)
        assert store.bundles == [["a", "b", "c"], ["a"], ["b"], ["c"]]
        assert [timeout_s for _, _, timeout_s in store.sent] == [4.0, 4.0, 4.0, 4.0]
        # For a while they are smaller, and then as large as before.
        store.sent.clear()
        store.refuses = lambda names: None
        for _ in range(3):
            await asyncio.gather(*(ask(bundled, name) for name in "abc"))
        assert store.bundles[0] == ["a"] and store.bundles[-1] == ["a", "b", "c"]

    play(story)


def test_who_goes_away_takes_nobody_along() -> None:
    async def story(store: Store, bundled: Bundled) -> None:
        gone, stays = ask(bundled, "a"), ask(bundled, "b")
        await settle()
        gone.cancel()
        await settle()
        store.answer(0)
        await stays
        before = ask(bundled, "before")
        await settle()
        left = ask(bundled, "never sent")
        await settle()
        left.cancel()
        await settle()
        store.answer_all()
        await before
        await settle()
        assert "never sent" not in [name for names in store.bundles for name in names]

    play(story)


def test_what_nobody_foresaw_fails_those_who_wait_and_no_others() -> None:
    async def story(store: Store, bundled: Bundled) -> None:
        def refuses(names: list[str]) -> Exception | None:
            return ValueError("values are missing") if "b" in names else None

        store.refuses = refuses
        results = await asyncio.gather(*(ask(bundled, name) for name in "ab"), return_exceptions=True)
        assert all(isinstance(result, ValueError) for result in results)
        await ask(bundled, "c")

    play(story)
