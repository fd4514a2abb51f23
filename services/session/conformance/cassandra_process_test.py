"""Real servers on a real cluster: two are one service, and kill -9 of one loses no login and no revocation."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
import uuid

import grpc
import pytest

from libs.cassandra.testing.guarded import EXPIRED, FOREIGN
from libs.rpc.testing.harness import details
from services.session.conformance import node
from services.session.conformance.process import Process
from services.session.crypto import rotation
from tools.dev.servers.redis import Redis
from wellspring.session.v1 import session_admin_pb2, session_admin_pb2_grpc, session_pb2_grpc
from wellspring.session.v1 import session_pb2 as pb

REALMS = "realms=[{name: web, max_sessions_per_subject: 0, revocation_bound: 60s}]"

ENOUGH = 20
"""Logins before the kill."""


def backend(**other):
    return json.dumps({"cassandra": {**node.settings(), **other}})


async def create(stub, subject):
    request = pb.CreateRequest(
        realm="web", subject=subject, assurance=pb.Assurance(level=1), request_id=str(uuid.uuid4()), data={"k": b"v"}
    )
    return await stub.Create(request, timeout=60)


async def is_valid(stub, token, keys=("k",)):
    request = pb.ValidateRequest(token=pb.Secret(value=token), realm="web", data_keys=keys)
    try:
        answer = await stub.Validate(request, timeout=60)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED, error.details()
        return False
    assert not keys or answer.data["k"].value == b"v"
    return True


async def story(first, second):
    """Logins at both, one of them killed in the middle of more; then everything is judged at the other."""
    made, ended, enough = [], [], asyncio.Event()
    async with grpc.aio.insecure_channel(first.address) as one, grpc.aio.insecure_channel(second.address) as two:
        stubs = [session_pb2_grpc.SessionsStub(channel) for channel in (one, two)]

        async def bearer(stub, number):
            while True:
                token = (await create(stub, f"u{number}")).token.value
                made.append(token)
                if len(made) >= ENOUGH:
                    enough.set()
                if len(made) % 3 == 0:
                    await stub.Revoke(pb.RevokeRequest(realm="web", token=pb.Secret(value=token)), timeout=60)
                    ended.append(token)

        async def until_killed(number):
            with pytest.raises(grpc.aio.AioRpcError):
                await bearer(stubs[0], number)
            enough.set()  # also where it broke off before it was killed

        async def some(number):
            for _ in range(3):
                made.append((await create(stubs[1], f"u{number}")).token.value)

        async def killing():
            await enough.wait()
            first.kill()

        await asyncio.gather(*(until_killed(n) for n in range(4)), *(some(n) for n in range(4)), killing())
        unsure = set(made) - set(ended)
        for token in ended:
            assert not await is_valid(stubs[1], token), "a revocation that was answered"
        # A login that was answered is good, unless its bearer was logging out when the server was killed.
        gone = [token for token in unsure if not await is_valid(stubs[1], token)]
        assert len(gone) <= 4
        return next(token for token in unsure if token not in gone)


async def panic(first, second, token):
    """All of the realm revoked at one server counts at the other."""
    async with grpc.aio.insecure_channel(first.address) as one, grpc.aio.insecure_channel(second.address) as two:
        stubs = [session_pb2_grpc.SessionsStub(channel) for channel in (one, two)]
        assert await is_valid(stubs[0], token)
        await stubs[0].Revoke(pb.RevokeRequest(realm="web", whole_realm=True), timeout=60)
        assert not await is_valid(stubs[0], token)
        while True:
            if not await is_valid(stubs[1], token):
                return
            await asyncio.sleep(0.05)


def test_two_servers_are_one_service_and_a_kill_loses_nothing(tmp_path):
    node.empty()
    first = Process(tmp_path, REALMS, backend=backend())
    second = Process(tmp_path, REALMS, backend=backend())
    first.start()
    second.start()
    try:
        token = asyncio.run(story(first, second))
        first.start()
        asyncio.run(panic(first, second, token))
    finally:
        for server in (first, second):
            server.kill()


def test_two_servers_share_a_cache_and_what_one_revokes_the_other_refuses(tmp_path):
    node.empty()

    async def shared(first, second):
        async with grpc.aio.insecure_channel(first.address) as one, grpc.aio.insecure_channel(second.address) as two:
            stubs = [session_pb2_grpc.SessionsStub(channel) for channel in (one, two)]
            for revoked in ("token", "subject"):
                token = (await create(stubs[0], "alice")).token.value
                for stub in (*stubs, *stubs):
                    assert await is_valid(stub, token, ())
                target = {"token": pb.Secret(value=token)} if revoked == "token" else {"subject": "alice"}
                answer = await stubs[0].Revoke(pb.RevokeRequest(realm="web", **target), timeout=60)
                (receipt,) = answer.receipts
                assert receipt.state == pb.RevokeResponse.Enforcement.STATE_ENFORCED
                for stub in reversed(stubs):
                    assert not await is_valid(stub, token, ())
        return token

    with Redis() as redis:
        behind = f"{{cached: {{redis: {{address: '{redis.address}', timeout: 10s}}, origin: {backend()}}}}}"
        first, second = (Process(tmp_path, REALMS, backend=behind) for _ in range(2))
        first.start()
        second.start()
        try:
            asyncio.run(shared(first, second))
            asyncio.run(made_and_revoked_as_a_whole(first, second))
        finally:
            for server in (first, second):
                server.kill()


async def made_and_revoked_as_a_whole(first, second):
    async with grpc.aio.insecure_channel(first.address) as channel:
        made = await create(session_pb2_grpc.SessionsStub(channel), "bob")
    await panic(first, second, made.token.value)


def test_a_key_is_promoted_over_two_servers_with_files_of_their_own_and_a_start_without_it_is_refused(tmp_path):
    node.empty()
    paths = [tmp_path / name for name in ("first", "second")]
    for path in paths:
        path.mkdir()
    first, second = (Process(path, REALMS, backend=backend()) for path in paths)
    files = [path / "keyring.json" for path in paths]
    first.start()
    shutil.copy(files[0], files[1])
    old = files[0].read_bytes()
    second.start()
    try:
        made = asyncio.run(logs_in(first.address))
        # It lies in one file only, and then in both.
        rotation.change(files[0], lambda ring: rotation.added(ring, "seal", 9)[0])
        assert asyncio.run(promotes(first.address)) == "KEY_NOT_EVERYWHERE"
        shutil.copy(files[0], files[1])
        while asyncio.run(promotes(first.address)) == "KEY_NOT_EVERYWHERE":
            time.sleep(0.1)
        late = asyncio.run(logs_in(first.address))
        asyncio.run(all_valid(second.address, [made, late]))
        second.kill()
        files[1].write_bytes(old)
        status, words = second.fails()
        assert status and "seal-2" in words and "Traceback" not in words
        shutil.copy(files[0], files[1])
        second.start()
        late = asyncio.run(logs_in(second.address))
        asyncio.run(all_valid(first.address, [made, late]))
    finally:
        for server in (first, second):
            server.kill()


async def logs_in(address):
    async with grpc.aio.insecure_channel(address) as channel:
        return (await create(session_pb2_grpc.SessionsStub(channel), "alice")).token.value


async def promotes(address):
    """The reason why it was refused, or nothing."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = session_admin_pb2_grpc.SessionAdminStub(channel)
        try:
            await stub.PromoteKey(session_admin_pb2.PromoteKeyRequest(key_id="seal-2"), timeout=60)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, error.details()
            return details(error).reason
    return ""


