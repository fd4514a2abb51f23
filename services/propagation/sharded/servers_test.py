"""Servers on one shard: a log makes one again that was killed, and spares take over."""

import asyncio
import shutil
import signal

import pytest

import wellspring_client.aio
from libs.kafka.consumer import Consumer
from libs.kafka.testing.broker import PATIENCE_S, options_of, until
from services.propagation.simulation.processes import DEPENDENTS, Executor, Process, Stubs, connected, edit, load
from tools.dev.servers.kafka import Kafka
from wellspring.propagation.v1 import propagation_admin_pb2

SESSION_S = 15


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        yield kafka


def server(kafka, path, more=""):
    """An engine; those of one test share a log. `more`: of its backend."""
    prefix = f"{path.parent.name}."
    brokers = f"bootstrap_servers: ['{kafka.address}'], topic_prefix: '{prefix}', group: {prefix}engines"
    shard = f"kafka: {{{brokers}, replication: 1}}, session_timeout: {SESSION_S}s{more}"
    return Process(path, backend=f"{{sharded: {{{shard}, embedded: {{path: {path}, reserve_bytes: 0}}}}}}")


async def work(executor, stubs, items):
    """Renders until so many are done."""
    async with asyncio.timeout(PATIENCE_S):
        while executor.done.sum() < items:
            await executor.round(stubs)


async def made_again(process, executor, path):
    """Kills the server, takes its directory away, starts it again, and has the rest rendered."""
    process.kill()
    done = executor.done.copy()
    shutil.rmtree(path)
    await asyncio.to_thread(process.start)
    async with connected(process) as channel:
        await work(executor, Stubs(channel), DEPENDENTS)
    assert (executor.done[done > 0] == 1).all(), "what was acknowledged is not rendered again"
    assert executor.done.max() == 1, "each of them once"


