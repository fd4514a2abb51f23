"""Single mutations that share a turn: each is decided for itself, answered when it is durable, and alone in its end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from libs.embedded.failures import DiskFull
from libs.errors.errors import WellspringError
from services.storage.domain.commands import body_digest
from services.storage.domain.errors import ConditionFailed
from services.storage.domain.model import Command, Condition, ConditionKind, Mode, Outcome, Put, Receipt, WriteToken
from services.storage.domain.namespace import Namespace, Settings
from services.storage.store.interface import Write
from services.storage.store.local import LocalStore
from services.storage.store.memory import MemoryBatch, MemoryKv

NOW_US = 1_700_000_000_000_000
ABSENT = Condition(ConditionKind.ABSENT)


class CountingKv(MemoryKv):
    """Durable by ``sync`` alone; counts batches."""

    def __init__(self) -> None:
        super().__init__(manual=True)
        self.batches = 0
        self.breaks: Exception | None = None

    def submit(self, batch: MemoryBatch) -> Awaitable[None]:
        if self.breaks is not None:
            raise self.breaks
        self.batches += 1
        return super().submit(batch)


def command(record: bytes, number: int, value: bytes = b"v", condition: Condition | None = None) -> Command:
    """A put; its token is that of the number."""
    puts = (Put(b"", value, condition=condition),)
    token = WriteToken(NOW_US + number, number.to_bytes(16, "big"))
    return Command(record, token, puts, (), (0,), body_digest(puts, (), None, None))


async def turns() -> None:
    """Lets everything happen that waits for nothing."""
    for _ in range(20):
        await asyncio.sleep(0)


def play(story: Callable[[CountingKv, LocalStore, Namespace], Awaitable[None]], mode: Mode = Mode.LWW) -> None:
    async def main() -> None:
        kv = CountingKv()
        store = LocalStore(kv, lambda: NOW_US, gather=True)
        making = asyncio.ensure_future(store.create_namespace(Settings("a", mode), NOW_US))
        await turns()
        kv.sync()
        space = await making
        kv.batches = 0
        await story(kv, store, space)

    asyncio.run(main())


def begin(store: LocalStore, space: Namespace, *commands: Command) -> list[asyncio.Task[Any]]:
    async def one(command: Command) -> Receipt | WellspringError:
        return (await store.mutate([Write(space, command)]))[0]

    return [asyncio.ensure_future(one(command)) for command in commands]


def test_what_comes_during_a_sync_is_one_batch_and_nothing_is_answered_before_it_is_durable() -> None:
    async def story(kv: CountingKv, store: LocalStore, space: Namespace) -> None:
        first = begin(store, space, command(b"first", 1))
        await turns()
        assert kv.batches == 1
        rest = begin(store, space, *(command(b"r%d" % number, number) for number in range(2, 400)))
        await turns()
        assert kv.batches == 1 and not any(task.done() for task in first + rest)
        kv.sync()
        await turns()
        assert kv.batches == 2 and first[0].done() and not any(task.done() for task in rest)
        kv.sync()
        await turns()
        assert kv.batches == 3 and sum(task.done() for task in rest) == 256
        kv.sync()
        receipts = await asyncio.gather(*first, *rest)
        assert {receipt.outcome for receipt in receipts} == {Outcome.APPLIED}
        assert [receipt.sequence for receipt in receipts] == list(range(1, 400))

    play(story)


def test_each_sees_those_before_it() -> None:
    async def story(kv: CountingKv, store: LocalStore, space: Namespace) -> None:
        same = command(b"r", 1, condition=ABSENT)
        tasks = begin(store, space, same, command(b"r", 2, condition=ABSENT), same, command(b"s", 3))
        await turns()
        kv.sync()
        won, lost, again, other = await asyncio.gather(*tasks)
        assert won.outcome is other.outcome is Outcome.APPLIED and again.outcome is Outcome.REPEATED
        assert isinstance(lost, ConditionFailed) and again.version == won.version
        batches = kv.batches
        (lost,) = await asyncio.gather(*begin(store, space, command(b"r", 4, condition=ABSENT)))
        assert isinstance(lost, ConditionFailed) and kv.batches == batches, "a refusal had nothing to wait for"

    play(story, Mode.CAS)


def test_a_refusal_waits_for_what_it_rests_on() -> None:
    async def story(kv: CountingKv, store: LocalStore, space: Namespace) -> None:
        batch = asyncio.ensure_future(
            store.mutate([Write(space, command(b"r", 1, condition=ABSENT)), Write(space, command(b"s", 2))])
        )
        await turns()
        (refused,) = begin(store, space, command(b"r", 3, condition=ABSENT))
        await turns()
        assert not refused.done() and not batch.done()
        kv.sync()
        assert isinstance(await refused, ConditionFailed) and len(await batch) == 2

    play(story, Mode.CAS)


def test_a_caller_that_goes_away_takes_nobody_with_it() -> None:
    async def story(kv: CountingKv, store: LocalStore, space: Namespace) -> None:
        tasks = begin(store, space, *(command(b"r%d" % number, number) for number in range(3)))
        await turns()
        later = begin(store, space, command(b"later", 9), command(b"last", 10))
        await turns()
        tasks[1].cancel()
        later[0].cancel()
        await turns()
        kv.sync()
        await turns()
        kv.sync()
        done = await asyncio.gather(*tasks, *later, return_exceptions=True)
        assert [isinstance(one, Receipt) for one in done] == [True, False, True, False, True]
        assert (await store.usage(space)).records == 5, "what was taken on is written all the same"

    play(story)


@pytest.mark.parametrize("error", [DiskFull("full"), RuntimeError("a mistake in the program")])
def test_all_hear_of_a_failure_and_the_next_go_on(error: Exception) -> None:
    async def story(kv: CountingKv, store: LocalStore, space: Namespace) -> None:
        kv.breaks = error
        tasks = begin(store, space, *(command(b"r%d" % number, number) for number in range(3)))
        told = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        assert told == [error] * 3
        kv.breaks = None
        tasks = begin(store, space, command(b"r0", 7))
        await turns()
        kv.sync()
        (receipt,) = await asyncio.wait_for(asyncio.gather(*tasks), 60)
        assert receipt.outcome is Outcome.APPLIED

    play(story)


def test_a_sync_that_fails_is_told_to_those_it_was_for() -> None:
    async def story(kv: CountingKv, store: LocalStore, space: Namespace) -> None:
        tasks = begin(store, space, command(b"r", 1), command(b"s", 2))
        await turns()
        (pending,) = kv._pending
        pending.set_exception(DiskFull("full"))
        told = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        assert [type(one) for one in told] == [DiskFull, DiskFull]
        kv._pending.clear()
        tasks = begin(store, space, command(b"t", 3))
        await turns()
        kv.sync()
        assert (await asyncio.wait_for(tasks[0], 60)).outcome is Outcome.APPLIED

    play(story)