async def all_valid(address, tokens):
    async with grpc.aio.insecure_channel(address) as channel:
        for token in tokens:
            assert await is_valid(session_pb2_grpc.SessionsStub(channel), token)


def test_several_workers_are_refused_by_name(tmp_path):
    status, words = Process(tmp_path, "server.workers=2", backend=backend()).fails()
    assert status and "1 is allowed" in words and "Traceback" not in words


def test_migrations_that_were_applied_are_not_missing(tmp_path):
    command = Process(tmp_path, backend=backend()).command
    done = subprocess.run(
        [sys.executable, "-m", "services.session.migrate", *command[3:]], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "nothing is missing\n"), done.stderr


def test_a_server_that_is_not_let_in_says_by_which_setting(tmp_path):
    if not node.options().username:
        pytest.skip("the node that runs already lets in everybody")
    _, files = node.guarded()
    (tmp_path / "wrong").write_text("planted-secret")
    for setting, other in (
        ("username, password_file: it refuses", {"password_file": str(tmp_path / "wrong")}),
        ("tls.ca_file: a node's certificate is not signed", {"tls": files.tls(ca=FOREIGN)}),
        ("tls.certificate_file, tls.key_file: a node", {"tls": files.tls(EXPIRED)}),
    ):
        status, words = Process(tmp_path, backend=backend(**other)).fails()
        assert status and setting in words, words
        assert "planted-secret" not in words and "Traceback" not in words
