"""Puts that come together are one step; each has an outcome of its own, whatever becomes of the others."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

import pytest

from libs.errors.errors import Unavailable
from services.storage.cassandra.lww.likeness import MOST
from services.storage.cassandra.puts import MOST_BYTES, Puts
from services.storage.domain.model import ALL, Command, Delete, Mode, Put, WriteToken
from services.storage.domain.namespace import Namespace, Quota, Settings
from services.storage.store.interface import Write

NEVER_S = 3600.0
SPACE = Namespace(Settings(name="n", mode=Mode.LWW), number=1, create_us=0, stamped=True)


class Store:
    """Steps that are begun, and end when they are told to."""

    def __init__(self) -> None:
        self.ones: list[tuple[bytes, asyncio.Future[Any]]] = []
        self.steps: list[tuple[list[bytes], asyncio.Future[Any]]] = []
        self.written: set[bytes] = set()

    async def one(self, write: Write) -> Any:
        return await self._begun(self.ones, write.command.record)

    async def many(self, writes: Sequence[Write]) -> Any:
        return await self._begun(self.steps, [write.command.record for write in writes])

    async def _begun(self, those: list[Any], what: Any) -> Any:
        those.append((what, asyncio.get_running_loop().create_future()))
        return await those[-1][1]

    def busy(self, write: Write) -> bool:
        return write.command.record in self.written

    def replicas(self, write: Write) -> Hashable:
        return write.command.record[:1]

    def records(self) -> list[list[bytes]]:
        return [records for records, _ in self.steps]

    def alone(self) -> list[bytes]:
        return [record for record, _ in self.ones]


Ask = Callable[..., "asyncio.Task[Any]"]


def write(record: bytes, space: Namespace = SPACE, key: bytes = b"", value: bytes = b"1", **others: Any) -> Write:
    command = Command(record, WriteToken(0, bytes(16)), (Put(key, value),), (), (0,), b"")
    return Write(space, command._replace(**others))


def play(story: Callable[[Store, Ask], Awaitable[None]], patience_s: float = NEVER_S) -> None:
    async def run() -> None:
        store = Store()
        puts = Puts(store.one, store.many, store.busy, store.replicas, patience_s=patience_s)

        def ask(record: bytes, **others: Any) -> Any:
            return asyncio.create_task(puts.run(write(record, **others)))

        await story(store, ask)
        for _ in range(5):
            await settle()
            for _, done in [*store.ones, *store.steps]:
                done.cancel()
        await settle()
        assert not puts._queues

    asyncio.run(run())


async def settle() -> None:
    """Until everybody waits."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_who_is_alone_goes_alone_and_at_once() -> None:
    async def story(store: Store, ask: Ask) -> None:
        mine = ask(b"a")
        await settle()
        assert (store.alone(), store.records()) == ([b"a"], [])
        store.ones[0][1].set_result("receipt")
        assert await mine == "receipt"

    play(story)


def test_those_of_one_turn_are_one_step_and_each_has_what_became_of_his() -> None:
    async def story(store: Store, ask: Ask) -> None:
        mine = [ask(b"a%d" % number) for number in range(4)]
        await settle()
        assert (store.alone(), store.records()) == ([], [[b"a0", b"a1", b"a2", b"a3"]])
        refused = Unavailable("that one is refused")
        store.steps[0][1].set_result(["first", refused, None, "last"])
        await settle()
        assert store.alone() == [b"a2"]  # which takes a step of its own
        store.ones[0][1].set_result("third")
        assert await asyncio.gather(*mine) == ["first", refused, "third", "last"]

    play(story)


def test_who_comes_while_a_step_is_under_way_goes_with_those_who_come_meanwhile() -> None:
    async def story(store: Store, ask: Ask) -> None:
        ask(b"a0")
        await settle()
        late = [ask(b"a%d" % number) for number in range(5, 8)]
        await settle()
        assert (store.alone(), store.records()) == ([b"a0"], [])
        store.ones[0][1].set_result("receipt")
        await settle()
        assert store.records() == [[b"a5", b"a6", b"a7"]]
        store.steps[0][1].set_result(["x", "y", "z"])
        assert await asyncio.gather(*late) == ["x", "y", "z"]

    play(story)


