"""What puts of one request share a row for is each one's own: its retries, its outcome, its change in the feed."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.embedded.settings import Settings as EmbeddedSettings
from libs.embedded.store import EmbeddedStore
from libs.errors.errors import WellspringError
from services.storage.domain.commands import put_digests
from services.storage.domain.errors import ResumeTokenExpired, TokenReused
from services.storage.domain.feed import ChangeEvent, ItemChange
from services.storage.domain.model import Mode, Outcome, Put, Receipt, WriteToken
from services.storage.domain.namespace import Namespace, Retention, Settings
from services.storage.store import embedded, events, layout, runs
from services.storage.store.alike import Alike
from services.storage.store.flat import TOKEN
from services.storage.store.local import LocalOptions, LocalStore
from services.storage.store.memory import MemoryKv

START_US = 1_700_000_000_000_000
FEED_US = 1_000_000
OPTIONS = LocalOptions(token_window_us=10_000_000, grace_us=10_000_000)
SETTINGS = Settings("a", Mode.LWW, retention=Retention(feed_window_us=FEED_US), max_clock_drift_us=5_000_000)
Given = Sequence[Receipt | WellspringError]


class World:
    """A store and its clock."""

    def __init__(self, kv: Any) -> None:
        self.kv = kv
        self.now_us = START_US
        self.space = Namespace(SETTINGS, 0, 0)
        self.open()

    def open(self) -> None:
        """As after a restart."""
        self.store = LocalStore(self.kv, lambda: self.now_us, OPTIONS)

    async def put(self, names: str, number: int, value: bytes = b"v") -> Given:
        """Puts of records of one letter each, with the token of that number."""
        return await self.store.mutate(self.alike(names, number, value))

    def alike(self, names: str, number: int, value: bytes = b"v") -> Alike:
        records, values = [name.encode() for name in names], [value] * len(names)
        pattern = Put(b"", b"", "text/plain")
        return Alike(self.space, token(number), pattern, records, values, put_digests(pattern, values))

    async def known(self, name: str, number: int) -> bool | None:
        """Whether what the token put is current; None when the token is not known."""
        found = await self.store.outcome(self.space, name.encode(), token(number))
        return None if found is None else found.current

    async def feed(self, cursor: bytes, size: int) -> str:
        """The records of all changes behind the cursor, read in pages of that size."""
        seen = ""
        while True:
            page = await self.store.feed(self.space, cursor, size)
            assert len(page.events) <= size
            seen += "".join(change.record.decode() for change in page.events)
            cursor = page.cursor
            if not page.more:
                return seen

    async def sweep(self) -> None:
        while await self.store.sweep(self.now_us, 1000):
            pass

    def rows(self, name: str) -> int:
        return len(list(self.kv.family(name).scan(layout.prefix(self.space.number))))


def token(number: int) -> WriteToken:
    return WriteToken(START_US + number, number.to_bytes(16, "big"))


def play(story: Callable[[World], Coroutine[Any, Any, None]], kv: Any = None) -> None:
    async def begin() -> None:
        world = World(kv or MemoryKv())
        world.space = await world.store.create_namespace(SETTINGS, START_US)
        await story(world)

    asyncio.run(begin())


def outcomes(given: Given) -> list[Any]:
    return [one.outcome.name if isinstance(one, Receipt) else type(one).__name__ for one in given]


def test_of_many_puts_there_is_one_row_of_tokens_and_one_of_changes() -> None:
    async def story(world: World) -> None:
        assert outcomes(await world.put("abcdef", 1)) == ["APPLIED"] * 6
        assert (world.rows("tokens"), world.rows("feed"), world.rows("records")) == (1, 1, 6)
        await world.put("a", 2)
        assert (world.rows("tokens"), world.rows("feed")) == (2, 2)

    play(story)


def test_a_retry_of_each_is_known_however_it_comes_and_after_a_restart() -> None:
    async def story(world: World) -> None:
        first = await world.put("abc", 1)
        await world.put("xyz", 9)
        world.open()
        assert outcomes(await world.put("cb", 1)) == ["REPEATED"] * 2
        assert outcomes(await world.put("abc", 1, b"other")) == ["TokenReused"] * 3
        for write in (world.alike("b", 1)[0], world.alike("abc", 1)[1]):
            (again,) = await world.store.mutate([write])
            assert again == first[1]._replace(outcome=Outcome.REPEATED)  # type: ignore[union-attr]
        given = await world.store.mutate([world.alike("a", 20)[0], world.alike("a", 1)[0]])
        assert outcomes(given) == ["APPLIED", "REPEATED"]
        given = await world.store.mutate(list(world.alike("acd", 1, b"other")))
        assert outcomes(given) == ["TokenReused", "TokenReused", "APPLIED"]
        assert world.rows("records") == 7 and isinstance(given[0], TokenReused)

    play(story)


def test_a_token_that_comes_again_with_other_records_forgets_none() -> None:
    async def story(world: World) -> None:
        await world.put("abc", 1)
        assert outcomes(await world.put("cde", 1)) == ["REPEATED", "APPLIED", "APPLIED"]
        assert outcomes(await world.put("fgh", 1)) == ["APPLIED"] * 3
        world.open()
        assert outcomes(await world.put("hgfedcba", 1)) == ["REPEATED"] * 8
        assert [await world.known(name, 1) for name in "abcdefgh"] == [True] * 8
        assert await world.feed(await world.store.feed_start(world.space, from_beginning=True), 3) == "abcdefgh"

    play(story)


def test_the_outcome_of_each_is_its_own() -> None:
    async def story(world: World) -> None:
        await world.put("abc", 1)
        await world.put("bx", 2)
        assert [await world.known(name, 1) for name in "abcx"] == [True, False, True, None]
        assert [await world.known(name, 2) for name in "abx"] == [None, True, True]
        assert await world.known("a", 3) is None

    play(story)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_the_feed_goes_on_from_any_place_in_a_run(size: int) -> None:
    async def story(world: World) -> None:
        written, cursors = "", []
        for number, names in enumerate(("abc", "d", "ef", "g", "h", "iabcdefgh"), 1):
            given = await world.put(names, number)
            cursors += [world.store.feed_cursor(world.space, one) for one in given if isinstance(one, Receipt)]
            written += names
        start = await world.store.feed_start(world.space, from_beginning=True)
        assert await world.feed(start, size) == written
        for seen, cursor in enumerate(cursors, 1):
            assert await world.feed(cursor, size) == written[seen:]

    play(story)


def test_what_is_told_of_each_change_is_what_single_puts_tell() -> None:
    async def told(world: World, writes: Callable[[Alike], Any]) -> Any:
        for number, names in enumerate(("abc", "cd"), 1):
            world.now_us = START_US + 10 * number
            await world.store.mutate(writes(world.alike(names, number, b"v" * number)))
        start = await world.store.feed_start(world.space, from_beginning=True)
        return (await world.store.feed(world.space, start, 100)).events

    async def story(world: World) -> None:
        together = await told(world, lambda puts: puts)
        other = World(MemoryKv())
        other.space = await other.store.create_namespace(SETTINGS, START_US)
        assert together == await told(other, list) and len(together) == 5

    play(story)


def test_runs_leave_the_feed_when_they_are_old_and_tokens_later() -> None:
    async def story(world: World) -> None:
        given = await world.put("abc", 1)
        inside = [world.store.feed_cursor(world.space, one) for one in given if isinstance(one, Receipt)]
        world.now_us += FEED_US + 1
        await world.put("def", 2)
        await world.sweep()
        assert world.rows("feed") == 1
        for cursor in inside[:2]:
            with pytest.raises(ResumeTokenExpired):
                await world.store.feed(world.space, cursor, 100)
        begin = await world.store.feed_start(world.space, from_beginning=True)
        assert await world.feed(inside[2], 100) == await world.feed(begin, 100) == "def"
        # The change is gone and the token is not.
        await world.put("b", 3)
        assert [await world.known(name, 1) for name in "abc"] == [True, False, True]
        world.now_us = START_US + OPTIONS.token_window_us + 2
        await world.sweep()
        assert [await world.known(name, 1) for name in "abc"] == [None] * 3
        assert [await world.known(name, 2) for name in "def"] == [True] * 3
        world.open()
        last = await world.put("z", 8_000_000)
        assert isinstance(last[0], Receipt) and last[0].sequence == 8

    play(story)


def test_a_directory_of_before_is_read_and_written_on(tmp_path: Path) -> None:
    """Where each token and each change has its row: as single mutations still write them."""
    small = EmbeddedSettings(cache_bytes=1 << 20, write_buffer_bytes=1 << 20, reserve_bytes=0)
    before: dict[str, Any] = {}

    async def write(world: World) -> None:
        before["given"] = await world.store.mutate(list(world.alike("abc", 1)))
        assert (world.rows("tokens"), world.rows("feed")) == (3, 3)
        before["cursor"] = world.store.feed_cursor(world.space, before["given"][0])
        before["space"] = world.space

    kv = EmbeddedStore.open(tmp_path / "d", schema="storage", version=1, families=embedded._SPECS, settings=small)
    with kv:
        play(write, kv)

    async def read() -> None:
        world = World(MemoryKv())
        world.space, world.store = (
            before["space"],
            embedded.open_store(tmp_path / "d", lambda: START_US, OPTIONS, small),
        )
        world.kv = world.store._kv
        assert outcomes(await world.put("abcd", 1)) == ["REPEATED"] * 3 + ["APPLIED"]
        assert outcomes(await world.put("efg", 1)) == ["APPLIED"] * 3
        assert (world.rows("tokens"), world.rows("feed")) == (5, 5)
        assert [await world.known(name, 1) for name in "abcdefgh"] == [True] * 7 + [None]
        assert await world.feed(before["cursor"], 2) == "bcdefg"
        await world.store.close()

    asyncio.run(read())


names = st.binary(min_size=1, max_size=1024)
puts = st.lists(
    st.tuples(names, st.binary(min_size=16, max_size=16), st.booleans(), st.integers(0, 1 << 20)), min_size=1
)


@given(puts, st.binary(min_size=16, max_size=16), st.integers(1, 1 << 40), st.sampled_from(["", "text/ä", "x" * 255]))
def test_rows(given_puts: list[Any], version: bytes, first: int, kind: str) -> None:
    records, bodies, made, sizes = (list(column) for column in zip(*given_puts, strict=True))
    run, last = runs.Run(version, records, bodies, made, sizes), first + len(records) - 1
    key, row = runs.change_row(7, last, run, START_US, kind)
    assert (key, runs.first_sequence(key, row)) == (layout.feed_key(7, last), first)
    assert (events.event_version(row), events.event_time(row)) == (version, START_US)
    told = [ItemChange(b"", False, kind.encode()[:255].decode(), size) for size in sizes]
    assert runs.changes(row) == [
        ChangeEvent(record, version, (item,), 1, new, False, START_US, ())
        for record, item, new in zip(records, told, made, strict=True)
    ]
    head = layout.token_key(7, START_US, bytes(16), b"")
    own = [
        (record, TOKEN.pack(body, Outcome.APPLIED.value, version, 0, first + index))
        for index, (record, body) in enumerate(zip(records, bodies, strict=True))
    ]
    apart = runs.token_rows(head, run, first, apart=True)
    assert apart == [(head + record, row) for record, row in own]
    together = runs.token_rows(head, run, first, apart=False)
    assert together == apart if len(own) == 1 else list(runs.tokens(together[0][1])) == own
