"""Real servers on a real cluster, which they reach by TLS and with a password: migrations are asked for, two servers
are one store, kill -9 loses nothing, and who is not let in says why."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import grpc
import pytest

from libs.cassandra.testing.guarded import EXPIRED, FOREIGN, HOST, Guarded
from services.storage.rig import put
from services.storage.server_process import environment
from tools.dev.servers.cassandra import Cassandra
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_admin_pb2_grpc, storage_pb2_grpc
from wellspring.storage.v1 import storage_pb2 as pb

PATIENT = 60


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Guarded:
    return Guarded(tmp_path_factory.mktemp("guarded"))


@pytest.fixture(scope="module")
def address(guarded: Guarded) -> Iterator[str]:
    with Cassandra(guard=guarded.guard) as node:
        yield f"{HOST}:{node.tls_port}"


@pytest.fixture(scope="module")
def given(guarded: Guarded, address: str) -> list[str]:
    return words(address, tls=guarded.tls(), **guarded.login())


def words(address: str, **more: object) -> list[str]:
    """The settings of a server on the node at ``address``; ``more`` of the cluster's."""
    cassandra = {
        **more,
        "contact_points": [address],
        "keyspace": f"process_{os.getpid()}",
        "local_datacentre": "dc1",
        "request_timeout": "30s",
    }
    server = ["server.listen=['127.0.0.1:0']", "server.die_with_parent=true"]
    some = [f"backend.cassandra={json.dumps(cassandra)}", *server]
    return [word for one in some for word in ("--set", one)]


def run(module: str, given: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *given], capture_output=True, text=True, env=environment(), timeout=300
    )


class Server:
    """A server process with stubs."""

    def __init__(self, given: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.storage.main", *given],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self.process.stdout is not None
        (self.address,) = json.loads(self.process.stdout.readline())["listen"]

    def end(self, sign: int) -> int:
        self.process.send_signal(sign)
        status = self.process.wait(PATIENT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


async def until(call, *codes: grpc.StatusCode):
    """The answer of ``call``, asked again while it fails with one of ``codes``."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in codes:
                raise
            await asyncio.sleep(0.1)


def test_a_server_without_its_tables_says_what_to_do(given):
    refused = run("services.storage.main", given)
    assert refused.returncode != 0 and "migrations" in refused.stderr and "Traceback" not in refused.stderr
    done = run("services.storage.migrate", given)
    applied = (
        "applied 0001_tables\napplied 0002_lww\napplied 0003_together\napplied 0004_checksums\napplied 0005_spread\n"
    )
    assert (done.returncode, done.stdout) == (0, applied), done.stderr
    again = run("services.storage.migrate", given)
    assert (again.returncode, again.stdout) == (0, "nothing is missing\n"), again.stderr
    embedded = run("services.storage.migrate", ["--set", "backend.embedded.path=/nowhere"])
    assert embedded.returncode == 78 and "only the backend cassandra" in embedded.stderr


def test_a_server_that_is_not_let_in_says_by_which_setting(guarded, address):
    known = guarded.login()
    for setting, settings in (
        ("username, password_file: it refuses", {"tls": guarded.tls(), **guarded.login(password="planted-secret")}),
        ("tls.ca_file: a node's certificate is not signed", {"tls": guarded.tls(ca=FOREIGN), **known}),
        ("tls.certificate_file, tls.key_file: a node", {"tls": guarded.tls(EXPIRED), **known}),
        ("tls: a node breaks off", known),
    ):
        refused = run("services.storage.main", words(address, **settings))
        assert refused.returncode != 0 and setting in refused.stderr, refused.stderr
        assert "planted-secret" not in refused.stderr + refused.stdout
        assert "Traceback" not in refused.stderr
    refused = run("services.storage.migrate", words(address))
    assert refused.returncode == 1 and "tls: a node breaks off" in refused.stderr, refused.stderr


def test_two_servers_are_one_store_and_one_may_be_killed(given):
    run("services.storage.migrate", given)
    servers = [Server(given), Server(given)]
    try:
        asyncio.run(_one_store(servers))
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.end(signal.SIGTERM)


async def _one_store(servers):
    async with (
        grpc.aio.insecure_channel(servers[0].address) as first,
        grpc.aio.insecure_channel(servers[1].address) as second,
    ):
        admin = storage_admin_pb2_grpc.StorageAdminStub(first)
        stubs = [storage_pb2_grpc.StorageStub(first), storage_pb2_grpc.StorageStub(second)]
        space = admin_pb.Namespace(name="cas", mode=admin_pb.MODE_CAS)
        await admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=space), timeout=PATIENT)
        fetch = pb.GetRequest(namespace="cas", record=b"counter")
        first_put = put(b"counter", b"0", namespace="cas")
        # The other server learns of the namespace at its next look.
        await until(partial(stubs[1].Put, first_put, timeout=PATIENT), grpc.StatusCode.NOT_FOUND)
        assert (await stubs[0].Get(fetch, timeout=PATIENT)).items[0].value == b"0"
        acknowledged = []
        some = asyncio.Event()

        async def count(stub, times: int) -> None:
            for _ in range(times):
                while True:
                    item = (await stub.Get(fetch, timeout=PATIENT)).items[0]
                    request = put(b"counter", b"%d" % (int(item.value) + 1), namespace="cas")
                    request.condition.etag = item.etag
                    try:
                        call = partial(stub.Put, request, timeout=PATIENT)
                        receipt = await until(call, grpc.StatusCode.DEADLINE_EXCEEDED)
                    except grpc.aio.AioRpcError as error:
                        if error.code() is grpc.StatusCode.ABORTED:
                            continue
                        assert stub is stubs[0] and error.code() is grpc.StatusCode.UNAVAILABLE, error
                        return  # it was killed
                    acknowledged.append(receipt.receipt.version)
                    if len(acknowledged) == 10:
                        some.set()
                    break

        doomed = asyncio.create_task(count(stubs[0], 1000))
        await some.wait()
        servers[0].end(signal.SIGKILL)
        try:
            await doomed
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
        await count(stubs[1], 10)
        value = int((await stubs[1].Get(fetch, timeout=PATIENT)).items[0].value)
        # At most the one write of the killed server whose answer was lost.
        assert value - len(acknowledged) in (0, 1)
        assert acknowledged == sorted(set(acknowledged))
        await _feed_has(stubs[1], value + 1, acknowledged)


async def _feed_has(stub, count: int, acknowledged: list[bytes]) -> None:
    """The feed tells each write once, in order, also one that its server did not come to settle."""
    seen = []
    watch = stub.Watch(pb.WatchRequest(namespace="cas", from_beginning=True), timeout=5 * PATIENT)
    async for answer in watch:
        seen += [event.version for event in answer.events]
        if len(seen) >= count:
            break
    watch.cancel()
    assert len(seen) == count and seen == sorted(set(seen)) and set(acknowledged) <= set(seen)
