"""Who may call, over real TLS through a real configuration file; and what is planted as a secret is found in no log, no
metric, no error, and in nothing that the session service keeps."""

import time
import urllib.request
import zlib

import pytest
import yaml

import wellspring_client
from libs.rpc.testing.certificates import Authority
from tests.system.refusing import CONFIG_STATUS, files, plain, refusal
from tests.system.served import Served
from tools.dev.servers.ports import free_port
from wellspring_client import Tls
from wellspring_client.errors import WellspringError
from wellspring_client.session import set_data

READER, WRITER, STRANGER = "spiffe://site.example/reader", "spiffe://site.example/writer", "spiffe://site.example/other"
RULES = [
    {
        "identity": READER,
        "methods": ["wellspring.storage.v1.Storage/Get", "wellspring.storage.v1.StorageAdmin/GetNamespace"],
    },
    {"identity": "spiffe://site.example/writ*", "methods": ["wellspring.storage.v1.*/*"]},
]


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def guarded(authority, tmp_path_factory):
    """Storage on TLS, which asks callers for certificates and has rules."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "ca.pem").write_bytes(authority.pem)
    certificate, key = authority.issue(dns=("localhost",), addresses=("127.0.0.1",)).write(folder, "server")
    tls = {"certificate_file": certificate, "key_file": key, "client_ca_file": str(folder / "ca.pem")}
    served = Served(folder / "storage", "storage", "grpcio", {"auth": {"rules": RULES}})
    with_tls(folder / "storage" / "config.yaml", tls)
    served.start()
    yield served
    served.kill()


def with_tls(file, tls):
    config = yaml.safe_load(file.read_text())
    config["server"]["tls"] = tls
    file.write_text(yaml.safe_dump(config))


def caller(served, authority, folder, identity):
    """A client with a certificate for `identity`, or none."""
    folder.mkdir(exist_ok=True)
    (folder / "ca.pem").write_bytes(authority.pem)
    certificate = key = None
    if identity is not None:
        certificate, key = authority.issue(uris=(identity,)).write(folder, "caller")
    tls = Tls(ca_file=folder / "ca.pem", certificate_file=certificate, key_file=key)
    return wellspring_client.connect(storage=served.address, tls=tls, timeout=20)


def denied(call):
    with pytest.raises(wellspring_client.PermissionDenied) as caught:
        call()
    plain(caught.value.message)


def test_what_no_rule_allows_is_denied_whoever_asks(guarded, authority, tmp_path):
    with caller(guarded, authority, tmp_path / "w", WRITER) as writer:
        writer.storage.create_namespace("notes")
        writer.storage.namespace("notes").put("a", b"text")
    with caller(guarded, authority, tmp_path / "r", READER) as reader:
        notes = reader.storage.namespace("notes")
        assert notes.get("a").value == b"text"
        denied(lambda: notes.put("a", b"mine"))
        denied(lambda: notes.delete("a"))
        denied(lambda: list(notes.scan()))
        denied(lambda: list(reader.storage.list_namespaces()))
        # Whether there is such a namespace is not told to who may not ask.
        denied(lambda: reader.storage.namespace("nowhere").put("a", b"mine"))
        assert notes.get("a").value == b"text"
    with caller(guarded, authority, tmp_path / "s", STRANGER) as stranger:
        denied(lambda: stranger.storage.namespace("notes").get("a"))
        denied(lambda: stranger.storage.create_namespace("mine"))


def test_who_shows_no_certificate_or_one_of_another_authority_gets_no_connection(guarded, authority, tmp_path):
    with caller(guarded, authority, tmp_path / "n", None) as nobody, pytest.raises(WellspringError):
        nobody.storage.namespace("notes").get("a")
    other = Authority("another authority")
    certificate, key = other.issue(uris=(WRITER,)).write(tmp_path, "forged")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    tls = Tls(ca_file=tmp_path / "ca.pem", certificate_file=certificate, key_file=key)
    with (
        wellspring_client.connect(storage=guarded.address, tls=tls, timeout=3) as forger,
        pytest.raises(WellspringError),
    ):
        forger.storage.namespace("notes").get("a")
    with wellspring_client.connect(storage=guarded.address, timeout=3) as plaintext, pytest.raises(WellspringError):
        plaintext.storage.namespace("notes").get("a")
    assert guarded.process.running


@pytest.mark.parametrize("have", [[], ["tls"], ["rules"]])
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_a_listener_beyond_loopback_needs_both_tls_and_rules(host, have, authority, tmp_path):
    server = {"listen": [f"{host}:{free_port()}"]}
    config = {"server": server, "backend": {"embedded": {"path": str(tmp_path / "data")}}}
    if "tls" in have:
        certificate, key = authority.issue(addresses=("127.0.0.1",)).write(tmp_path, "server")
        server["tls"] = {"certificate_file": certificate, "key_file": key}
    if "rules" in have:
        config["auth"] = {"rules": RULES}
    ended = refusal("storage", config, tmp_path)
    assert ended.status == CONFIG_STATUS
    assert "server.listen" in ended.words or "server.tls" in ended.words or "auth.rules" in ended.words
    assert not (tmp_path / "data").exists()


def test_certificates_that_cannot_be_used_are_refused_at_the_start(authority, tmp_path):
    certificate, _ = authority.issue(addresses=("127.0.0.1",)).write(tmp_path, "server")
    _, other_key = authority.issue(addresses=("127.0.0.1",)).write(tmp_path, "other")
    (tmp_path / "empty.pem").write_bytes(b"")
    for tls in (
        {"certificate_file": certificate, "key_file": str(tmp_path / "none.key")},
        {"certificate_file": certificate, "key_file": other_key},
        {"certificate_file": str(tmp_path / "empty.pem"), "key_file": other_key},
    ):
        server = {"listen": ["127.0.0.1:0"], "tls": tls}
        config = {"server": server, "backend": {"embedded": {"path": str(tmp_path / "data")}}}
        ended = refusal("storage", config, tmp_path)
        assert ended.status == CONFIG_STATUS
        assert "tls" in ended.words, ended.words
        assert "PRIVATE KEY" not in ended.words
        assert not (tmp_path / "data").exists()


# Canaries


def canary(name):
    return f"canary-{name}-{time.time_ns():x}"


def watched(folder, service, **config):
    """A service that logs and counts all that it would."""
    port = free_port()
    telemetry = {"metrics_listen": f"127.0.0.1:{port}", "log": {"level": "debug", "calls": "all"}}
    served = Served(folder, service, "grpcio", {"telemetry": telemetry} | config)
    served.start()
    return served, port


def outputs(served, port):
    """All that operators see of a process: its log and its metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return served.process.logs().encode() + answer.read()


