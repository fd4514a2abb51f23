"""Requests to storage, session and the gateway that make no sense, and bytes that are none: each is answered by what is
wrong, where and what is allowed, in words that tell nothing of the inside; nothing of it is stored; and the next good
request is answered."""

import contextlib
import datetime
import socket
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest

import wellspring_client
from tests.system.asking import raw, refused, refused_field
from tests.system.gateway import Gateway
from tests.system.refusing import plain
from tests.system.served import three_services
from wellspring.session.v1 import session_pb2
from wellspring.storage.v1 import storage_admin_pb2, storage_pb2
from wellspring_client import Put
from wellspring_client.errors import InvalidRequest, WellspringError

VIEW = "page"
LONG = "n" * 1025
CONTROL = ["a\x00b", "a\x1fb", "a\x7fb", "a\nb"]
NOT_UTF8 = b"\xff\xfe\xc0"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with three_services(folder, "grpcio") as services, Gateway(folder, services["storage"].address) as gateway:
        yield services | {"gateway": gateway}


@pytest.fixture
def client(site):
    addresses = {name: site[name].address for name in ("storage", "session", "propagation")}
    with wellspring_client.connect(**addresses, timeout=60) as client:
        yield client


@pytest.fixture
def notes(client):
    name = f"n-{time.time_ns()}"
    client.storage.create_namespace(name)
    return client.storage.namespace(name)


# Storage


def test_a_namespace_that_does_not_exist_is_named(client):
    nowhere = client.storage.namespace("nowhere")
    for call in (
        lambda: nowhere.put("a", b"1"),
        lambda: nowhere.get("a"),
        lambda: nowhere.delete("a"),
        lambda: nowhere.scan(),
        lambda: nowhere.watch(from_beginning=True),
        lambda: client.storage.get_namespace("nowhere"),
        lambda: client.storage.usage("nowhere"),
        lambda: client.storage.delete_namespace("nowhere"),
    ):
        error = refused(wellspring_client.NotFound, call)
        assert error.reason == "NAMESPACE_NOT_FOUND" and "nowhere" in error.message


@pytest.mark.parametrize("name", ["", "UPPER", "n" * 300, "a/b", "ü", "1st", "a b", *CONTROL])
def test_a_namespace_of_a_bad_name_is_not_made(client, name):
    before = [one.name for one in client.storage.list_namespaces()]
    refused(InvalidRequest, client.storage.create_namespace, name)
    assert [one.name for one in client.storage.list_namespaces()] == before


def test_keys_and_values_beyond_their_limits_are_refused_by_field_and_not_stored(client, notes):
    assert "1024" in str(refused_field("record", notes.put, "", b"x").violations)
    refused_field("record", notes.put, LONG, b"x")
    refused_field("item.key", notes.put, "a", b"x", key=LONG)
    refused_field("item.content_type", notes.put, "a", b"x", content_type="t" * 129)
    refused(InvalidRequest, notes.put, "a", b"x", attributes={"k": "v" * 5000})
    refused(InvalidRequest, notes.put, "a", b"x", annotations={f"k{n}": "v" for n in range(17)})
    refused(wellspring_client.ValueTooLarge, notes.put, "a", bytes((1 << 20) + 1))
    refused(InvalidRequest, notes.put, "a", b"x", ttl=datetime.timedelta(seconds=-1))
    # All or nothing: the good change beside a bad one is not made either.
    refused(InvalidRequest, notes.mutate, "a", [Put(b"good", key="k"), Put(b"bad", key=LONG)])
    assert notes.get("a") is None
    assert list(notes.scan()) == []
    # In a batch each is answered for itself.
    bad, good = notes.put_many([("", b"x"), ("b", b"y")])
    assert isinstance(bad, InvalidRequest) and plain(bad.message)
    assert notes.get("b").value == b"y" and good.version


@pytest.mark.parametrize("hours", [-1, 1, -(10**5), 10**5])
def test_a_caller_whose_clock_jumped_is_told_so(notes, hours):
    token = notes.new_token()
    token.time.seconds += hours * 3600
    error = refused(InvalidRequest, notes.put, "a", b"x", token=token)
    assert error.reason == "CLOCK_DRIFT", error
    assert notes.get("a") is None
    notes.put("a", b"y")


