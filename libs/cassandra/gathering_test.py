"""Reads that come together go together; whoever asks gets what was read after he asked, and his own outcome."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from libs.cassandra import gathering
from libs.cassandra.gathering import Gathered, Kind
from libs.cassandra.turns import UNDER_WAY
from libs.errors.errors import Unavailable

NEVER_S = 3600.0
ONE: Any = "one"
MANY: Any = "many"
KIND = Kind(ONE, MANY, lambda before, place: b"".join(before) + place)


class Sent:
    """A request. ``places``: what it asks for."""

    def __init__(self, statement: Any, values: Sequence[Any], timeout_s: float | None, key: bytes | None) -> None:
        self.single = statement is ONE
        *self.before, asked, self.after = values
        self.places: list[bytes] = [asked] if self.single else asked
        self.timeout_s = timeout_s
        self.key = key
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Store:
    """One value for each place. A request takes them as they are when it is *served*."""

    options: Any = SimpleNamespace(request_timeout_s=8.0)

    def __init__(self) -> None:
        self.values: dict[bytes, Any] = {}
        self.sent: list[Sent] = []
        self.grown = asyncio.Event()

    def replicas(self, key: bytes) -> int:
        return key[0] % 2

    async def execute(
        self,
        statement: Any,
        values: Sequence[Any],
        consistency: int,
        *,
        timeout_s: float | None = None,
        key: bytes | None = None,
    ) -> list[Any]:
        one = Sent(statement, values, timeout_s, key)
        self.sent.append(one)
        self.grown.set()
        rows: list[Any] = await one.answer
        return [row[1:] for row in rows] if one.single else rows

    def serve(self, number: int) -> None:
        """Two rows for each place that is there."""
        one = self.sent[number]
        there = [place for place in reversed(one.places) if place in self.values]
        one.answer.set_result([(place, name, self.values[place]) for place in there for name in (b"a", b"b")])

    def fail(self, number: int, error: Exception) -> None:
        self.sent[number].answer.set_exception(error)

    def places(self) -> list[list[bytes]]:
        return [one.places for one in self.sent]


Ask = Callable[..., "asyncio.Task[Any]"]


def play(story: Callable[[Store, Ask], Awaitable[None]], patience_s: float = NEVER_S, most: int = 32) -> None:
    async def run() -> None:
        store = Store()
        gathered = Gathered(store, KIND, most=most, patience_s=patience_s)

        def ask(place: bytes, before: tuple[Any, ...] = (b"",), level: int = 1, after: int = 7) -> Any:
            return asyncio.create_task(gathered.read(place, level, before, (after,)))

        await story(store, ask)
        await settle()
        while not all(one.answer.done() for one in store.sent):
            for one in store.sent:
                one.answer.cancel()
            await settle()
        assert not gathered._queues

    asyncio.run(run())


async def settle() -> None:
    """Until everybody waits."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_who_is_alone_is_asked_for_alone_and_at_once() -> None:
    async def story(store: Store, ask: Ask) -> None:
        store.values[b"a"] = 1
        mine = ask(b"a")
        await settle()
        assert (store.sent[0].single, store.sent[0].timeout_s, store.sent[0].key) == (True, 8.0, None)
        store.serve(0)
        assert await mine == [(b"a", 1), (b"b", 1)]

    play(story)


def test_those_of_one_turn_are_one_request_and_each_gets_his_own_rows() -> None:
    async def story(store: Store, ask: Ask) -> None:
        store.values.update({b"a": 1, b"c": 3})
        mine = [ask(b"a"), ask(b"c"), ask(b"e"), ask(b"a")]
        await settle()
        assert store.places() == [[b"a", b"c", b"e"]]
        assert (store.sent[0].before, store.sent[0].after, store.sent[0].key) == ([b""], 7, b"a")
        store.serve(0)
        one, two, none, shared = await asyncio.gather(*mine)
        assert (one, two, none) == ([(b"a", 1), (b"b", 1)], [(b"a", 3), (b"b", 3)], []) and shared is one

    play(story)


def test_what_differs_in_anything_else_goes_by_itself() -> None:
    async def story(store: Store, ask: Ask) -> None:
        shapes: list[dict[str, Any]] = [{}, {"before": (b"c",)}, {"level": 2}, {"after": 8}]
        for shape in shapes:
            ask(b"a", **shape)
            ask(b"c", **shape)
        ask(b"b")  # on other replicas
        ask(b"d")
        await settle()
        assert len(store.sent) == 5 and not any(one.single for one in store.sent)

    play(story)


def test_who_comes_while_requests_are_under_way_waits_for_one_of_them_to_end() -> None:
    async def story(store: Store, ask: Ask) -> None:
        for number in range(UNDER_WAY):
            ask(b"a%d" % number)
            await settle()
        late = [ask(b"a%d" % number) for number in range(7, 10)]
        await settle()
        assert len(store.sent) == UNDER_WAY
        store.serve(0)
        await settle()
        assert store.places()[UNDER_WAY:] == [[b"a7", b"a8", b"a9"]]
        store.serve(UNDER_WAY)
        await asyncio.gather(*late)

    play(story)


def test_he_waits_no_longer_than_his_patience() -> None:
    async def story(store: Store, ask: Ask) -> None:
        for number in range(UNDER_WAY):
            ask(b"a%d" % number)
            await settle()
        late = [ask(b"a7"), ask(b"a8")]
        store.grown.clear()
        await store.grown.wait()
        store.serve(UNDER_WAY)
        await asyncio.gather(*late)
        assert not any(one.answer.done() for one in store.sent[:UNDER_WAY])

    play(story, patience_s=0.001)


