"""Bound namespaces of a real storage server followed by an engine: nothing is missed, nothing is taken twice."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from random import Random

import pytest

import wellspring_client.aio
from libs.clock.clock import SystemClock
from services.propagation.domain.engine import Engine
from services.propagation.domain.records import ROOT, RootRecord
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import View
from services.propagation.intake.intake import Intake
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk
from wellspring_client.errors import Unavailable, WellspringError

HTML = View("html", ("w/page/",))


class StorageProcess:
    """A real storage server on a directory, on the same port after a restart."""

    def __init__(self, directory):
        self.directory = directory
        self.address = "127.0.0.1:0"
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "services.storage.main", "--set", f"server.listen={self.address}"]
        command += ["--set", f"backend={{embedded: {{path: {self.directory}, reserve_bytes: 0}}}}"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1].decode()
        self.address = json.loads(line)["listen"][0]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def storage(tmp_path):
    process = StorageProcess(tmp_path / "storage")
    process.start()
    yield process
    process.kill()


def open_engine(disk):
    return Engine(MemoryStore(disk), SystemClock(), Random(1), Settings(), [HTML], 1)


@asynccontextmanager
async def following(engine, address, **options):
    async with wellspring_client.aio.connect(storage=address, timeout=2.0) as client:
        intake = Intake(engine, client.storage, Random(1), refresh_s=0.1, **options)
        task = asyncio.create_task(intake.run())
        try:
            yield intake
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition, seconds=120.0):
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, "waited too long"
        await asyncio.sleep(0.02)


def accepted(engine):
    return [RootRecord.unpack(key, value).change for key, value in engine.shard.store.records(ROOT)]


def test_writes_become_changes_with_the_ids_of_their_receipts(storage):
    async def main():
        engine = open_engine(MemoryDisk())
        async with wellspring_client.aio.connect(storage=storage.address) as client:
            await client.storage.create_namespace("wiki", resource_prefix="w/page/", item_aspects={"t": "title"})
            await client.storage.create_namespace("other")
            wiki = client.storage.namespace("wiki")
            before = await wiki.put("Early", b"written before anybody follows")
            await client.storage.namespace("other").put("Early", b"not bound")
            async with following(engine, storage.address) as intake:
                await until(lambda: len(accepted(engine)) == 1)
                after = await wiki.put("Late", b"1")
                await wiki.delete("Late")
                await until(lambda: len(accepted(engine)) == 3)
                first, second, third = accepted(engine)
                assert [first.id, second.id] == [before.change_id, after.change_id]
                assert (first.resource, second.version) == ("w/page/Early", after.version)
                assert set(third.aspects) == {"content", "existence"}
                assert [state.namespace for state in intake.states()] == ["wiki"]
                assert all(root.total == 1 for root in engine.shard.roots.values())

    asyncio.run(main())


def test_the_cursor_survives_both_sides_and_nothing_is_taken_twice(storage):
    async def main():
        disk = MemoryDisk()
        engine = open_engine(disk)
        async with wellspring_client.aio.connect(storage=storage.address, timeout=60.0) as client:
            await client.storage.create_namespace("wiki", resource_prefix="w/page/")
            wiki = client.storage.namespace("wiki")
            ids = []
            for round_ in range(3):
                async with following(engine, storage.address) as intake:
                    for at in range(20):
                        ids.append((await wiki.put(f"P{at}", str(round_).encode())).change_id)
                    await until(counted(engine, ids))
                    storage.kill()
                    await until(lambda: any(state.error for state in intake.states()))
                    storage.start()
                    ids.append(await retried(wiki, f"R{round_}"))
                    await until(counted(engine, ids))
                ids.append(await retried(wiki, f"S{round_}"))  # while nobody follows
                disk.crash()
                engine = open_engine(disk)
            async with following(engine, storage.address):
                await until(counted(engine, ids))
                await asyncio.sleep(0.3)
            assert [change.id for change in accepted(engine)] == ids

    asyncio.run(main())


def counted(engine, ids):
    """Whether so many changes were accepted, of this engine and these ids as they are now."""
    return lambda: len(accepted(engine)) == len(ids)


async def retried(namespace, record):
    for _ in range(300):
        try:
            return (await namespace.put(record, b"x")).change_id
        except Unavailable:
            await asyncio.sleep(0.2)
    raise AssertionError("storage did not come back")


def test_a_storage_service_that_is_away_is_said_so_and_waited_for(storage):
    async def main():
        engine = open_engine(MemoryDisk())
        address = storage.address
        storage.kill()
        async with following(engine, address) as intake:
            await until(lambda: any(state.error for state in intake.states()))
            storage.start()
            async with wellspring_client.aio.connect(storage=address) as client:
                await client.storage.create_namespace("wiki", resource_prefix="w/page/")
                await client.storage.namespace("wiki").put("A", b"1")
                await until(lambda: len(accepted(engine)) == 1)
            await until(lambda: not any(state.error for state in intake.states()))

    asyncio.run(main())


def test_names_that_can_be_no_resource_are_counted_and_the_feed_goes_on(storage):
    async def main():
        engine = open_engine(MemoryDisk())
        async with wellspring_client.aio.connect(storage=storage.address) as client:
            await client.storage.create_namespace("wiki", resource_prefix="w/page/")
            wiki = client.storage.namespace("wiki")
            refused = 0
            try:
                await wiki.put(b"\xff\xfe", b"1")
            except WellspringError as error:  # storage may refuse such a record of a bound namespace by itself
                assert "UTF-8" in str(error)
                refused = 1
            await wiki.put("Good", b"1")
            async with following(engine, storage.address) as intake:
                await until(lambda: len(accepted(engine)) == 1)
                assert intake.states()[0].skipped + refused == 1

    asyncio.run(main())
