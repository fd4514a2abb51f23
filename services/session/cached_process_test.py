"""The real process with a cache: Redis comes, hangs, dies and comes back; nobody is refused or let in for it."""

import asyncio
import urllib.request
import uuid
from pathlib import Path

import grpc

from services.session.conformance.process import Process
from tools.dev.servers.ports import free_port
from tools.dev.servers.redis import Redis
from wellspring.session.v1 import session_pb2 as pb
from wellspring.session.v1 import session_pb2_grpc

BOUND_S = 2


class Site:
    """A server, and what it says of its cache."""

    def __init__(self, path: Path, redis: Redis) -> None:
        self.metrics = f"127.0.0.1:{free_port()}"
        origin = f"{{embedded: {{path: {path / 'data'}, reserve_bytes: 0}}}}"
        self.server = Process(
            path,
            f"telemetry.metrics_listen={self.metrics}",
            f"realms=[{{name: web, revocation_bound: {BOUND_S}s}}]",
            backend=f"{{cached: {{redis: {{address: '{redis.address}', timeout: 200ms}}, origin: {origin}}}}}",
        )

    def counted(self, what: str) -> float:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        found = [one for one in lines if one.startswith(f'wellspring_session_cache_total{{what="{what}"}} ')]
        return float(found[0].split()[1]) if found else 0.0


async def create(stub):
    request = pb.CreateRequest(
        realm="web", subject="alice", assurance=pb.Assurance(level=1), request_id=str(uuid.uuid4())
    )
    return await stub.Create(request, timeout=60)


async def is_valid(stub, token):
    try:
        await stub.Validate(pb.ValidateRequest(token=pb.Secret(value=token), realm="web"), timeout=60)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED, error.details()
        return False
    return True


async def revoke(stub, token):
    answer = await stub.Revoke(pb.RevokeRequest(realm="web", token=pb.Secret(value=token)), timeout=60)
    return answer.receipts[0]


async def used(site, stub, token):
    """Validates until the cache answers."""
    before = site.counted("hit")
    while site.counted("hit") == before:
        assert await is_valid(stub, token)


async def turn(stub):
    """A login, good until its logout, which is answered truly."""
    token = (await create(stub)).token.value
    assert await is_valid(stub, token) and await is_valid(stub, token)
    receipt = await revoke(stub, token)
    assert not await is_valid(stub, token)
    return receipt


def test_redis_is_never_needed_and_receipts_say_when_it_could_not_be_told(tmp_path):
    states = pb.RevokeResponse.Enforcement

    async def story(site, redis):
        site.server.start()
        async with grpc.aio.insecure_channel(site.server.address) as channel:
            stub = session_pb2_grpc.SessionsStub(channel)
            kept = (await create(stub)).token.value
            receipt = await turn(stub)  # Redis was never there
            assert receipt.state == states.STATE_PENDING and site.counted("failure")
            with redis:
                await used(site, stub, kept)
                for disturb, mend in ((redis.pause, redis.resume), (redis.kill, redis.start)):
                    disturb()
                    receipt = await turn(stub)
                    assert receipt.state == states.STATE_PENDING
                    assert await is_valid(stub, kept)
                    mend()
                    await used(site, stub, kept)
                while (await turn(stub)).state != states.STATE_ENFORCED:
                    pass  # an exchange may be too slow once more
            ended = (await create(stub)).token.value
            await revoke(stub, ended)
            assert not await is_valid(stub, ended) and await is_valid(stub, kept)

    site = Site(tmp_path, redis := Redis())
    try:
        asyncio.run(story(site, redis))
    finally:
        site.server.kill()