def test_a_read_under_way_is_never_joined() -> None:
    async def story(store: Store, ask: Ask) -> None:
        store.values[b"a"] = "before"
        early = ask(b"a")
        await settle()
        store.serve(0)  # and has not come back yet
        store.values[b"a"] = "after"
        late = ask(b"a")
        await settle()
        store.serve(1)
        assert ((await early)[0][1], (await late)[0][1]) == ("before", "after")

    play(story)


def test_one_request_has_only_so_many() -> None:
    async def story(store: Store, ask: Ask) -> None:
        mine = [ask(b"a%d" % number) for number in range(9)]
        await settle()
        assert list(map(len, store.places())) == [4, 4]  # full ones wait for nothing, and the last for both of them
        store.serve(0)
        await settle()
        assert len(store.sent) == 2
        store.serve(1)
        await settle()
        store.serve(2)
        await asyncio.gather(*mine)
        assert store.places()[2] == [b"a8"]

    play(story, most=4)


def test_one_that_is_large_makes_the_next_requests_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MOST_BYTES", 1000)

    async def story(store: Store, ask: Ask) -> None:
        store.values.update({b"a": bytes(100), b"c": {b"k": bytes(200)}})
        mine = [ask(b"a"), ask(b"c")]
        await settle()
        store.serve(0)
        await asyncio.gather(*mine)
        for number in range(9):
            ask(b"a%d" % number)
        await settle()
        assert [len(places) for places in store.places()[1:]] == [2, 2, 2, 2]  # of 404 bytes each, as the largest was

    play(story)


def test_one_that_fails_does_not_fail_its_neighbours() -> None:
    async def story(store: Store, ask: Ask) -> None:
        store.values.update({b"a": 1, b"c": 2})
        good, bad = ask(b"a"), ask(b"c")
        await settle()
        store.fail(0, Unavailable("too much", reason="STORE_UNREACHABLE"))
        await settle()
        assert [(one.single, one.places, one.timeout_s) for one in store.sent[1:]] == [
            (True, [b"a"], 4.0),
            (True, [b"c"], 4.0),
        ]
        assert store.sent[0].timeout_s == 4.0  # with the second request the time that there is
        store.fail(2, Unavailable("damaged", reason="DAMAGED"))
        await settle()
        store.serve(1)
        assert (await good)[0] == (b"a", 1)
        with pytest.raises(Unavailable, match="damaged"):
            await bad

    play(story)


def test_after_a_failure_requests_are_smaller_and_grow_again() -> None:
    async def story(store: Store, ask: Ask) -> None:
        first = [ask(b"a%d" % number) for number in range(8)]
        await settle()
        store.fail(0, Unavailable("too much", reason="STORE_UNREACHABLE"))
        await settle()
        for number in range(1, 9):
            store.serve(number)
        await asyncio.gather(*first)
        for number in (9, 10):
            for other in range(8):
                ask(b"a%d" % other)
            await settle()
            store.serve(2 * number - 9)
            await settle()
            store.serve(2 * number - 8)
            await settle()
        assert [len(places) for places in store.places()[9:]] == [4, 4, 6, 2]

    play(story)


def test_they_grow_again_from_one() -> None:
    async def story(store: Store, ask: Ask) -> None:
        for number in range(3):
            mine = [ask(b"a"), ask(b"c")]
            await settle()
            if number == 0:
                store.fail(0, Unavailable("too much", reason="STORE_UNREACHABLE"))
                await settle()
            for one in range(len(store.sent)):
                if not store.sent[one].answer.done():
                    store.serve(one)
            await asyncio.gather(*mine)
        assert store.places() == [[b"a", b"c"], [b"a"], [b"c"], [b"a"], [b"c"], [b"a", b"c"]]

    play(story)


def test_who_goes_away_is_not_asked_for_and_takes_nobody_with_him() -> None:
    async def story(store: Store, ask: Ask) -> None:
        for number in range(UNDER_WAY):
            ask(b"a%d" % number)
            await settle()
        gone, shared, stays, other = ask(b"a7"), ask(b"a8"), ask(b"a8"), ask(b"a9")
        await settle()
        gone.cancel()
        shared.cancel()
        await settle()
        store.serve(0)
        await settle()
        assert store.places()[-1] == [b"a8", b"a9"]
        other.cancel()
        await settle()
        store.serve(UNDER_WAY)
        assert await stays == []

    play(story)


def test_when_all_have_gone_nothing_is_sent() -> None:
    async def story(store: Store, ask: Ask) -> None:
        mine = ask(b"a")
        await asyncio.sleep(0)
        mine.cancel()
        await settle()
        assert not store.sent

    play(story)


def test_what_nobody_expected_is_told_to_all() -> None:
    async def story(store: Store, ask: Ask) -> None:
        mine = [ask(b"a"), ask(b"c")]
        await settle()
        store.sent[0].answer.set_result([(b"never asked for", b"", 1)])
        for one in mine:
            with pytest.raises(KeyError):
                await one

    play(story)


def test_who_waits_for_a_request_that_was_ended_is_not_left_waiting() -> None:
    async def story(store: Store, ask: Ask) -> None:
        mine = [ask(b"a"), ask(b"c")]
        await settle()
        store.sent[0].answer.cancel()
        ended = await asyncio.gather(*mine, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended)

    play(story)
