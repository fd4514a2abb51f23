"""Operations: durable before they answer, begun again after a crash but not for ever, cancelled, undone, forgotten."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from libs.clock.clock import Clock, SystemClock
from libs.errors.errors import FailedPrecondition
from services.storage.domain.errors import OperationNotFound, OperationsExhausted
from services.storage.operations.record import CANCELLED, FAILED, RUNNING, SUCCEEDED, decode, encode
from services.storage.operations.runner import KEPT_US, Operations, Progress
from services.storage.store.local import LocalStore
from services.storage.store.memory import MemoryKv
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb

TURNS = 60_000


async def until(holds: Callable[[], bool]) -> None:
    """Waits for a condition."""
    for _ in range(TURNS):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to be")


class Steps:
    """A job that goes on when it is told to."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.own: dict[str, asyncio.Queue[Exception | None]] = {}
        self.runs: list[dict[str, str]] = []
        self.undone: list[str] = []

    async def run(self, arguments: Mapping[str, str], progress: Progress) -> admin_pb.RebucketReport:
        self.runs.append(dict(arguments))
        for done in range(3):
            step = await self.own.get(arguments.get("n", ""), self.steps).get()
            if step is not None:
                raise step
            progress.told(done + 1, 3)
        return admin_pb.RebucketReport(records=3)

    async def undo(self, arguments: Mapping[str, str], progress: Progress) -> None:
        self.undone.append(progress.name)
        if "stubborn" in arguments:
            raise ValueError("it cannot be undone")


class Server:
    """One life of a server over a store."""

    def __init__(self, store: LocalStore, clock: Clock, *, shared: bool) -> None:
        self.job = Steps()
        self.operations = Operations(store, {"rebucket": self.job}, clock, shared=shared)

    async def ended(self, name: str) -> admin_pb.Operation:
        """The operation once it has ended."""
        for _ in range(TURNS):
            found = await self.operations.get(name)
            if found.state != RUNNING:
                return found
            await asyncio.sleep(0.001)
        raise AssertionError(f"{name} did not end")

    async def running(self) -> None:
        """Waits until the job runs."""
        await until(lambda: bool(self.job.runs))

    async def let(self, *steps: Exception | None) -> None:
        """Lets the job go on."""
        for step in steps:
            await self.job.steps.put(step)


@contextlib.asynccontextmanager
async def serving(store: LocalStore, clock: Clock | None = None, *, shared: bool = False) -> AsyncIterator[Server]:
    """A life that ends by being cut off, as a crash is."""
    server = Server(store, clock or SystemClock(), shared=shared)
    await server.operations.adopt()
    task = asyncio.ensure_future(server.operations.run())
    try:
        yield server
    finally:
        task.cancel()
        await asyncio.wait([task])


