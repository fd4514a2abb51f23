"""A backup that was put back revives nothing: the server notices, and revokes all that it had."""

import asyncio
import shutil
import signal
import uuid

import grpc
import pytest

from libs.clock.clock import SystemClock
from services.session.conformance.harness import service
from services.session.conformance.process import Process
from services.session.incarnation import Incarnation, IncarnationUnusable
from services.session.store.memory import MemoryStore
from wellspring.session.v1 import session_pb2 as pb
from wellspring.session.v1 import session_pb2_grpc

PATIENCE_S = 60


def call(server, method, request):
    async def main():
        async with grpc.aio.insecure_channel(server.address) as channel:
            return await getattr(session_pb2_grpc.SessionsStub(channel), method)(request, timeout=PATIENCE_S)

    return asyncio.run(main())


def created(server, subject):
    request = pb.CreateRequest(
        realm="web", subject=subject, assurance=pb.Assurance(level=1), request_id=str(uuid.uuid4())
    )
    return call(server, "Create", request).token


def is_good(server, token):
    try:
        call(server, "Validate", pb.ValidateRequest(realm="web", token=token))
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        return False
    return True


def watched(server, token=""):
    """The resume token of a feed's first answer, or the code of its refusal."""

    async def main():
        async with grpc.aio.insecure_channel(server.address) as channel:
            request = pb.WatchRevocationsRequest(realm="web", resume_token=token)
            feed = session_pb2_grpc.SessionsStub(channel).WatchRevocations(request, timeout=PATIENCE_S)
            try:
                async for answer in feed:
                    return answer.resume_token
            except grpc.aio.AioRpcError as error:
                return error.code()

    return asyncio.run(main())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_ses_10_a_restored_backup_revives_no_session(tmp_path, how):
    server = Process(tmp_path)
    server.start()
    try:
        revoked, kept = created(server, "a"), created(server, "b")
        server.kill(signal.SIGTERM)
        shutil.copytree(tmp_path / "data", tmp_path / "backup")
        server.start()
        assert is_good(server, revoked) and is_good(server, kept), "a restart is no restore"
        call(server, "Revoke", pb.RevokeRequest(realm="web", token=revoked))
        feed = watched(server)
        server.kill(how)
        server.start()
        assert is_good(server, kept) and watched(server, feed) != grpc.StatusCode.OUT_OF_RANGE
        server.kill(how)

        shutil.rmtree(tmp_path / "data")
        shutil.copytree(tmp_path / "backup", tmp_path / "data")
        server.start()
        assert not is_good(server, revoked), "what was revoked after the backup"
        assert not is_good(server, kept)
        assert watched(server, feed) is grpc.StatusCode.OUT_OF_RANGE, "numbers of before mean something else now"
        fresh = created(server, "a")
        server.kill(how)
        server.start()
        assert is_good(server, fresh) and not is_good(server, revoked), "once restored, it lives on"
    finally:
        server.kill()
    assert b"a copy of it was put back" in (tmp_path / "log").read_bytes()


def test_ses_10_each_way_in_which_store_and_file_can_differ(tmp_path):
    path = tmp_path / "incarnation"

    async def start(store, revokes):
        """Whether a start over the store revokes is as told."""
        s = await service(store)
        before = s.realm().epoch
        one = Incarnation(store, path, SystemClock())
        await one.open(s.tools.realms, s.events)
        assert (s.realm().epoch != before) is revokes
        assert len(s.events.of("realm_revoked")) == (2 if revokes else 0)
        return one

    async def main():
        store = MemoryStore()
        one = await start(store, False)
        name = one.name
        for _ in range(3):
            await one.advance()
        assert (await start(store, False)).name == name
        behind = path.read_bytes()
        again = await start(store, False)  # one ahead of what is put back now, as after a crash in between
        path.write_bytes(behind)
        assert (await start(store, False)).name == name
        await again.advance()
        await again.advance()
        path.write_bytes(behind)
        other = await start(store, True)  # the file is older
        assert other.name != name
        path.unlink()
        await start(store, True)
        await start(MemoryStore(), True)  # the file is another store's
        await start(store, True)
        path.write_bytes(b"{}")
        with pytest.raises(IncarnationUnusable, match="remove the file"):
            await start(store, False)

    asyncio.run(main())