def test_tokens_that_are_none_are_refused_by_field(site, notes):
    good = notes.new_token()
    for token, field in (
        (storage_pb2.WriteToken(nonce=good.nonce), "token.time"),
        (storage_pb2.WriteToken(time=good.time), "token.nonce"),
        (storage_pb2.WriteToken(time=good.time, nonce=bytes(17)), "token.nonce"),
    ):
        error = refused(InvalidRequest, notes.put, "a", b"x", token=token)
        assert any(path.startswith(field) for path, _ in error.violations), (field, error.violations)
    for page_token in ("x", "A" * 5000, "\u2603"):
        request = storage_admin_pb2.ListNamespacesRequest(page_token=page_token).SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            raw(site["storage"].address, "storage.v1.StorageAdmin/ListNamespaces", request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "page_token" in plain(caught.value.details())
    refused(WellspringError, notes.watch, resume_token="forged")
    assert notes.get("a") is None


@pytest.mark.parametrize("name", [b"a\x00b", b"a\nb", NOT_UTF8, b""])
def test_what_propagation_could_not_name_is_not_stored_in_a_bound_namespace(client, name):
    bound = f"b-{time.time_ns()}"
    client.storage.create_namespace(bound, resource_prefix="bound/")
    records = client.storage.namespace(bound)
    refused_field("record", records.put, name, b"x")
    assert list(records.scan()) == []
    client.storage.delete_namespace(bound)


# Bytes that are no request


STRING_FIELD_NOT_UTF8 = b"\x0a\x03" + NOT_UTF8
METHODS = {
    "storage": ["storage.v1.Storage/Put", "storage.v1.Storage/Get", "storage.v1.StorageAdmin/CreateNamespace"],
    "session": ["session.v1.Sessions/Create", "session.v1.Sessions/Validate", "session.v1.SessionAdmin/CreateRealm"],
    "propagation": [
        "propagation.v1.Propagation/PublishChanges",
        "propagation.v1.PropagationWork/Complete",
        "propagation.v1.PropagationAdmin/PutViews",
    ],
}


@pytest.mark.parametrize("service", METHODS)
@pytest.mark.parametrize("request_bytes", [NOT_UTF8, STRING_FIELD_NOT_UTF8, b"\x0a\xff\xff\xff\xff\x0f", b"\x0f" * 99])
def test_bytes_that_are_no_message_are_an_invalid_argument(site, service, request_bytes):
    for method in METHODS[service]:
        with pytest.raises(grpc.RpcError) as caught:
            raw(site[service].address, method, request_bytes)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, (method, caught.value.details())
        plain(caught.value.details())


@pytest.mark.parametrize("service", METHODS)
def test_methods_that_are_none_and_messages_too_big_are_refused_and_the_next_call_is_answered(site, service):
    address = site[service].address
    for method in ("no.such.Service/Call", METHODS[service][0] + "x"):
        with pytest.raises(grpc.RpcError) as caught:
            raw(address, method, b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        plain(caught.value.details())
    with pytest.raises(grpc.RpcError) as caught:
        raw(address, METHODS[service][0], bytes(17 << 20))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    plain(caught.value.details())
    assert answers(service, address)


def answers(service, address):
    """Whether the service answers a good request on a fresh connection."""
    with wellspring_client.connect(**{service: address}, timeout=60) as client:
        match service:
            case "storage":
                list(client.storage.list_namespaces())
            case "session":
                client.session.realm("web").create(f"s-{time.time_ns()}")
            case "propagation":
                client.propagation.admin.status()
    return True


GARBAGE = [
    b"\x00" * 4096,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4096,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x40\x00\x01\x25" * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x41" * 500,
    b"GET /" + b"a" * 100_000,
    b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n",
    b"GET /%zz HTTP/9.9\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    b"\r\n" * 5000,
]


@pytest.mark.parametrize("service", [*METHODS, "gateway"])
def test_garbage_on_a_port_ends_the_connection_and_nothing_else(site, service):
    served = site[service]
    host, _, port = served.address.rpartition(":")
    rng = np.random.default_rng(7)
    held = [socket.create_connection((host, int(port))) for _ in range(20)]  # Said nothing, and stay.
    for bytes_sent in [*GARBAGE, *(rng.bytes(5000) for _ in range(20))]:
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            answer = b""
            with contextlib.suppress(OSError):  # Cut off, or left to wait for more: the shortest answers.
                connection.sendall(bytes_sent)
                connection.settimeout(0.1)
                answer = connection.recv(65536)
            assert b"Traceback" not in answer and b".py" not in answer
    assert served.process.running
    assert service == "gateway" or answers(service, served.address)
    assert service != "gateway" or read(served, "/healthz")[0] == 200
    for connection in held:
        connection.close()
    assert "Traceback" not in served.process.logs()


# The gateway


def read(gateway, path, method="GET", **headers):
    """(status, body) of a request with exactly this path."""
    request = urllib.request.Request(f"http://{gateway.address}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/page/" + "a" * 1025, 400, "1024"),
        ("/page/%ff%fe", 400, "UTF-8"),
        ("/page/a%00b", 400, "control character"),
        ("/page/a%0d%0aSet-Cookie:x", 400, "control character"),
        ("/page/", 400, "names no page"),
        ("/page/none", 404, "no such page"),
        ("/page/../../etc/passwd", 404, "no"),
        ("/page/%2e%2e/%2e%2e/etc/passwd", 404, "no such page"),
        ("/elsewhere", 404, "no route"),
        ("/lost/a", 404, "no such page"),
    ],
)
def test_paths_that_name_no_page_are_told_why(site, path, status, word):
    answered, body = read(site["gateway"], path)
    assert (answered, word in plain(body)) == (status, True), body


