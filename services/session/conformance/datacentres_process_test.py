"""Two data centres with real servers, one of which has Redis in front: nodes of the other one are stopped, killed and
back; receipts are true, and what was revoked is refused everywhere, under both policies."""

import asyncio
import contextlib
import http.client
import json
import uuid

import grpc
import pytest

from libs.rpc.errors import DETAILS_KEY
from libs.rpc.testing.harness import details
from services.session.conformance import datacentres
from services.session.conformance.datacentres import NAMES, PATIENCE_S, node, pair
from services.session.conformance.process import Process
from services.session.crypto import keyring, rotation
from tools.dev.servers.redis import Redis
from wellspring.session.v1 import session_admin_pb2 as admin_pb
from wellspring.session.v1 import session_admin_pb2_grpc, session_pb2_grpc
from wellspring.session.v1 import session_pb2 as pb

STATES = pb.RevokeResponse.Enforcement
REALMS = [
    {"name": "closed", "revocation_bound": "3s", "on_partition": "fail_closed"},
    {"name": "open", "revocation_bound": "3s", "on_partition": "serve_local"},
    {"name": "wiki", "kind": "opaque", "ttl": "1h", "revocation_bound": "3s"},
]
KASK = "kask={listen: ['127.0.0.1:0'], realm: wiki, callers: [{identity: anonymous}]}"


def started(path, name, redis=None):
    given = datacentres.options(name)
    (host, port), *_ = given.contact_points
    backend = {
        "contact_points": [f"{host}:{port}"],
        "keyspace": given.keyspace,
        "local_datacentre": name,
        "request_timeout": "4s",
    }
    store = {"cassandra": backend}
    if redis is not None:
        store = {"cached": {"redis": {"address": redis.address, "timeout": "10s"}, "origin": store}}
    settings = [f"datacentre={name}", f"realms={json.dumps(REALMS)}", "failure_floor=0s", KASK]
    server = Process(path, *settings, backend=json.dumps(store))
    server.start()
    return server


class Client:
    """Of one data centre's server."""

    def __init__(self, name, channel, front):
        self.name = name
        self._front = front
        self._stub = session_pb2_grpc.SessionsStub(channel)
        self.admin = session_admin_pb2_grpc.SessionAdminStub(channel)

    async def create(self, realm, subject):
        request = pb.CreateRequest(
            realm=realm, subject=subject, assurance=pb.Assurance(level=1), request_id=str(uuid.uuid4())
        )
        return (await answered(lambda: self._stub.Create(request, timeout=30))).token.value

    async def revoke(self, realm, **target):
        request = pb.RevokeRequest(realm=realm, **target)
        answer = await answered(lambda: self._stub.Revoke(request, timeout=30))
        return {receipt.datacentre: receipt for receipt in answer.receipts}

    async def state(self, realm, token):
        """ "good", or the reason of the failure."""
        request = pb.ValidateRequest(realm=realm, token=pb.Secret(value=token))
        try:
            await self._stub.Validate(request, timeout=30)
        except grpc.aio.AioRpcError as error:
            return reason(error)
        return "good"

    async def asks(self, method, key, wanted, value=None):
        """Asks the front for Kask until it answers so: what another data centre did comes to it within the bound."""

        def once():
            connection = http.client.HTTPConnection(self._front, timeout=30)
            try:
                connection.request(method, f"/sessions/v1/{key}", value)
                return connection.getresponse().status
            finally:
                connection.close()

        async with asyncio.timeout(PATIENCE_S):
            while await asyncio.to_thread(once) != wanted:  # noqa: ASYNC110 - another process knows
                await asyncio.sleep(0.1)

    async def becomes(self, realm, token, wanted, *, never=()):
        """Waits for a state; `never` names what must not be seen on the way."""
        async with asyncio.timeout(PATIENCE_S):
            while (state := await self.state(realm, token)) != wanted:
                assert state not in never, f"{self.name}: {state} before {wanted}"
                await asyncio.sleep(0.1)


def reason(error):
    return details(error).reason if DETAILS_KEY in dict(error.trailing_metadata() or ()) else error.code().name