def leaks(planted, haystack):
    return [name for name in planted if name.encode() in haystack or name.encode()[::-1] in haystack]


def test_no_secret_of_a_session_is_kept_or_shown(tmp_path):
    keyring = {"keyring_file": str(tmp_path / "keyring.json"), "create_keyring": True, "realms": [{"name": "web"}]}
    served, port = watched(tmp_path / "session", "session", **keyring)
    planted = {name: canary(name) for name in ("subject", "data", "shared", "more", "agent", "request", "forged")}
    errors = []
    try:
        with wellspring_client.connect(session=served.address, timeout=20) as client:
            realm = client.session.realm("web")
            minted = realm.create(planted["subject"], data={"k": planted["data"].encode()})
            tokens = [minted.token.value]
            realm.update_data(minted.token, set_data("k", planted["more"].encode()))
            validated = realm.validate(minted.token, touch=True, data_keys=["*"])
            assert validated.data["k"].value.decode() == planted["more"]
            assert planted["subject"] not in str(validated.session)
            rotated = realm.rotate(minted.token)
            tokens.append(rotated.token.value)
            realm.update_shared(minted.session.handle, set_data("s", planted["shared"].encode()))
            for wrong in (
                lambda: realm.validate(planted["forged"]),
                lambda: realm.validate(rotated.token.value[:-8] + "AAAAAAAA"),
                lambda: client.session.realm("other").validate(rotated.token),
                lambda: realm.create(planted["subject"] * 20),
                lambda: realm.create(planted["subject"], data={"k": planted["data"].encode() * 5000}),
                lambda: realm.create(planted["subject"], request_id=planted["request"]),
                lambda: realm.update_data(rotated.token, set_data("k", planted["more"].encode(), if_version=99)),
                lambda: realm.get(planted["forged"]),
                lambda: realm.revoke(planted["forged"]),
            ):
                with pytest.raises(WellspringError) as caught:
                    wrong()
                error = caught.value
                errors.append(f"{error} {error.metadata} {error.violations}")
            # The bearer's own pieces: neither a whole token nor a good part of one.
            pieces = {piece for token in tokens for piece in (token, token[-24:], token[len(token) // 2 :])}
            everything = {*planted.values(), *pieces}
            assert leaks(everything, outputs(served, port)) == []
            assert leaks(everything - {planted["request"]}, "\n".join(errors).encode()) == []
        served.drain()
        kept = files(tmp_path / "session" / "data")
        assert sum(map(len, kept.values())) > 1000
        for name, held in kept.items():
            assert leaks(everything, held + inflated(held)) == [], name
        # A second start reads its log and writes tables: there too is nothing.
        served.start()
        served.drain()
        for name, held in files(tmp_path / "session").items():
            assert leaks(everything, held) == [], name
    finally:
        served.kill()


def inflated(held):
    """What zlib makes of a file, where it makes anything: a crude look behind compression."""
    try:
        return zlib.decompress(held)
    except zlib.error:
        return b""


def test_nothing_that_storage_keeps_is_shown_to_operators_or_in_errors(tmp_path):
    served, port = watched(tmp_path / "storage", "storage")
    planted = {name: canary(name) for name in ("value", "annotation", "attribute")}
    errors = []
    try:
        with wellspring_client.connect(storage=served.address, timeout=20) as client:
            client.storage.create_namespace("notes", mode="CAS")
            notes = client.storage.namespace("notes")
            given = {
                "annotations": {"who": planted["annotation"]},
                "attributes": {"a": planted["attribute"]},
                "content_type": "text/plain",
            }
            value = planted["value"].encode()
            notes.put("a", value, **given)
            assert notes.get("a").value == value
            for wrong in (
                lambda: notes.put("a", value, if_absent=True, **given),
                lambda: notes.put("a", value, if_etag="wrong", **given),
                lambda: notes.put("a", value * 50_000, **given),
                lambda: notes.put("", value, **given),
                lambda: notes.put("a", value, annotations={"who": planted["annotation"] * 500}),
                lambda: notes.put("a", value, attributes={"a": planted["attribute"] * 500}),
                lambda: client.storage.namespace("nowhere").put("a", value, **given),
                lambda: notes.delete("none"),
            ):
                with pytest.raises(WellspringError) as caught:
                    wrong()
                errors.append(f"{caught.value} {caught.value.metadata} {caught.value.violations}")
            assert leaks(planted.values(), "\n".join(errors).encode()) == []
            assert leaks(planted.values(), outputs(served, port)) == []
    finally:
        served.kill()
