"""The real process: kill -9 under load loses nothing answered, no canary is in any file, bad starts say why."""

import base64
import http.client
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time

import pytest

from libs.rpc.testing.certificates import Authority

BASE = "/sessions/v1/"
SECRET = "canary-credential-0123456789-0123456789"
KILLS = 4


class Process:
    """A session server with a front for the realm "wiki"."""

    def __init__(self, path, *settings, kask=""):
        self.path = path
        credential = path / "credential"
        if not credential.exists():
            credential.write_text(f"{SECRET}\n")
            credential.chmod(0o600)
        given = [
            "server={listen: ['127.0.0.1:0'], drain_wait: 0s}",
            f"backend={{embedded: {{path: {path / 'data'}, reserve_bytes: 0}}}}",
            f"keyring_file={path / 'keyring.json'}",
            "create_keyring=true",
            "sweep_interval=50ms",
            f"audit={{file: {path / 'audit.jsonl'}}}",
            "telemetry={log: {level: debug, calls: all}}",
            "realms=[{name: wiki, kind: opaque, ttl: 1h}, {name: web}]",
            "kask={" + (kask or f"listen: ['127.0.0.1:0'], realm: wiki, callers: [{self.caller}]") + "}",
            *settings,
        ]
        self.command = [sys.executable, "-m", "services.session.main", *(a for s in given for a in ("--set", s))]
        self.process = None

    @property
    def caller(self):
        return f"{{identity: 'credential:mw', credential_file: {self.path / 'credential'}}}"

    def _run(self, **more):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(self.command, stdout=subprocess.PIPE, env=environment, **more)

    def start(self):
        with open(self.path / "log", "ab") as log:
            self.process = self._run(stderr=log)
        line = self.process.stdout.readline()
        assert line, (self.path / "log").read_text()
        self.port = int(json.loads(line)["kask"][0].rpartition(":")[2])

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.stdout.close()
        return self.process.wait(60)

    def fails(self):
        process = self._run(stderr=subprocess.PIPE)
        _, text = process.communicate(timeout=60)
        return process.returncode, text.decode()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)


def ask(connection, method, key, body=None, secret=SECRET):
    connection.request(method, BASE + key, body, {"Authorization": f"Bearer {secret}"})
    answer = connection.getresponse()
    return answer.status, answer.read()


class Client(threading.Thread):
    """Writes and deletes keys of its own, and keeps what was answered, until the server is gone."""

    def __init__(self, server, seed, name):
        super().__init__()
        self.connection, self.rng, self.key_prefix = server.connect(), random.Random(seed), name
        self.live, self.dead, self.unsure, self.wrong = {}, set(), set(), []

    def run(self):
        try:
            for count in range(1_000_000):
                key = f"{self.key_prefix}-{count}"
                self._one(key)
        except (OSError, http.client.HTTPException):
            return

    def _one(self, key):
        for _ in range(self.rng.randrange(1, 4)):
            value = self.rng.randbytes(20)
            self.unsure.add(key)
            self._expect(key, "POST", value, 201)
            self.live[key] = value
            self.unsure.discard(key)
        if self.rng.random() < 0.5:
            self.unsure.add(key)
            self._expect(key, "DELETE", None, 204)
            del self.live[key]
            self.dead.add(key)
            self.unsure.discard(key)
            self._expect(key, "POST", b"late", 409)

    def _expect(self, key, method, body, expected):
        status, _ = ask(self.connection, method, key, body)
        if status != expected:
            self.wrong.append((key, method, status))


def test_SES_03_SES_22_kill_9_loses_nothing_answered_and_no_file_has_a_canary(tmp_path):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng, server = random.Random(seed), Process(tmp_path)
    live, dead = {}, set()
    for life in range(KILLS):
        server.start()
        clients = [Client(server, rng.random(), f"canarykey-{life}-{i}") for i in range(6)]
        for client in clients:
            client.start()
        # Killed when something was done, whatever the speed of the machine.
        enough = 60 + rng.randrange(60)
        while sum(len(client.live) for client in clients) < enough:
            assert all(client.is_alive() for client in clients)
            clients[0].join(0.01)
        server.kill()
        for client in clients:
            client.join(60)
            assert not client.wrong and not client.is_alive()
            live |= {key: value for key, value in client.live.items() if key not in client.unsure}
            dead |= client.dead - client.unsure
    server.start()
    connection = server.connect()
    assert dead and {key: ask(connection, "GET", key) for key in live} == {k: (200, v) for k, v in live.items()}
    assert {ask(connection, "GET", key)[0] for key in dead} == {404}
    assert {ask(connection, "POST", key, b"late")[0] for key in dead} == {409}
    for secret in ("wrong-canary-credential-0123456789-0123456789", ""):
        assert ask(connection, "GET", "canarykey-x", secret=secret)[0] == 401
    assert server.kill(signal.SIGTERM) == 0
    everything = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(b'"kask request"' in text or b"kask request" in text for text in everything.values())
    canaries = [b"canarykey", b"canary-credential", *list(live.values())[:100]]
    canaries += [base64.b64encode(canary).rstrip(b"=") for canary in canaries]
    for path, text in everything.items():
        for canary in canaries:
            assert canary not in text or path.name == "credential", (path.name, canary)
    # Deletions are in the audit, by handle.
    entries = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    assert sum(entry["event"] == "opaque_deleted" for entry in entries) >= len(dead)