async def answered(call):
    """The answer of a call that may be sent again while the server, or what it needs, is away."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def clients(servers):
    async with contextlib.AsyncExitStack() as stack:
        yield [
            Client(
                name,
                await stack.enter_async_context(grpc.aio.insecure_channel(server.address)),
                server.ready["kask"][0],
            )
            for name, server in zip(NAMES, servers, strict=True)
        ]


async def both_up(east, west):
    """A login of one is used in the other at once, and a logout is told truly and counts everywhere."""
    for one, other in ((east, west), (west, east)):
        for realm in ("closed", "open"):
            token = await one.create(realm, "alice")
            await answered_state(other, realm, token, "good")
            receipts = await one.revoke(realm, token=pb.Secret(value=token))
            assert receipts[one.name].state == STATES.STATE_ENFORCED
            # Where the realm serves on alone, a receipt may also say that the other one is not heard just now.
            assert receipts[other.name].state == STATES.STATE_PENDING or realm == "open"
            assert receipts[other.name].HasField("enforced_by") == (realm == "closed")
            await answered_state(one, realm, token, "SESSION_INVALID")
            await other.becomes(realm, token, "SESSION_INVALID")


async def answered_state(client, realm, token, wanted):
    """A state that is there at once, but for a server that has not heard the others yet."""
    unheard = ("REVOCATIONS_UNHEARD", "RESYNCHRONISING", "HOME_UNREACHABLE", "KEYS_UNHEARD")
    unheard += ("UNAVAILABLE", "STORE_UNAVAILABLE", "OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED")
    async with asyncio.timeout(PATIENCE_S):
        while (state := await client.state(realm, token)) in unheard:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.1)
    assert state == wanted


async def kask(one, other):
    """Sessions over HTTP: written at one, read and ended at the other, and not begun again."""
    key = uuid.uuid4().hex
    await one.asks("POST", key, 201, b"value")
    await other.asks("GET", key, 200)
    await other.asks("DELETE", key, 204)
    for client in (other, one):
        await client.asks("POST", key, 409, b"value")
        await client.asks("GET", key, 404)


async def other_away(east, west, away, back):
    """West's node goes away and comes back; east goes on as its realms say."""
    ended = {
        realm: [await east.create(realm, "bob"), await west.create(realm, "carol")] for realm in ("closed", "open")
    }
    stays = {realm: await west.create(realm, "dora") for realm in ("closed", "open")}
    for realm in ("closed", "open"):
        for token in (*ended[realm], stays[realm]):
            await answered_state(east, realm, token, "good")
            await answered_state(west, realm, token, "good")
    away()
    try:
        await east.becomes("closed", stays["closed"], "REVOCATIONS_UNHEARD", never=("SESSION_INVALID",))
        receipts = await east.revoke("closed", token=pb.Secret(value=ended["closed"][0]))
        assert receipts["west"].state == STATES.STATE_PENDING and receipts["west"].HasField("enforced_by")
        # What is known here goes on where the realm says so, and nobody is told when the other hears of it.
        await answered_state(east, "open", stays["open"], "good")
        receipts = await east.revoke("open", token=pb.Secret(value=ended["open"][0]))
        assert receipts["east"].state == STATES.STATE_ENFORCED
        assert receipts["west"].state == STATES.STATE_UNREACHABLE and not receipts["west"].HasField("enforced_by")
        for realm in ("closed", "open"):
            await east.revoke(realm, subject="carol")
        for token in ended["open"]:
            await answered_state(east, "open", token, "SESSION_INVALID")
        await answered_state(east, "open", await east.create("open", "erin"), "good")
    finally:
        back()
    for realm in ("closed", "open"):
        for token in ended[realm]:
            for client in (east, west):
                await client.becomes(realm, token, "SESSION_INVALID", never=("good",) if client is east else ())
        await answered_state(east, realm, stays[realm], "good")
        await answered_state(west, realm, stays[realm], "good")


async def fenced(east, west):
    """The administrators shut west out while it is away: east serves without it, and west not before it is let in."""
    token = await east.create("closed", "alice")
    node("west").pause()
    try:
        await east.becomes("closed", token, "REVOCATIONS_UNHEARD", never=("SESSION_INVALID",))
        request = admin_pb.FenceDatacentreRequest(datacentre="west", reason="a test")
        await answered(lambda: east.admin.FenceDatacentre(request, timeout=30))
        await answered_state(east, "closed", token, "good")
    finally:
        node("west").resume()
    await west.becomes("closed", token, "DATACENTRE_FENCED")
    again = admin_pb.UnfenceDatacentreRequest(datacentre="west")
    await answered(lambda: east.admin.UnfenceDatacentre(again, timeout=30))
    await west.becomes("closed", token, "good")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await east.admin.FenceDatacentre(admin_pb.FenceDatacentreRequest(datacentre="north"), timeout=30)
    assert reason(refused.value) == "FENCE_REFUSED"


async def promoted(client, key_id):
    """The reason why a key was not promoted, or nothing."""
    try:
        await client.admin.PromoteKey(admin_pb.PromoteKeyRequest(key_id=key_id), timeout=30)
    except grpc.aio.AioRpcError as error:
        return reason(error)
    return ""


async def keys_changed(east, west, file):
    """A sealing key is promoted when both data centres can be asked, and not while one is away."""
    rotation.change(file, lambda ring: rotation.added(ring, "seal", 9)[0])
    node("west").pause()
    try:
        assert await promoted(east, "seal-2") == "KEYS_UNHEARD"
    finally:
        node("west").resume()
    async with asyncio.timeout(PATIENCE_S):
        while (why := await promoted(east, "seal-2")) != "":
            assert why in ("KEYS_UNHEARD", "KEY_NOT_EVERYWHERE")
            await asyncio.sleep(0.1)
    assert keyring.load(file).active("seal").number == 2
    await both_up(east, west)


async def story(servers):
    async with clients(servers) as (east, west):
        await both_up(east, west)
        await other_away(east, west, node("west").pause, node("west").resume)
        await other_away(east, west, node("west").kill, node("west").restart)
        await both_up(east, west)
        for one, other in ((east, west), (west, east)):
            await kask(one, other)
        await fenced(east, west)
        await keys_changed(east, west, servers[0].path / "keyring.json")


def test_ses_09_ses_10_ses_11_two_data_centres_and_one_of_them_away(tmp_path):
    session = pair().connect()
    for table in ("notes", "servers"):  # no keyring of a run before, and nobody who holds one
        session.execute(f"TRUNCATE {datacentres.options('east').keyspace}.{table}", timeout=60)
    session.cluster.shutdown()
    with Redis() as redis:
        servers = [started(tmp_path, "east", redis), started(tmp_path, "west")]
        played(servers)


def played(servers):
    """The story, and the end of the servers."""
    try:
        asyncio.run(story(servers))
    finally:
        for name in NAMES:
            node(name).resume()
        for server in servers:
            server.kill()


def test_names_that_differ_are_refused(tmp_path):
    given = datacentres.options("west")
    (host, port), *_ = given.contact_points
    where = f"contact_points: ['{host}:{port}'], keyspace: {given.keyspace}, local_datacentre: west"
    status, words = Process(tmp_path, "datacentre=east", backend=f"{{cassandra: {{{where}}}}}").fails()
    assert status and "the two are the same" in words and "Traceback" not in words
