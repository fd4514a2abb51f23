"""The real process: kill -9 under load loses no acknowledged login or revocation, and bad starts say what is wrong."""

import asyncio
import json
import os
import random
import signal
import uuid

import grpc
import pytest

from services.session.audit.verify import keys_of, verify
from services.session.conformance.process import Process
from services.session.crypto import assertions, keyring
from wellspring.session.v1 import session_pb2 as pb
from wellspring.session.v1 import session_pb2_grpc

KILLS = 6
BEARERS = 24
PATIENCE_S = 300


class Ledger:
    """What was acknowledged, and what may have happened when a call was cut off."""

    def __init__(self):
        self.live = {}
        self.dead = set()
        self.unsure = set()
        self.counters = {}
        self.handles = set()


async def bearer(stub, rng, ledger):
    """One user's client: logs in, counts, rotates, logs out, as long as the server answers."""
    while True:
        rid = str(uuid.UUID(int=rng.getrandbits(128)))
        made = await stub.Create(
            pb.CreateRequest(
                realm="web", subject=f"u{rng.randrange(9)}", assurance=pb.Assurance(level=1), request_id=rid
            )
        )
        token, count = made.token.value, 0
        ledger.live[token] = 0
        ledger.handles.add(made.session.handle)
        for _ in range(rng.randrange(5)):
            if rng.random() < 0.6:
                update = pb.UpdateDataRequest(
                    token=pb.Secret(value=token), realm="web", request_id=str(uuid.UUID(int=rng.getrandbits(128)))
                )
                update.operations.add(key="n", add=1)
                await stub.UpdateData(update)
                count += 1
                ledger.live[token] = count
            else:
                ledger.unsure.add(token)
                rotated = await stub.Rotate(
                    pb.RotateRequest(
                        token=pb.Secret(value=token),
                        realm="web",
                        reason=pb.RotateRequest.REASON_PRIVILEGE,
                        request_id=str(uuid.UUID(int=rng.getrandbits(128))),
                    )
                )
                ledger.dead.add(token)
                del ledger.live[token]
                ledger.unsure.discard(token)
                token = rotated.token.value
                ledger.live[token] = count
        if rng.random() < 0.6:
            ledger.unsure.add(token)
            await stub.Revoke(pb.RevokeRequest(realm="web", token=pb.Secret(value=token)))
            ledger.dead.add(token)
            ledger.unsure.discard(token)
            del ledger.live[token]


async def load(address, rng, ledger, enough, kill):
    """Bearers at work; killed at some moment behind the one at which enough was done."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = session_pb2_grpc.SessionsStub(channel)
        work = [asyncio.create_task(bearer(stub, random.Random(rng.random()), ledger)) for _ in range(BEARERS)]
        async with asyncio.timeout(PATIENCE_S):
            while not enough():  # noqa: ASYNC110 - whatever the speed of the machine
                await asyncio.sleep(0.01)
        await asyncio.sleep(rng.random() * 0.5)
        await asyncio.to_thread(kill)
        for result in await asyncio.gather(*work, return_exceptions=True):
            assert isinstance(result, grpc.aio.AioRpcError), repr(result)
            assert result.code() is grpc.StatusCode.UNAVAILABLE, result.code()


async def check(address, ledger):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = session_pb2_grpc.SessionsStub(channel)

        async def valid(token):
            secret = pb.Secret(value=token)
            return await stub.Validate(pb.ValidateRequest(token=secret, realm="web", data_keys=["n"]))

        for token, count in ledger.live.items():
            if token in ledger.unsure:
                continue
            got = int((await valid(token)).data["n"].value or b"0")
            assert got in (count, count + 1), "an acknowledged update is missing"
        for token in ledger.dead:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await valid(token)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_kill_9_loses_no_acknowledged_login_rotation_or_revocation(tmp_path):
    seed = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(2**32)
    print(f"WELLSPRING_SEED={seed} repeats this")
    audit = tmp_path / "audit"
    # So long a token that was rotated away is refused, and no theft yet: those of the first rounds come to the last.
    realm = "realms=[{name: web, max_sessions_per_subject: 0, rotation_grace: 10m}]"
    server = Process(tmp_path, f"audit={{file: {audit}}}", "canary={interval: 100ms}", realm)
    rng, ledger = random.Random(seed), Ledger()
    server.start()
    for number in range(1, KILLS + 1):
        least = 3 * number
        enough = lambda least=least: len(ledger.live) >= least and len(ledger.dead) >= least  # noqa: E731
        asyncio.run(load(server.address, rng, ledger, enough, server.kill))
        server.start()
        asyncio.run(check(server.address, ledger))
    assert server.kill(signal.SIGTERM) == 0
    log, audited = (tmp_path / "log").read_bytes(), audit.read_bytes()
    for token in [*ledger.live, *ledger.dead]:
        assert token not in log and token.split(b".")[1] not in log
        assert token not in audited and token.split(b".")[1] not in audited
    assert b"Traceback" not in log and b'"ERROR"' not in log
    # The audit is one chain over all the kills, and has every login that was acknowledged.
    report = verify([audit], keys_of(assertions.key_set(keyring.load(tmp_path / "keyring.json"))))
    assert report.whole and report.heads and report.vouched == report.last - 1
    entries = [json.loads(line) for line in audited.splitlines()]
    assert sum(entry["event"] == "audit_opened" for entry in entries) == KILLS + 1
    assert ledger.handles <= {entry.get("handle") for entry in entries if entry["event"] == "session_created"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["create_keyring=false"], "there is no keyring at"),
        (["server.workers=2"], "a session server has one process"),
        (["audit={file: /proc/audit}"], "the audit file /proc/audit cannot be written"),
        (["audit={kafka: {bootstrap_servers: ['127.0.0.1:1']}}"], "audit.kafka needs audit.file"),
        (["audit={file: a, kafka: {bootstrap_servers: [nowhere]}}"], "audit.kafka.bootstrap_servers[0]"),
        (["canary={realm: web}"], "canary.realm: the realm web is somebody's"),
        (["quotas={anonymous_creates_per_second: 0}"], "anonymous_creates_per_second"),
        (["incarnation_file=/proc/x/y"], "incarnation_file: /proc/x/y cannot be written"),
        (["realms=[{name: web, timeouts: [{level: 2, idle: 1h, absolute: 2d}]}]"], "NIST"),
        (["realms=[{name: web, kind: opaque, ttl: 40d}]"], "realm.ttl"),
        (["realms=[{name: Web}]"], "beginning with a letter"),
        (["nonsense=1"], "nonsense"),
        (["backend={cached: {redis: {address: 'x:y'}, origin: {embedded: {path: HERE}}}}"], "cached.redis.address"),
        (
            ["backend={cached: {redis: {address: a}, origin: {cached: {redis: {address: a}, origin: {}}}}}"],
            "backend.cached.origin",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_bad_start_says_what_is_wrong(tmp_path, settings, says):
    status, text = Process(tmp_path, *(one.replace("HERE", str(tmp_path / "other")) for one in settings)).fails()
    assert status == 78 and says in text and "Traceback" not in text


def test_a_directory_in_use_and_a_keyring_that_is_gone(tmp_path):
    server = Process(tmp_path)
    server.start()
    try:
        status, text = Process(tmp_path).fails()
        assert status == 78 and "in use" in text and "Traceback" not in text
    finally:
        server.kill()
    (tmp_path / "keyring.json").unlink()
    status, text = Process(tmp_path).fails()
    assert status == 78 and "put it back" in text and not (tmp_path / "keyring.json").exists()