def test_credentials_are_taken_anew_without_a_restart(tmp_path):
    server = Process(tmp_path)
    server.start()
    try:
        connection = server.connect()
        assert ask(connection, "POST", "k", b"v")[0] == 201
        (tmp_path / "credential").write_text("half\n")
        (tmp_path / "new").write_text(f"{'n' * 40}\n")
        (tmp_path / "new").chmod(0o600)
        assert ask(connection, "GET", "k")[0] == 200
        (tmp_path / "new").replace(tmp_path / "credential")
        end = time.monotonic() + 120
        while ask(connection, "GET", "k")[0] == 200:
            assert time.monotonic() < end
            threading.Event().wait(0.05)
        assert ask(connection, "GET", "k", secret="n" * 40) == (200, b"v")
    finally:
        server.kill()


def test_SES_18_over_tls_a_certificate_says_who_calls_and_a_renewed_one_is_taken(tmp_path):
    authority = Authority()
    certificate, key = authority.issue("front", addresses=("127.0.0.1",)).write(tmp_path, "front")
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    tls = f"{{certificate_file: {certificate}, key_file: {key}, client_ca_file: {tmp_path / 'ca.crt'}}}"
    callers = "{identity: 'spiffe://x/wiki/*'}, {identity: 'cn:reader', methods: [GET]}"
    server = Process(tmp_path, kask=f"listen: ['127.0.0.1:0'], realm: wiki, tls: {tls}, callers: [{callers}]")

    def connect(issued):
        context = ssl.create_default_context(cadata=authority.pem.decode())
        if issued is not None:
            context.load_cert_chain(*issued.write(tmp_path, "client"))
        return http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context)

    def said(issued, method, body=None):
        connection = connect(issued)
        connection.request(method, BASE + "k", body)
        return connection.getresponse().status

    server.start()
    try:
        wiki, reader = authority.issue(uris=("spiffe://x/wiki/1",)), authority.issue("reader")
        assert [said(wiki, "POST", b"v"), said(wiki, "GET"), said(reader, "GET"), said(reader, "DELETE")] == [
            201,
            200,
            200,
            403,
        ]
        assert said(authority.issue(uris=("spiffe://x/other",)), "GET") == 403
        for nobody in (None, Authority("another").issue(uris=("spiffe://x/wiki/1",))):
            with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
                said(nobody, "GET")
        renewed = authority.issue("renewed", addresses=("127.0.0.1",))
        renewed.write(tmp_path, "front")
        end, name = time.monotonic() + 120, b""
        while renewed.chain != name:
            assert time.monotonic() < end
            connection = connect(wiki)
            connection.connect()
            name = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(binary_form=True)).encode()
            connection.close()
        assert said(wiki, "GET") == 200
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("kask", "says"),
    [
        ("listen: ['127.0.0.1:0'], realm: wiki", "kask.callers"),
        ("listen: ['127.0.0.1:0'], realm: web, callers: [{identity: anonymous}]", "is not opaque"),
        ("listen: ['127.0.0.1:0'], realm: none, callers: [{identity: anonymous}]", "is not there"),
        ("listen: ['127.0.0.1:99999'], realm: wiki, callers: [{identity: anonymous}]", "kask.listen"),
        ("listen: ['0.0.0.0:0'], realm: wiki, callers: [{identity: 'cn:a'}]", "needs kask.tls"),
        ("listen: ['127.0.0.1:0'], realm: wiki, callers: [{identity: 'cn:a', methods: [Get]}]", "GET, POST, DELETE"),
        ("listen: ['127.0.0.1:0'], realm: wiki, callers: [{identity: 'a*b'}]", "last character"),
        ("listen: ['127.0.0.1:0'], realm: wiki, callers: [{identity: 'credential:a'}]", "belong together"),
        ("listen: ['127.0.0.1:0'], realm: wiki, callers: [{identity: a, credential_file: /x}]", "belong together"),
        (
            "listen: ['127.0.0.1:0'], realm: wiki, callers: [{identity: 'credential:a', credential_file: /nowhere}]",
            "/nowhere cannot be read",
        ),
        (
            "listen: ['127.0.0.1:0'], realm: wiki,"
            " callers: [{identity: 'credential:a', credential_file: FOLDER/short}]",
            "holds no credentials",
        ),
        (
            "listen: ['127.0.0.1:0'], realm: wiki, callers: [{identity: 'credential:a', credential_file: FOLDER/open}]",
            "may be read by others",
        ),
        (
            "listen: ['127.0.0.1:0'], realm: wiki, callers: [{identity: 'cn:a'}],"
            " tls: {certificate_file: FOLDER/short, key_file: FOLDER/short}",
            "is not the key of",
        ),
        ("listen: ['127.0.0.1:0'], realm: wiki, base_path: /x, callers: [{identity: anonymous}]", "base_path"),
    ],
    ids=lambda value: value if "'" not in value else "",
)
def test_a_bad_start_says_what_is_wrong(tmp_path, kask, says):
    (tmp_path / "short").write_text("canary-short\n")
    (tmp_path / "short").chmod(0o600)
    (tmp_path / "open").write_text(f"{SECRET}\n")
    (tmp_path / "open").chmod(0o644)
    status, text = Process(tmp_path, kask=kask.replace("FOLDER", str(tmp_path))).fails()
    assert status == 78 and says in text and "Traceback" not in text and "canary" not in text