def new_store() -> LocalStore:
    """A store in memory."""
    clock = SystemClock()
    return LocalStore(MemoryKv(), lambda: clock.time_ns() // 1000)


def test_progress_result_and_the_same_request_again() -> None:
    async def story() -> None:
        async with serving(new_store()) as server:
            begun = await server.operations.begin("rebucket", "wiki", {"name": "wiki"})
            assert (await server.operations.begin("rebucket", "wiki", {"name": "wiki"})).name == begun.name
            other = await server.operations.begin("rebucket", "other", {"name": "other"})
            assert other.name != begun.name
            await server.let(*[None] * 6)
            done = await server.ended(begun.name)
            assert (done.state, done.done, done.total, done.rebucket.records) == (SUCCEEDED, 3, 3, 3)
            await server.ended(other.name)
            assert not server.job.undone
            assert [one.name for one in await server.operations.all("wiki")] == [begun.name]
            with pytest.raises(OperationNotFound):
                await server.operations.get("nothing")

    asyncio.run(story())


def test_failures_say_why_and_what_nobody_expected_says_nothing() -> None:
    async def story() -> None:
        async with serving(new_store()) as server:
            first = await server.operations.begin("rebucket", "a", {"n": "1"})
            await server.let(FailedPrecondition("the reason", reason="SOME_REASON"))
            failed = await server.ended(first.name)
            assert (failed.state, failed.error.code, failed.error.message) == (FAILED, 9, "the reason")
            second = await server.operations.begin("rebucket", "a", {"n": "2", "stubborn": "yes"})
            await server.let(ValueError("a secret of the driver"))
            failed = await server.ended(second.name)
            assert failed.state == FAILED and failed.error.code == 13 and "secret" not in str(failed)
            assert server.job.undone == [first.name, second.name]

    asyncio.run(story())


def test_a_crash_begins_it_again_but_not_for_ever() -> None:
    async def story() -> None:
        store = new_store()
        async with serving(store) as server:
            begun = await server.operations.begin("rebucket", "a", {"n": "1"})
            await server.let(None)
            await server.running()
        async with serving(store) as server:
            await server.let(None, None, None)
            assert (await server.ended(begun.name)).state == SUCCEEDED
            assert server.job.runs == [{"n": "1"}]
            begun = await server.operations.begin("rebucket", "a", {"n": "2"})
        for _ in range(2):
            async with serving(store) as server:
                await server.running()
        async with serving(store) as server:
            failed = await server.ended(begun.name)
            assert failed.state == FAILED and "interrupted 3 times" in failed.error.message
            assert server.job.undone == [begun.name] and not server.job.runs

    asyncio.run(story())


def test_a_cancelled_operation_stops_and_stays_cancelled_through_a_crash() -> None:
    async def story() -> None:
        store = new_store()
        async with serving(store) as server:
            first = await server.operations.begin("rebucket", "a", {"n": "1"})
            await server.operations.cancel(first.name)
            await server.let(None)
            assert (await server.ended(first.name)).state == CANCELLED
            second = await server.operations.begin("rebucket", "a", {"n": "2"})
            await until(lambda: {"n": "2"} in server.job.runs)
            await server.operations.cancel(second.name)
        async with serving(store) as server:
            ended = await server.ended(second.name)
            assert ended.state == CANCELLED and server.job.undone == [second.name] and not server.job.runs
            assert (await server.operations.cancel(second.name)) == ended

    asyncio.run(story())


def test_their_number_is_bounded_and_old_ones_are_forgotten() -> None:
    async def story() -> None:
        store = new_store()
        async with serving(store) as server:
            for number in range(100):
                await server.operations.begin("rebucket", "a", {"n": str(number)})
            with pytest.raises(OperationsExhausted):
                await server.operations.begin("rebucket", "a", {"n": "more"})
            await server.let(*[None] * 4)
            await until(lambda: len(server.job.runs) > 2)  # one of the first two has ended
            assert len(await server.operations.all("a")) == 100
        for name, body in await store.documents("operation"):
            record = decode(body)
            record.message.state = SUCCEEDED
            record.message.end_time.FromMicroseconds(SystemClock().time_ns() // 1000 - KEPT_US - 1)
            if record.arguments["n"] != "7":
                await store.put_document("operation", name, encode(record))
        async with serving(store) as server:
            for _ in range(TURNS):
                left = await server.operations.all("")
                if len(left) == 1:
                    break
                await asyncio.sleep(0.001)
            assert len(left) == 1

    asyncio.run(story())


class Hurried:
    """A clock whose wall time jumps, and whose sleeps are short."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def time_ns(self) -> int:
        return SystemClock().time_ns() + self.ahead_ns

    def monotonic(self) -> float:
        return SystemClock().monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.005))


def test_servers_of_one_store_leave_each_other_s_work_alone_and_take_what_nobody_runs() -> None:
    async def story() -> None:
        store, clock = new_store(), Hurried()
        async with serving(store, clock, shared=True) as first:
            async with serving(store, clock, shared=True) as second:
                begun = await second.operations.begin("rebucket", "a", {"n": "1"})
                assert (await first.operations.begin("rebucket", "a", {"n": "1"})).name == begun.name
                assert await first.operations.uses("rebucket", "n", "1")
                await second.running()
                await asyncio.sleep(0.1)
                assert not first.job.runs, "it was taken from a server that runs it"
                second.job.own["2"] = asyncio.Queue()
                asked = await second.operations.begin("rebucket", "a", {"n": "2"})
                await until(lambda: {"n": "2"} in second.job.runs)
                await first.operations.cancel(asked.name)
                clock.ahead_ns += 6 * 10**9
                for _ in range(TURNS):  # until the owner has heard of it
                    if second.operations._mine[asked.name].cancelling:
                        break
                    await asyncio.sleep(0.001)
                await second.job.own["2"].put(None)
                ended = await first.ended(asked.name)
                assert ended.state == CANCELLED and second.job.undone == [asked.name]
            clock.ahead_ns += 60 * 10**9
            await first.running()
            await first.let(None, None, None)
            assert (await first.ended(begun.name)).state == SUCCEEDED

    asyncio.run(story())


def test_an_owner_that_slept_too_long_leaves_what_was_taken() -> None:
    async def story() -> None:
        store, clock = new_store(), Hurried()
        async with serving(store, clock, shared=True) as first:
            begun = await first.operations.begin("rebucket", "a", {"n": "1"})
            await first.running()
            (name, body) = (await store.documents("operation"))[0]
            async with first.operations._writing:  # as if it were stopped
                stale = decode(body)
                stale.message.update_time.FromMicroseconds(1)
                await store.put_document("operation", name, encode(stale))
                async with serving(store, clock, shared=True) as second:
                    await second.running()
                    await second.let(None, None, None)
                    assert (await second.ended(begun.name)).state == SUCCEEDED
            clock.ahead_ns += 6 * 10**9
            await until(lambda: first.operations._mine[name].owner != first.operations._me)
            await first.let(None)
            await until(lambda: name not in first.operations._mine)
            assert (await first.operations.get(name)).state == SUCCEEDED and not first.job.undone

    asyncio.run(story())
