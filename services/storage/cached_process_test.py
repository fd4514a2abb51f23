"""The real process with a cache: Redis comes, goes and hangs, the server is killed; readers notice nothing of it."""

import asyncio
import urllib.request
from pathlib import Path
from typing import Any

import grpc

from services.storage.rig import put
from services.storage.server_process import Process
from tools.dev.servers.ports import free_port
from tools.dev.servers.redis import Redis
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_admin_pb2_grpc, storage_pb2_grpc
from wellspring.storage.v1 import storage_pb2 as pb


class Site:
    """A server, a Redis, and what the server says of its cache."""

    def __init__(self, path: Path, redis: Redis) -> None:
        self.metrics = f"127.0.0.1:{free_port()}"
        self.server = Process(
            path / "data",
            f"backend.cached.redis.address={redis.address}",
            "backend.cached.redis.timeout=200ms",
            f"telemetry.metrics_listen={self.metrics}",
            embedded="backend.cached.origin.embedded",
        )
        self.number = 0

    def counter(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        (line,) = [one for one in lines if one.startswith(f"wellspring_storage_cache_{name}_total ")]
        return float(line.split()[1])

    async def turn(self, stub: Any) -> None:
        """A write, and reads of it."""
        self.number += 1
        await stub.Put(put(b"r", b"%d" % self.number, namespace="cached"), timeout=30)
        for _ in range(3):
            answer = await stub.Get(pb.GetRequest(namespace="cached", record=b"r"), timeout=30)
            assert answer.items[0].value == b"%d" % self.number

    async def used(self, stub: Any) -> None:
        """Turns until the cache answers some of the reads."""
        before = self.counter("hits")
        while self.counter("hits") == before:
            await self.turn(stub)


def test_readers_see_every_write_whatever_becomes_of_redis_and_of_the_server(tmp_path: Path) -> None:
    async def story(site: Site, redis: Redis) -> None:
        site.server.start()
        async with grpc.aio.insecure_channel(site.server.address) as channel:
            admin: Any = storage_admin_pb2_grpc.StorageAdminStub(channel)
            stub: Any = storage_pb2_grpc.StorageStub(channel)
            namespace = admin_pb.Namespace(name="cached", mode=admin_pb.MODE_CAS, cache=admin_pb.Cache(enabled=True))
            await admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=namespace), timeout=30)
            await site.turn(stub)  # Redis was never there
            assert site.counter("failures") > 0
            with redis:
                await site.used(stub)
                for disturb, mend in ((redis.pause, redis.resume), (redis.kill, redis.start)):
                    disturb()
                    for _ in range(5):
                        await site.turn(stub)
                    mend()
                    await site.used(stub)
                answer = await stub.Get(
                    pb.GetRequest(namespace="cached", record=b"r", consistency=pb.CONSISTENCY_STRONG_GLOBAL), timeout=30
                )
                assert answer.items[0].value == b"%d" % site.number and site.counter("bypassed") == 1
        site.server.end()

    redis = Redis()
    site = Site(tmp_path, redis)
    asyncio.run(story(site, redis))


def test_a_server_killed_and_started_again_answers_nothing_of_before(tmp_path: Path) -> None:
    async def turns(site: Site, *, first: bool) -> None:
        async with grpc.aio.insecure_channel(site.server.address) as channel:
            if first:
                admin: Any = storage_admin_pb2_grpc.StorageAdminStub(channel)
                namespace = admin_pb.Namespace(
                    name="cached", mode=admin_pb.MODE_LWW, cache=admin_pb.Cache(enabled=True)
                )
                await admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=namespace), timeout=30)
            stub: Any = storage_pb2_grpc.StorageStub(channel)
            if not first:
                answer = await stub.Get(pb.GetRequest(namespace="cached", record=b"r"), timeout=30)
                assert answer.items[0].value == b"%d" % site.number
            await site.used(stub)

    with Redis() as redis:
        site = Site(tmp_path, redis)
        for first in (True, False, False):
            site.server.start()
            asyncio.run(turns(site, first=first))
            site.server.end()
