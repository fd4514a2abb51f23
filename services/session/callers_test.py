"""Who may call the real process over mutual TLS: every caller by verb and realm, and nothing that no rule allows."""

import asyncio
import uuid

import grpc
import pytest

from libs.rpc.testing.certificates import Authority
from services.session.conformance.process import Process
from wellspring.session.v1 import session_admin_pb2 as admin_pb
from wellspring.session.v1 import session_admin_pb2_grpc, session_pb2_grpc
from wellspring.session.v1 import session_pb2 as pb

WEB, CHECKER, OPERATOR, STRANGER = (f"spiffe://site.example/{name}" for name in ("web", "check", "op", "stranger"))
RULES = (
    f"auth={{rules: [{{identity: '{WEB}', methods: ['wellspring.session.v1.Sessions/*']}},"
    f" {{identity: '{CHECKER}', methods: ['wellspring.session.v1.Sessions/Validate']}},"
    f" {{identity: '{OPERATOR}', methods: ['wellspring.session.v1.SessionAdmin/*']}}]}}"
)
_CHECKER = f"{{identity: '{CHECKER}', methods: [Validate]}}"
REALMS = (
    f"realms=[{{name: web, callers: [{{identity: '{WEB}', methods: ['*']}}, {_CHECKER}]}},"
    f" {{name: app, callers: [{_CHECKER}]}}]"
)
OK, NOT_FOUND, DENIED = "OK", "NOT_FOUND", "PERMISSION_DENIED"
EXPECTED = {
    # verb and realm: by WEB, CHECKER, OPERATOR, STRANGER
    ("Create", "web"): (OK, DENIED, DENIED, DENIED),
    ("Create", "app"): (NOT_FOUND, DENIED, DENIED, DENIED),
    ("Create", "nowhere"): (NOT_FOUND, DENIED, DENIED, DENIED),
    ("Validate", "web"): (OK, OK, DENIED, DENIED),
    ("Validate", "app"): (NOT_FOUND, "UNAUTHENTICATED", DENIED, DENIED),
    ("Revoke", "web"): (OK, DENIED, DENIED, DENIED),
    ("ListKeys", ""): (DENIED, DENIED, OK, DENIED),
}


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def server(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "ca.pem").write_bytes(authority.pem)
    certificate, key = authority.issue(dns=("localhost",), addresses=("127.0.0.1",)).write(folder, "server")
    tls = f"server.tls={{certificate_file: {certificate}, key_file: {key}, client_ca_file: {folder / 'ca.pem'}}}"
    running = Process(folder, tls, RULES, REALMS)
    running.start()
    yield running
    running.kill()


def channel(server, authority, identity):
    certificate = authority.issue(uris=(identity,)) if identity else None
    credentials = grpc.ssl_channel_credentials(
        authority.pem, certificate.key if certificate else None, certificate.chain if certificate else None
    )
    return grpc.aio.secure_channel(server.address, credentials)


async def outcome(made, verb, realm, token):
    rid = str(uuid.uuid4())
    sessions, admin = session_pb2_grpc.SessionsStub(made), session_admin_pb2_grpc.SessionAdminStub(made)
    calls = {
        "Create": lambda: sessions.Create(
            pb.CreateRequest(realm=realm, subject="s", assurance=pb.Assurance(level=1), request_id=rid), timeout=60
        ),
        "Validate": lambda: sessions.Validate(pb.ValidateRequest(realm=realm, token=token), timeout=60),
        "Revoke": lambda: sessions.Revoke(pb.RevokeRequest(realm=realm, subject="nobody"), timeout=60),
        "ListKeys": lambda: admin.ListKeys(admin_pb.ListKeysRequest(), timeout=60),
    }
    try:
        await calls[verb]()
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return OK


def test_ses_18_every_caller_by_verb_and_realm(server, authority):
    async def main():
        async with channel(server, authority, WEB) as made:
            request = pb.CreateRequest(
                realm="web", subject="s", assurance=pb.Assurance(level=1), request_id=str(uuid.uuid4())
            )
            token = (await session_pb2_grpc.SessionsStub(made).Create(request, timeout=60)).token
        got = {}
        for at, identity in enumerate((WEB, CHECKER, OPERATOR, STRANGER)):
            async with channel(server, authority, identity) as made:
                for (verb, realm), expected in EXPECTED.items():
                    got[verb, realm, identity] = (await outcome(made, verb, realm, token), expected[at])
        assert {key: pair for key, pair in got.items() if pair[0] != pair[1]} == {}

    asyncio.run(main())


@pytest.mark.parametrize("who", ["nobody", "another authority's"])
def test_ses_18_who_shows_no_certificate_of_ours_gets_no_connection(server, authority, who):
    async def main():
        if who == "nobody":
            made = channel(server, authority, "")
        else:
            other = Authority("another").issue(uris=(WEB,))
            made = grpc.aio.secure_channel(
                server.address, grpc.ssl_channel_credentials(authority.pem, other.key, other.chain)
            )
        async with made:
            assert await outcome(made, "Validate", "web", pb.Secret(value=b"x")) == "UNAVAILABLE"

    asyncio.run(main())