def test_n01_n02_n03_n04_n06_hold_over_kill_9_with_the_directory_gone(kafka, tmp_path):
    """The server is made again from its log."""

    async def main():
        process = server(kafka, tmp_path / "a")
        executor = Executor()
        try:
            await asyncio.to_thread(process.start)
            async with connected(process) as channel:
                stubs = Stubs(channel)
                await load(stubs)
                # N06: three edits, and nothing is rendered between.
                for version in (1, 2, 3):
                    await edit(stubs, version)
                # N04: what was lent first is done last.
                first, second = await executor.lease(stubs), await executor.lease(stubs)
                # N01 and N03: whoever has these never reports; what was lent later is done.
                assert await executor.lease(stubs)
                for batch in [*second, *first]:
                    await executor.complete(stubs, batch)
                await work(executor, stubs, DEPENDENTS // 3)
            await made_again(process, executor, tmp_path / "a")
        finally:
            process.kill()

    asyncio.run(main())


def test_n01_and_n02_hold_over_kill_9_with_the_directory_gone_when_the_log_is_trimmed(kafka, tmp_path):
    """The server is made again from its snapshot in the storage service, and the rest of the log."""

    async def main():
        async with wellspring_client.aio.connect(storage=storage.address, timeout=PATIENCE_S) as client:
            await client.storage.create_namespace("snapshots")
        place = f"storage: {{addresses: ['{storage.address}'], timeout: 60s}}, namespace: snapshots, interval: 1s"
        process = server(kafka, tmp_path / "a", f", snapshots: {{{place}}}")
        executor = Executor()
        log = Consumer(options_of(kafka), start=False, uncommitted=True)
        try:
            await asyncio.to_thread(process.start)
            async with connected(process) as channel:
                stubs = Stubs(channel)
                await load(stubs)
                await edit(stubs, 1)

                async def trimmed():
                    """While work goes on, but for the last of it."""
                    if executor.done.sum() < DEPENDENTS - 5_000:
                        await executor.round(stubs)
                    else:
                        await edit(stubs, 1)
                    return (await log.bounds((f"{tmp_path.name}.propagation.shard-log", 0)))[0] > 0

                await until(trimmed, "the log is trimmed")
                (told,) = (await stubs.admin.GetStatus(propagation_admin_pb2.GetStatusRequest())).snapshots
                assert told.shard == 0 and told.HasField("newest_time") and told.size_bytes > 0
            await made_again(process, executor, tmp_path / "a")
        finally:
            process.kill()
            await log.close()

    storage = Process(tmp_path / "storage")
    storage.command[2] = "services.storage.main"
    storage.start()
    try:
        asyncio.run(main())
    finally:
        storage.kill()


def test_a_server_that_stood_still_while_another_took_over_ends_and_says_why(kafka, tmp_path):
    async def main():
        first, second = server(kafka, tmp_path / "a"), server(kafka, tmp_path / "b")
        await asyncio.to_thread(first.start)
        try:
            async with connected(first) as channel:
                stubs = Stubs(channel)
                await load(stubs)
                await edit(stubs, 1)
            first.process.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(second.start)
            async with connected(second) as channel:
                await edit(Stubs(channel), 2)
            first.process.send_signal(signal.SIGCONT)
            async with connected(first) as channel:
                with pytest.raises(Exception) as caught:
                    async with asyncio.timeout(PATIENCE_S):
                        while True:
                            await edit(Stubs(channel), 3)
            assert not isinstance(caught.value, TimeoutError)
            said = (await asyncio.to_thread(first.process.communicate, timeout=PATIENCE_S))[1].decode()
            assert first.process.returncode == 1
            assert "this engine's shard is lost" in said
            first.process = None
            async with connected(second) as channel:
                executor = Executor()
                await work(executor, Stubs(channel), DEPENDENTS)
                assert executor.done.max() == 1
        finally:
            first.kill()
            second.kill()

    asyncio.run(main())


def test_a_spare_takes_over_from_an_owner_that_is_killed_and_from_one_that_stops(kafka, tmp_path):
    async def main():
        first, spare = server(kafka, tmp_path / "a"), server(kafka, tmp_path / "b")
        executor = Executor()
        await asyncio.to_thread(first.start)
        try:
            async with connected(first) as channel:
                await load(Stubs(channel))
                standing_by = asyncio.create_task(asyncio.to_thread(spare.start))
                await edit(Stubs(channel), 1)
                await work(executor, Stubs(channel), DEPENDENTS // 3)
            assert not standing_by.done(), "it listens before it leads"
            first.kill()
            await standing_by
            async with connected(spare) as channel:
                await work(executor, Stubs(channel), DEPENDENTS)
                assert executor.done.max() == 1, "nothing is lost, nothing is done twice"
            # It comes back as a spare, with commits that were never acknowledged, or without.
            standing_by = asyncio.create_task(asyncio.to_thread(first.start))
            async with connected(spare) as channel:
                await edit(Stubs(channel), 2)
                await work(executor, Stubs(channel), DEPENDENTS + DEPENDENTS // 3)
            assert (await asyncio.to_thread(spare.stop))[0] == 0
            await standing_by
            async with connected(first) as channel:
                await work(executor, Stubs(channel), 2 * DEPENDENTS)
                assert executor.done.max() == 2
        finally:
            first.kill()
            spare.kill()

    asyncio.run(main())


def test_a_spare_that_is_told_to_stop_ends_as_told(kafka, tmp_path):
    async def main():
        owner, spare = server(kafka, tmp_path / "a"), server(kafka, tmp_path / "b")
        await asyncio.to_thread(owner.start)
        started = asyncio.create_task(asyncio.to_thread(spare.start))
        try:
            await until((tmp_path / "b" / "shard-0").exists, "it has begun")
            process = spare.process
            process.terminate()
            with pytest.raises(AssertionError) as caught:
                await started
            assert "Traceback" not in str(caught.value)
            assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
        finally:
            spare.kill()
            owner.kill()

    asyncio.run(main())
