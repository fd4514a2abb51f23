"""While the disk refuses, the service says that it is not ready; it comes back, with all that was acknowledged."""

import asyncio
import errno
import resource
import uuid

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.errors.errors import ResourceExhausted, Unavailable
from libs.rpc.options import ServerOptions
from libs.rpc.server import Server
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from services.session.audit.file import AuditFile
from services.session.conformance.harness import STORES, over
from services.session.conformance.process import Process
from services.session.crypto import assertions, keyring
from services.session.domain.opaque_sweeping import OpaqueSweeper
from services.session.domain.policy import SECOND
from services.session.domain.sweeping import Sweeper
from wellspring.session.v1 import session_pb2 as pb
from wellspring.session.v1 import session_pb2_grpc

PATIENCE_S = 120
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "wellspring.session.v1.Sessions"


async def state(channel, service=SERVICE):
    """None when nobody answers."""
    try:
        return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))).status
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        return None


async def until(channel, expected, service=SERVICE):
    async with asyncio.timeout(PATIENCE_S):
        while await state(channel, service) not in expected:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.05)


async def create(channel, subject):
    request = pb.CreateRequest(
        realm="web", subject=subject, assurance=pb.Assurance(level=1), request_id=str(uuid.uuid4())
    )
    return (await session_pb2_grpc.SessionsStub(channel).Create(request, timeout=60)).token


def test_ses_29_a_store_that_takes_no_writes_is_not_serving_and_a_restart_brings_it_back(tmp_path):
    server = Process(tmp_path, "server.health_interval=50ms")
    server.start()

    async def fill():
        made = []
        async with grpc.aio.insecure_channel(server.address) as channel:
            await until(channel, (SERVING,))
            made += [await create(channel, f"u{n}") for n in range(5)]
            # From now on no log of the process may grow, as on a disk that is full. What is small and there already can
            # be written over: a part of it would be, with a lower limit, as no full disk does it.
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
            refused = 0
            while not refused:
                try:
                    made.append(await create(channel, "late"))
                except grpc.aio.AioRpcError as error:
                    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
                    refused += 1
            await until(channel, (NOT_SERVING,))
            await until(channel, (NOT_SERVING,), "")
            for token in made:  # those who are logged in are served as long as somebody asks
                await session_pb2_grpc.SessionsStub(channel).Validate(
                    pb.ValidateRequest(realm="web", token=token), timeout=60
                )
        return made

    async def check(made):
        async with grpc.aio.insecure_channel(server.address) as channel:
            await until(channel, (SERVING,))
            for token in made:
                await session_pb2_grpc.SessionsStub(channel).Validate(
                    pb.ValidateRequest(realm="web", token=token), timeout=60
                )
            await create(channel, "again")

    try:
        made = asyncio.run(fill())
        server.kill()
        server.start()
        asyncio.run(check(made))
    finally:
        server.kill()


def test_ses_29_an_audit_that_cannot_be_written_is_told_and_comes_back_by_itself(tmp_path, monkeypatch):
    def refuse(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    async def main():
        ring = keyring.generate(0)
        audit = AuditFile(tmp_path / "audit", "dc1", lambda text: assertions.sign_bytes(ring, text), kept_for_s=86_400)
        options = ServerOptions(service="session", drain_wait_s=0, health_interval_s=0.05)
        server = Server(options, Telemetry(TelemetryOptions(), "session"))

        async def opened():
            return audit

        await server.resources.add("audit", opened, close=AuditFile.close, health=AuditFile.check)
        async with server, grpc.aio.insecure_channel(server.addresses[0]) as channel:
            await until(channel, (SERVING,), "")
            monkeypatch.setattr("services.session.audit.file.os.write", refuse)
            audit.record("session_revoked", "web", "h", "c", {})
            await until(channel, (NOT_SERVING,), "")
            monkeypatch.undo()
            audit.record("session_revoked", "web", "h", "c", {})
            await until(channel, (SERVING,), "")

    asyncio.run(main())


@pytest.mark.parametrize("store", STORES)
def test_ses_29_a_full_disk_puts_the_sweeper_off_and_ends_nothing(store):
    async def test(s):
        made = await s.create(level=3)
        note, refusals = s.tools.store.note, []

        async def full(values):
            if len(refusals) < 3:
                refusals.append(1)
                raise ResourceExhausted("the disk is full", reason="DISK_FULL")
            await note(values)

        s.tools.store.note = full
        sweeper = asyncio.create_task(Sweeper(s.tools, SECOND, 86_400 * SECOND).run())
        await s.clock.sleep(1000)  # the session is over
        # The disk is real and the clock is not: as many turns as it takes.
        for _ in range(10_000):
            if sweeper.done() or (await s.tools.store.read("web", made.session.handle)).session is None:
                break
            await s.clock.sleep(10)
        assert not sweeper.done() and len(s.events.of("sweep_put_off")) == 3
        assert (await s.tools.store.read("web", made.session.handle)).session is None, "it went on, and swept"
        sweeper.cancel()
        await asyncio.wait([sweeper])

    over(store, test)


@pytest.mark.parametrize("error", [ResourceExhausted("full", reason="DISK_FULL"), Unavailable("away")], ids=str)
@pytest.mark.parametrize("store", STORES)
def test_ses_29_a_store_that_refuses_puts_the_sweeper_of_opaque_realms_off(store, error):
    async def test(s):
        prune, refusals = s.tools.store.opaque.prune, []

        async def full(now_us, limit):
            if len(refusals) < 3:
                refusals.append(1)
                raise error
            done.set()
            return await prune(now_us, limit)

        done = asyncio.Event()
        s.tools.store.opaque.prune = full
        sweeper = asyncio.create_task(OpaqueSweeper(s.tools, SECOND).run())
        await done.wait()
        assert not sweeper.done() and [told["reason"] for told in s.events.of("sweep_put_off")] == [error.reason] * 3
        sweeper.cancel()
        await asyncio.wait([sweeper])

    over(store, test)
