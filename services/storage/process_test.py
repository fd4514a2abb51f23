"""The real process: killed under load it loses nothing that it acknowledged; started wrongly it says why."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from services.storage.rig import put, token
from services.storage.server_process import Process, command, environment
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_admin_pb2_grpc, storage_pb2_grpc
from wellspring.storage.v1 import storage_pb2 as pb

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
KILLS = int(os.environ.get("WELLSPRING_KILLS", "4"))
WRITERS = 8
COUNTERS = 4
PATIENCE_S = 300.0


async def until_answered(call: Callable[[], Awaitable[Any]]) -> Any:
    """Sends the same request again until there is an answer: what a lost answer asks of a caller."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise
            await asyncio.sleep(0.02)


class Load:
    """Writers, counters and a watcher, and what each was told."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: Any = storage_pb2_grpc.StorageStub(channel)
        self.admin: Any = storage_admin_pb2_grpc.StorageAdminStub(channel)
        self.stopping = asyncio.Event()
        self.written: dict[bytes, list[bytes]] = {}
        self.counted = 0
        self.seen: dict[str, list[tuple[bytes, bytes]]] = {"lww": [], "cas": []}

    async def write(self, number: int) -> None:
        """Puts numbers into a record of its own, one after the other, some of them in batches."""
        record, value = b"w%d" % number, 0
        while not self.stopping.is_set():
            request = put(record, b"%d" % value)
            if value % 3:
                receipt = (await until_answered(partial(self.stub.Put, request))).receipt
            else:
                one = pb.MutateRequest(namespace="lww", record=record, token=request.token)
                one.mutations.add().put.CopyFrom(request.item)
                batch = pb.BatchMutateRequest(requests=[one])
                answer = await until_answered(partial(self.stub.BatchMutate, batch))
                assert answer.results[0].status.code == 0, answer
                receipt = answer.results[0].receipt
            self.written.setdefault(record, []).append(receipt.version)
            value += 1

    async def count(self) -> None:
        """Adds one to a shared number, by etag, again and again."""
        fetch = pb.GetRequest(namespace="cas", record=b"counter")
        while not self.stopping.is_set():
            item = (await until_answered(partial(self.stub.Get, fetch))).items[0]
            request = put(b"counter", b"%d" % (int(item.value) + 1), namespace="cas")
            request.condition.etag = item.etag
            with contextlib.suppress(grpc.aio.AioRpcError):
                try:
                    await until_answered(partial(self.stub.Put, request))
                    self.counted += 1
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.ABORTED, error
                    raise

    async def watch(self, namespace: str) -> None:
        """Follows the feed from its beginning through every crash."""
        resume = ""
        while True:
            request = pb.WatchRequest(namespace=namespace, resume_token=resume, from_beginning=True)
            try:
                async for answer in self.stub.Watch(request):
                    self.seen[namespace] += [(event.record, event.version) for event in answer.events]
                    resume = answer.resume_token
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error
                await asyncio.sleep(0.02)

    async def goes_on(self) -> None:
        """Waits until every writer and some counter was answered once more, whatever the speed of the machine."""
        before, counted = {record: len(told) for record, told in self.written.items()}, self.counted
        async with asyncio.timeout(PATIENCE_S):
            while (  # noqa: ASYNC110 - it tells nobody
                len(self.written) < WRITERS
                or any(len(told) < before.get(record, 0) + 3 for record, told in self.written.items())
                or self.counted < counted + 2
            ):
                await asyncio.sleep(0.01)

    async def everything_seen(self, expected: dict[str, int]) -> None:
        """Waits until the watchers have seen so many changes."""
        for _ in range(int(PATIENCE_S / 0.02)):
            if all(len(set(self.seen[name])) >= count for name, count in expected.items()):
                return
            await asyncio.sleep(0.02)
        raise AssertionError({name: (len(set(self.seen[name])), count) for name, count in expected.items()})


def test_nothing_acknowledged_is_lost_by_kills(tmp_path: Path) -> None:
    print(f"seed {SEED}, {KILLS} kills; repeat with WELLSPRING_SEED={SEED} WELLSPRING_KILLS={KILLS}")
    chance = random.Random(SEED)
    process = Process(tmp_path / "data")
    process.start()

    async def story() -> None:
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
        async with grpc.aio.insecure_channel(process.address, options=options) as channel:
            load = Load(channel)
            for name, mode in (("lww", admin_pb.MODE_LWW), ("cas", admin_pb.MODE_CAS)):
                space = admin_pb.Namespace(name=name, mode=mode)
                await load.admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=space))
            await load.stub.Put(put(b"counter", b"0", namespace="cas"))
            async with asyncio.TaskGroup() as tasks:
                watchers = [tasks.create_task(load.watch(name)) for name in ("lww", "cas")]
                work = [tasks.create_task(load.write(number)) for number in range(WRITERS)]
                work += [tasks.create_task(load.count()) for _ in range(COUNTERS)]
                for _ in range(KILLS):
                    await load.goes_on()
                    await asyncio.sleep(chance.uniform(0.0, 0.7))
                    process.end()
                    # Not in a thread: the server ends with the thread that started it.
                    process.start()
                await load.goes_on()
                load.stopping.set()
                await asyncio.gather(*work)
                expected = {"lww": sum(map(len, load.written.values())), "cas": load.counted + 1}
                await load.everything_seen(expected)
                for watcher in watchers:
                    watcher.cancel()
            await verify(load)

    try:
        asyncio.run(story())
    finally:
        assert process.end(signal.SIGTERM) == 0


async def verify(load: Load) -> None:
    """What was acknowledged is there, once; the feed has every change, in order for each record."""
    for record, versions in load.written.items():
        got = await load.stub.Get(pb.GetRequest(namespace="lww", record=record))
        (item,) = got.items
        assert (item.version, item.value) == (versions[-1], b"%d" % (len(versions) - 1))
    got = await load.stub.Get(pb.GetRequest(namespace="cas", record=b"counter"))
    assert int(got.items[0].value) == load.counted
    for name, seen in load.seen.items():
        by_record: dict[bytes, list[bytes]] = {}
        for record, version in dict.fromkeys(seen):
            by_record.setdefault(record, []).append(version)
        if name == "lww":
            assert by_record == load.written
        else:
            assert by_record == {b"counter": sorted(by_record[b"counter"])}
            assert len(by_record[b"counter"]) == load.counted + 1
    usage = await load.admin.GetUsage(admin_pb.GetUsageRequest(name="lww"))
    assert usage.records == usage.items == WRITERS


def refused(arguments: list[str]) -> str:
    """What a server that cannot start says."""
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 78, done
    assert done.stdout == "" and "Traceback" not in done.stderr
    return done.stderr


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    process = Process(tmp_path / "data")
    process.start()
    try:
        assert "in use" in refused(command(tmp_path / "data", "127.0.0.1:0"))
        port = process.address.rpartition(":")[2]
        assert port in refused(command(tmp_path / "other", process.address))
    finally:
        assert process.end(signal.SIGTERM) == 0
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").write_text("not ours")
    assert "foreign" in refused(command(tmp_path / "foreign", "127.0.0.1:0"))
    assert "workers" in refused(command(tmp_path / "data", "127.0.0.1:0", "server.workers=2"))
    assert "sweeep" in refused(command(tmp_path / "data", "127.0.0.1:0", "sweeep.interval=1s"))
    short = "namespace_defaults.token_window=1m"
    assert "drift" in refused(command(tmp_path / "data", "127.0.0.1:0", short))
    assert not (tmp_path / "other").exists() or not any((tmp_path / "other").glob("db/*.sst"))


def test_tokens_outlive_the_process(tmp_path: Path) -> None:
    process = Process(tmp_path / "data")
    process.start()
    kept: dict[str, Any] = {}

    async def before() -> None:
        async with grpc.aio.insecure_channel(process.address) as channel:
            load = Load(channel)
            space = admin_pb.Namespace(name="lww", mode=admin_pb.MODE_LWW)
            await load.admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=space))
            request = pb.MutateRequest(namespace="lww", record=b"r", token=token())
            for number in range(10):
                request.mutations.add().put.key = b"%d" % number
            kept["request"], kept["receipt"] = request, (await load.stub.Mutate(request)).receipt
            kept["page"] = pb.GetRequest(namespace="lww", record=b"r", limits=pb.ReadLimits(max_items=4))
            kept["page"].page_token = (await load.stub.Get(kept["page"])).next_page_token

    async def after() -> None:
        async with grpc.aio.insecure_channel(process.address) as channel:
            load = Load(channel)
            got = await load.stub.Get(kept["page"])
            assert [item.key for item in got.items] == [b"4", b"5", b"6", b"7"]
            again = (await load.stub.Mutate(kept["request"])).receipt
            assert again.outcome == pb.OUTCOME_REPEATED and again.version == kept["receipt"].version

    asyncio.run(before())
    process.end()
    process.start()
    try:
        asyncio.run(after())
    finally:
        assert process.end(signal.SIGTERM) == 0
