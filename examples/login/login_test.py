"""The example as a process beside the real session service: log in, use, prove, rotate, log out, revoked elsewhere, the
service restarted in between; and what a thief of the cookie gets.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

import pytest

import wellspring_client
from tests.system.served import Served

ALICE = {"name": "alice", "password": "wonderland"}
BOB = {"name": "bob", "password": "builder"}
HOUR_S = 3700
MODULE = "services.session.main"


class Browser:
    """Keeps one cookie."""

    def __init__(self, port):
        self.port, self.cookie, self.headers = port, "", {}

    def ask(self, method, path, form=None, cookie=None):
        sent = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        if held := self.cookie if cookie is None else cookie:
            sent["Cookie"] = f"theme=dark; session={held}"
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, urllib.parse.urlencode(form) if form else None, sent)
            answer = connection.getresponse()
            self.headers = {name.lower(): value for name, value in answer.getheaders()}
            text = answer.read().decode()
        if given := self.headers.get("set-cookie"):
            assert given.endswith(("; Path=/; HttpOnly; SameSite=Lax", "; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"))
            assert self.headers["cache-control"] == "no-store"
            self.cookie = given.removeprefix("session=").partition(";")[0]
        return answer.status, text

    def get(self, path="/", **more):
        return self.ask("GET", path, **more)

    def post(self, path, form=None):
        return self.ask("POST", path, form or {"x": "y"})

    def log_in(self, form=ALICE):
        assert self.post("/login", form)[0] == 200


@contextlib.contextmanager
def example(session, *arguments):
    """The port of the running example; its output is in no way secret."""
    command = [sys.executable, "-m", "examples.login.main", "--session", session, "--port", "0", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield int(line.split("/")[2].split(":")[1])
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in error and "wss_" not in out + error, error
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The session service, whose wall clock the file "jump" moves, and the example beside it."""
    folder = tmp_path_factory.mktemp("site")
    config = {
        "keyring_file": str(folder / "keyring.json"),
        "create_keyring": True,
        "realms": [{"name": "web", "revocation_bound": "2s"}],
    }
    service = Served(folder / "session", "session", "grpcio", config)
    jump = folder / "jump"
    jump.write_text("0")
    at = service.process.command.index("-m")
    service.process.command[at : at + 2] = ["-m", "tests.system.jumping", str(jump), MODULE]
    service.start()
    try:
        with example(service.address, "--bound", "2") as port:
            yield service, port, jump
    finally:
        service.kill()


@pytest.fixture
def browser(site):
    return Browser(site[1])


def test_log_in_use_prove_and_log_out(browser):
    assert "whoever you are" in browser.get()[1] and not browser.cookie
    assert browser.post("/login", ALICE | {"password": "builder"})[0] == 403 and not browser.cookie
    assert browser.post("/login", {"name": "nobody", "password": ""})[0] == 403
    browser.log_in()
    first = browser.cookie
    for visit in range(1, 5):
        assert f"hello, alice, visit {visit}" in browser.get()[1] and browser.cookie == first
    assert browser.get("/settings")[0] == 401
    assert browser.post("/prove", BOB)[0] == 403
    assert browser.post("/prove", ALICE)[0] == 200 and browser.cookie != first
    assert browser.get("/settings") == (200, "your settings") and "visit 5" in browser.get()[1]
    proved = browser.cookie
    assert browser.post("/logout") == (200, "bye") and not browser.cookie
    for thief in (first, proved):
        assert "whoever you are" in Browser(browser.port).get(cookie=thief)[1]


def test_a_session_planted_by_somebody_else_is_not_the_one_that_logs_in(browser):
    attacker = Browser(browser.port)
    attacker.log_in(BOB)
    browser.cookie = planted = attacker.cookie
    browser.log_in()
    assert browser.cookie != planted and "alice" in browser.get()[1]
    assert "whoever you are" in attacker.get()[1]


def test_revoked_elsewhere(site, browser):
    browser.log_in()
    other = Browser(browser.port)
    other.log_in(BOB)
    assert "alice" in browser.get()[1]
    with wellspring_client.connect(session=site[0].address) as client:
        client.session.realm("web").revoke(subject="alice")
    # Within the bound, of 2 s: however long this machine takes for a request, the next ones are refused.
    for _ in range(10_000):
        status, text = browser.get()
        assert status in (200, 401), "a page that asked for data just then says 401"
        if "alice" not in text:
            break
    assert "whoever you are" in browser.get()[1] and not browser.cookie
    assert "bob" in other.get()[1]


@pytest.mark.parametrize("end", ["kill", "drain"])
def test_the_service_restarted_in_between_logs_nobody_out(site, browser, end):
    service = site[0]
    browser.log_in()
    held = browser.cookie
    getattr(service, end)()
    seen = set()
    for _ in range(200):
        status, _ = browser.get("/settings")
        seen.add(status)
        if status == 503:
            break
    assert seen <= {401, 503} and 503 in seen, "remembered up to the bound, then not known: never nobody's"
    assert browser.cookie == held and browser.headers["cache-control"] == "no-store"
    assert browser.post("/login", ALICE)[0] == 503
    assert Browser(browser.port).post("/login", ALICE)[0] == 503, "without a cookie, too"
    service.start()
    for _ in range(600):  # the application's connection comes back within some seconds
        if browser.get()[0] == 200:
            break
        time.sleep(0.1)
    assert "hello, alice" in browser.get()[1]
    assert browser.post("/logout")[0] == 200


def test_a_token_that_is_due_is_rotated_and_the_old_one_betrays_a_thief(site, browser):
    browser.log_in()
    old = browser.cookie
    jump = site[2]
    now_s = int(jump.read_text())
    jump.write_text(str(now_s + HOUR_S))
    assert "alice" in browser.get()[1] and browser.cookie != old
    new = browser.cookie
    # A request that was on its way with the old one, in its grace.
    assert "alice" in Browser(browser.port).get(cookie=old)[1]
    assert "alice" in browser.get()[1] and browser.cookie == new
    jump.write_text(str(now_s + HOUR_S + 60))
    thief = Browser(browser.port)
    # Remembered a moment ago or not: 401 when the page asks for data, or nobody's page at once.
    assert "alice" not in thief.get(cookie=old)[1]
    assert "alice" not in browser.get()[1], "the whole family is over"
    assert "whoever you are" in browser.get()[1] and not browser.cookie


@pytest.mark.parametrize(
    "sent",
    [
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
)
def test_the_development_server_refuses_what_it_does_not_know(browser, sent):
    with socket.create_connection(("127.0.0.1", browser.port), 60) as connection:
        connection.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert browser.get()[0] == 200


def test_a_port_that_is_taken_is_said(browser):
    command = [sys.executable, "-m", "examples.login.main", "--port", str(browser.port)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 1 and "cannot start" in done.stderr and "Traceback" not in done.stderr
