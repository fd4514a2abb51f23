"""The real process: keys change while it serves, and kill -9 at any moment of it loses neither a session nor a key."""

import asyncio
import os
import random
import signal
import uuid

import grpc

from services.session.conformance.process import Process
from services.session.crypto import keyring as keyrings
from services.session.crypto import rotation
from wellspring.session.v1 import session_admin_pb2 as admin_pb
from wellspring.session.v1 import session_admin_pb2_grpc, session_pb2_grpc
from wellspring.session.v1 import session_pb2 as pb

ROUNDS = 8
SUBJECTS = 400


async def log_in(address, rng, made, count):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = session_pb2_grpc.SessionsStub(channel)

        async def one(name):
            rid = str(uuid.UUID(int=rng.getrandbits(128)))
            answer = await stub.Create(
                pb.CreateRequest(
                    realm="web",
                    subject=name,
                    assurance=pb.Assurance(level=1),
                    data={"n": name.encode()},
                    request_id=rid,
                )
            )
            made[name] = answer.token

        names = [f"u{len(made) + n}" for n in range(count)]
        await asyncio.gather(*(one(name) for name in names))


async def rotate(address, number):
    """Promotes and retires, until it is done or the server is gone."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = session_admin_pb2_grpc.SessionAdminStub(channel)
        await stub.PromoteKey(admin_pb.PromoteKeyRequest(key_id=f"seal-{number}"))
        while True:
            key = await stub.RetireKey(admin_pb.RetireKeyRequest(key_id=f"seal-{number - 1}"))
            if key.state == admin_pb.Key.STATE_RETIRED:
                return


async def rotate_and_kill(address, number, delay_s, kill):
    work = asyncio.create_task(rotate(address, number))
    await asyncio.wait([work], timeout=delay_s)
    await asyncio.to_thread(kill)
    error = (await asyncio.gather(work, return_exceptions=True))[0]
    assert error is None or error.code() is grpc.StatusCode.UNAVAILABLE, repr(error)
    return error is None


async def check(address, made):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = session_pb2_grpc.SessionsStub(channel)
        for name, token in made.items():
            answer = await stub.Validate(pb.ValidateRequest(token=token, realm="web", data_keys=["n"]))
            assert answer.data["n"].value == name.encode()


def test_ses_15_kill_9_in_the_middle_of_a_rotation_of_keys(tmp_path):
    seed = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(2**32)
    print(f"WELLSPRING_SEED={seed} repeats this")
    rng, server, made = random.Random(seed), Process(tmp_path), {}
    file = tmp_path / "keyring.json"
    server.start()
    asyncio.run(log_in(server.address, rng, made, SUBJECTS))
    for number in range(2, 2 + ROUNDS):
        rotation.change(file, lambda ring: rotation.added(ring, "seal", 9)[0])
        asyncio.run(rotate_and_kill(server.address, number, rng.random() ** 2 * 0.2, server.kill))
        server.start()
        asyncio.run(check(server.address, dict(rng.sample(sorted(made.items()), 40))))
        asyncio.run(rotate(server.address, number))
        asyncio.run(log_in(server.address, rng, made, 5))
    asyncio.run(check(server.address, made))
    assert server.kill(signal.SIGTERM) == 0
    seals = [key for key in keyrings.load(file).everything() if key.purpose == "seal"]
    assert [key.number for key in seals] == [1 + ROUNDS]
    log = (tmp_path / "log").read_bytes()
    assert b"Traceback" not in log and b'"ERROR"' not in log