def test_methods_and_headers_that_are_wrong_are_told_why(site):
    gateway = site["gateway"]
    for method in ("POST", "PUT", "DELETE"):
        status, body = read(gateway, "/page/a", method)
        assert status == 405 and "PURGE" in plain(body)
    for version in ("x", "00", "g" * 32, "0" * 33):
        status, body = read(gateway, "/page/a", "PURGE", **{"X-Min-Version": version})
        assert status == 400 and "32" in plain(body)
    assert read(gateway, "/healthz")[0] == 200


# Session


def test_realms_and_subjects_that_are_none_are_refused(client):
    error = refused(wellspring_client.NotFound, client.session.realm("nowhere").create, "somebody")
    assert error.reason == "REALM_NOT_FOUND"
    for name in ("", "UPPER", "r" * 33, "a-b", "ü", *CONTROL):
        refused(InvalidRequest, client.session.create_realm, name)
    realm = client.session.realm("web")
    refused_field("subject", realm.create, "s" * 257)
    refused_field("subject", realm.create, "ü" * 129)
    refused_field("assurance.level", realm.create, "somebody", level=9)
    refused(InvalidRequest, realm.create, "somebody", data={"k" * 5000: b""})
    refused(InvalidRequest, realm.create, "somebody", data={"k": bytes(70_000)})
    refused_field("request_id", realm.create, "somebody", request_id="mine")
    assert list(realm.list_by_subject("somebody")) == []
    assert {one.name for one in client.session.list_realms()} == {"web"}


def test_forged_tokens_all_get_the_same_answer(client):
    realm = client.session.realm("web")
    token = realm.create("somebody").token.value
    revoked = realm.create("somebody").token.value
    realm.revoke(revoked)
    flipped = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(8, len(token) - 1, 5)]
    answers = set()
    for forged in [*flipped, revoked]:
        error = refused(WellspringError, realm.validate, forged)
        assert token not in str(error) and forged not in str(error)
        if error.reason != "TOKEN_MALFORMED":
            answers.add((error.code, error.reason, error.message, tuple(error.metadata), error.violations))
    assert len(answers) == 1, answers
    assert next(iter(answers))[1] == "SESSION_INVALID"
    for malformed in ("", "x", "\x00" * 50, "é" * 40, token * 1000, token[:-1], token + "A", " " + token):
        error = refused(WellspringError, realm.validate, malformed)
        assert error.reason in ("TOKEN_MALFORMED", "SESSION_INVALID"), (malformed[:60], error)
    assert realm.validate(token).session.subject


def test_a_token_that_is_no_text_is_refused(site):
    for value in (NOT_UTF8, bytes(5000)):
        request = session_pb2.ValidateRequest(token=session_pb2.Secret(value=value), realm="web")
        with pytest.raises(grpc.RpcError) as caught:
            raw(site["session"].address, "session.v1.Sessions/Validate", request.SerializeToString())
        assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED)
        plain(caught.value.details())