def test_as_many_as_a_step_may_be_wait_for_nobody() -> None:
    async def story(store: Store, ask: Ask) -> None:
        ask(b"a")
        await settle()
        for number in range(MOST - 1):
            ask(b"a%d" % number)
        await settle()
        assert store.records() == []
        for number in range(MOST, MOST + 3):
            ask(b"a%d" % number)
        await settle()
        (step,) = store.records()
        assert len(step) == MOST and step[0] == b"a0"

    play(story)


@pytest.mark.parametrize(
    "other",
    [
        {"key": b"k"},
        {"value": bytes(MOST_BYTES + 1)},
        {"space": dataclasses.replace(SPACE)},  # its settings may be others
        {"space": dataclasses.replace(SPACE, number=2)},
        {"space": dataclasses.replace(SPACE, stamped=False)},
        {"space": dataclasses.replace(SPACE, settings=dataclasses.replace(SPACE.settings, quota=Quota(max_bytes=1)))},
        {"deletes": (Delete(ALL, None),)},
        {"puts": (Put(b"", b"1"), Put(b"k", b"1"))},
        {"puts": ()},
        {"puts": (Put(b"", b"1", chunked=True),)},
        {"dry_run": True},
        {"want_cost": True},
    ],
)
def test_what_is_not_alike_is_not_of_the_step(other: dict[str, Any]) -> None:
    async def story(store: Store, ask: Ask) -> None:
        for record in (b"a0", b"a1"):
            ask(record)
        ask(b"a2", **other)
        await settle()
        assert (store.records(), store.alone()) == ([[b"a0", b"a1"]], [b"a2"])

    play(story)


def test_records_of_other_replicas_are_another_step() -> None:
    async def story(store: Store, ask: Ask) -> None:
        for record in (b"a0", b"b0", b"a1", b"b1"):
            ask(record)
        await settle()
        assert store.records() == [[b"a0", b"a1"], [b"b0", b"b1"]]

    play(story)


def test_a_record_that_is_being_written_holds_nobody_up() -> None:
    async def story(store: Store, ask: Ask) -> None:
        store.written = {b"a0"}
        for record in (b"a0", b"a1", b"a1", b"a2", b"a3"):
            ask(record)
        await asyncio.sleep(0)
        store.written.add(b"a2")  # while it waits
        await settle()
        assert store.records() == [[b"a1", b"a3"]] and sorted(store.alone()) == [b"a0", b"a1", b"a2"]

    play(story)


def test_where_a_step_can_do_nothing_each_goes_by_itself() -> None:
    async def story(store: Store, ask: Ask) -> None:
        mine = [ask(b"a0"), ask(b"a1")]
        await settle()
        store.steps[0][1].set_exception(Unavailable("too few replicas"))
        await settle()
        assert store.alone() == [b"a0", b"a1"]
        refused = Unavailable("too few replicas still")
        store.ones[0][1].set_result("receipt")
        store.ones[1][1].set_result(refused)
        assert await asyncio.gather(*mine) == ["receipt", refused]

    play(story)


def test_who_goes_away_takes_nobody_with_him() -> None:
    async def story(store: Store, ask: Ask) -> None:
        early, begun, stays = ask(b"a0"), ask(b"a1"), ask(b"a2")
        await asyncio.sleep(0)
        early.cancel()  # nothing was begun for it
        await settle()
        assert store.records() == [[b"a1", b"a2"]]
        begun.cancel()
        await settle()
        assert not store.steps[0][1].done()
        store.steps[0][1].set_result(["x", "y"])
        assert await stays == "y"

    play(story)


def test_what_nobody_expected_is_told_to_all() -> None:
    async def story(store: Store, ask: Ask) -> None:
        mine = [ask(b"a0"), ask(b"a1")]
        await settle()
        store.steps[0][1].set_exception(KeyError("of the code"))
        for one in mine:
            with pytest.raises(KeyError):
                await one

    play(story)
