"""The front over real sockets: Kask's shape, who may do what, bad input, and nothing of a request in any answer."""

import asyncio
import contextlib
import json
import logging
import ssl
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp
import pytest
from google.protobuf.json_format import ParseDict
from prometheus_client import CollectorRegistry, generate_latest
from yarl import URL

from libs.clock.clock import SystemClock
from libs.clock.virtual import VirtualClock
from libs.rpc.listen import parse_address
from libs.rpc.testing.certificates import Authority
from services.session.conformance.harness import opened, service
from services.session.domain.guesses import Guesses, GuessLimits
from services.session.domain.opaque import MAX_KEY_BYTES, OpaqueValues
from services.session.domain.policy import HOUR, Caller, Kind, Policy
from services.session.kask import files
from services.session.kask.callers import Callers, Rule
from services.session.kask.front import Front, FrontOptions
from services.session.kask.health import FRESH_S, Health
from services.session.kask.opening import listen
from wellspring.config.v1 import session_pb2 as config_pb

BASE = "/sessions/v1/"
SECRET = "canary-credential-0123456789-0123456789"
PATIENCE_S = 60


class Served:
    """A front and clients for it."""

    def __init__(self, s, store, front, runner, http):
        self.s, self.store, self.front, self.http = s, store, front, http
        self.server = runner.server
        self.port = runner.addresses[0][1]
        self.tls = None
        self.seen = []

    async def __call__(self, method, path, body=None, **more):
        scheme = "https" if self.tls is not None else "http"
        url = URL(f"{scheme}://127.0.0.1:{self.port}{path}", encoded=True)
        if self.tls is not None:
            more.setdefault("ssl", self.tls)
        async with self.http.request(method, url, data=body, **more) as r:
            text = await r.read()
            self.seen.append(bytes(str(r.headers), "utf-8", "replace") + text)
            return r.status, text, r.headers

    async def key(self, method, key, body=None, **more):
        return await self(method, BASE + quote(key, safe=""), body, **more)

    @asynccontextmanager
    async def raw(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def say(self, data):
        """Bytes in, all bytes that come back until the connection is closed."""
        async with self.raw() as (reader, writer):
            writer.write(data)
            text = b""
            # Closed while more was coming than it reads: the end may be a reset.
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(1 << 16):
                    text += piece
            self.seen.append(text)
            return text


async def until(true):
    while not true():  # noqa: ASYNC110 - the server does not tell
        await asyncio.sleep(0.01)


def served(test, *, rules=None, credentials=None, config=None, guesses=None, health=None, policy=None, **options):
    given = ParseDict(
        {
            "realm": "wiki",
            "maxConnections": 64,
            "idleTimeout": "60s",
            "transferTimeout": "60s",
            "drainGrace": "1s",
            **(config or {}),
        },
        config_pb.KaskFront(),
    )

    async def main():
        async with opened("embedded") as store:
            s = await service(store, clock=SystemClock())
            await s.tools.realms.create(
                "wiki", Policy(kind=Kind.OPAQUE, ttl_us=HOUR, max_data_bytes=100_000, **(policy or {}))
            )
            registry = CollectorRegistry()
            callers = Callers(rules or [Rule("anonymous", frozenset("*"))], credentials or {})
            # In a minute that does not end.
            counted = Guesses(guesses or GuessLimits(), lambda: 1000.0, bytes)
            options.setdefault("transfer_s", given.transfer_timeout.ToNanoseconds() / 1e9)
            front = Front(
                OpaqueValues(s.tools),
                callers,
                health(s.tools) if health else Health(s.tools, "wiki", lambda: False),
                counted,
                FrontOptions("wiki", **options),
                registry,
            )
            context = files.tls_context(given)
            runner = await listen(front, given, [parse_address("127.0.0.1:0")], context)
            try:
                async with aiohttp.ClientSession() as http:
                    one = Served(s, store, front, runner, http)
                    one.registry = registry
                    await asyncio.wait_for(test(one), PATIENCE_S)
            finally:
                await runner.cleanup()

    asyncio.run(main())


def problem(answer, status):
    code, text, headers = answer
    assert code == status, (code, text)
    assert headers["Content-Type"] == "application/problem+json" and headers["Cache-Control"] == "no-store"
    body = json.loads(text)
    assert set(body) == {"type", "title", "status", "detail", "instance"} and body["status"] == status
    assert body["instance"].startswith("urn:uuid:") and all(body.values())
    return body


def test_values_come_and_go_as_with_kask():
    async def test(call):
        body = problem(await call.key("GET", "k"), 404)
        assert body["type"] == "https://www.mediawiki.org/wiki/Kask/errors/not_found" and body["title"] == "Not found"
        status, text, headers = await call.key("POST", "k", b"sample value")
        assert (status, text, headers["Content-Type"]) == (201, b"", "application/octet-stream")
        status, text, headers = await call.key("GET", "k")
        assert (status, text, headers["Content-Type"]) == (200, b"sample value", "application/octet-stream")
        assert headers["Server"] == "wellspring-session" and headers["Cache-Control"] == "no-store"
        assert (await call.key("PUT", "k", b"\0\xff" * 50))[0] == 201
        assert (await call.key("GET", "k"))[1] == b"\0\xff" * 50
        assert (await call.key("DELETE", "k"))[:2] == (204, b"")
        assert (await call.key("DELETE", "k"))[:2] == (204, b"")
        problem(await call.key("GET", "k"), 404)
        body = problem(await call.key("POST", "k", b"late"), 409)
        assert body["type"] == "about:blank" and "new key" in body["detail"]
        problem(await call.key("GET", "k"), 404)

    served(test)


@pytest.mark.parametrize(
    "key",
    ["wiki:MWSession:0123456789abcdef", "a/b", "..", ".", "a b+c", "ключ", "%", "%2F", "a?b#c", "'\"<>\\", "k" * 1024],
)
def test_every_key_that_rawurlencode_makes_is_read_back_exactly(key):
    async def test(call):
        assert (await call.key("POST", key, b"v"))[0] == 201
        assert (await call.key("GET", key))[:2] == (200, b"v")
        assert (await call.store.opaque.count("wiki")) == 1
        # Another spelling of the same bytes is the same key.
        spelled = "".join(f"%{byte:02x}" for byte in key.encode())
        assert (await call("GET", BASE + spelled))[:2] == (200, b"v")

    served(test)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (BASE, 404),
        (BASE + "a/b", 404),
        (BASE + "a/", 404),
        ("/sessions/v2/a", 404),
        ("/", 404),
        ("//sessions/v1/a", 404),
        (BASE + "a?x=1", 400),
        (BASE + "%00", 400),
        (BASE + "a%0Ab", 400),
        (BASE + "%7F", 400),
        (BASE + "%C2%85", 400),
        (BASE + "%FF", 400),
        (BASE + "%zz", 400),
        (BASE + "a%2", 400),
        (BASE + "k" * (MAX_KEY_BYTES + 1), 400),
        (BASE + "%6b" * (MAX_KEY_BYTES + 1), 400),
    ],
)
def test_bad_paths(path, status):
    async def test(call):
        for method in ("GET", "POST", "DELETE"):
            problem(await call(method, path, b"v" if method == "POST" else None), status)
        assert await call.store.opaque.count("wiki") == 0

    served(test)


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "OPTIONS", "TRACE", "PURGE"])
def test_other_methods_are_refused(method):
    async def test(call):
        status, _, headers = await call.key(method, "k")
        assert status == 405 and headers["Allow"] == "GET, POST, PUT, DELETE"
        status, _, headers = await call(method, "/healthz")
        assert status == 405 and headers["Allow"] == "GET"
        assert method.encode() not in generate_latest(call.registry)

    served(test)


def test_bodies():
    async def test(call):
        problem(await call.key("POST", "k"), 400)
        problem(await call.key("POST", "k", b""), 400)
        most = 100_000 - 1
        assert (await call.key("POST", "k", b"v" * most))[0] == 201
        problem(await call.key("POST", "k", b"v" * (most + 1)), 413)
        problem(await call.key("POST", "k", b"v" * 10_000_000), 413)
        problem(await call.key("POST", "k", b"v", headers={"Content-Encoding": "gzip"}), 415)

        async def chunks(count):
            for _ in range(count):
                yield b"w" * 1000

        assert (await call.key("POST", "k", chunks(99)))[0] == 201
        assert (await call.key("GET", "k"))[1] == b"w" * 99_000
        problem(await call.key("POST", "k", chunks(101)), 413)
        assert (await call.key("GET", "k"))[1] == b"w" * 99_000
        # Told to go on, as curl asks for large bodies; not told when it is refused anyway.
        assert (await call.key("POST", "k", b"x" * 5000, expect100=True))[0] == 201
        head = f"POST {BASE}k HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
        assert (await call.say(f"{head}200000\r\n\r\n".encode())).startswith(b"HTTP/1.1 413 ")
        assert (await call.say(f"{head}2\r\n\r\n".replace("100-continue", "rain").encode())).startswith(b"HTTP/1.1 417")
        assert (await call.key("GET", "k"))[1] == b"x" * 5000

    served(test)


def test_what_is_no_http_is_refused_without_an_echo(caplog):
    caplog.set_level(logging.DEBUG)
    canary = b"canary-5d1e77"
    bad = [
        b"GET " + BASE.encode() + canary * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET " + BASE.encode() + canary + b" HTTP/1.1\r\nHost: x\r\nX: " + canary * 5000 + b"\r\n\r\n",
        b"GET " + BASE.encode() + canary + b" HTTP/1.1\r\nbad header " + canary + b"\r\n\r\n",
        canary.upper() + b" " + BASE.encode() + canary + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"G\x01ET " + BASE.encode() + canary + b" HTTP/1.1\r\n\r\n",
        b"GET " + BASE.encode() + canary + b" HTTP/9.9\r\n\r\n",
        b"GET " + BASE.encode() + canary + b"\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        canary + b"\r\n\r\n",
        b"POST " + BASE.encode() + canary + b" HTTP/1.1\r\nHost: x\r\nContent-Length: " + canary + b"\r\n\r\n",
        b"POST "
        + BASE.encode()
        + canary
        + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST "
        + BASE.encode()
        + canary
        + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + canary
        + b"\r\n",
        b"GET " + BASE.encode() + canary + b" HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 100 + b"\r\n",
    ]

    async def test(call):
        for data in bad:
            text = await call.say(data)
            whole = text.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")) and b"problem+json" in text
            assert whole or (not text and len(data) > 100_000), (data[:80], text)
            assert canary not in text.lower()
        assert (await call.key("POST", "k", b"v"))[0] == 201
        assert canary not in caplog.text.encode() and canary not in generate_latest(call.registry)
        assert await call.store.opaque.count("wiki") == 1

    served(test)


def test_keep_alive_and_pipelined_requests_are_answered_in_order():
    async def test(call):
        async with call.raw() as (reader, writer):
            for i in range(40):
                body = b"%d" % i
                writer.write(
                    f"POST {BASE}k{i} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                    + body
                    + f"GET {BASE}k{i} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                )
            for i in range(40):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 201")
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                body = b"%d" % i
                assert f"Content-Length: {len(body)}".encode() in head and await reader.readexactly(len(body)) == body
        # HTTP/1.0, as Kask answers it too; and a whole URL for a target.
        old = await call.say(f"GET {BASE}k7 HTTP/1.0\r\n\r\n".encode())
        assert old.startswith(b"HTTP/1.0 200") and old.endswith(b"7")
        whole = f"GET http://x{BASE}k7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await call.say(whole.encode())).endswith(b"\r\n\r\n7")

    served(test)


def test_slow_clients_are_let_go():
    async def test(call):
        head = f"POST {BASE}k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc".encode()
        assert (await call.say(head)).startswith(b"HTTP/1.1 408")
        # A request that never ends, and a connection that never begins one.
        assert await call.say(head[:20]) == b""
        assert await call.say(b"") == b""
        assert await call.store.opaque.count("wiki") == 0

    served(test, config={"idleTimeout": "3s", "transferTimeout": "1s"})


def test_a_client_that_takes_no_answer_does_not_keep_its_connection():
    async def test(call):
        await call.key("POST", "k", b"v" * 90_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", call.port, limit=1024)
        writer.transport.pause_reading()
        writer.write(f"GET {BASE}k HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 500)
        await until(lambda: call.server.connections)
        # The client reads nothing, and all that can wait on the way is full: the server ends it by itself.
        mine = writer.get_extra_info("sockname")
        await until(lambda: mine not in [c.peername for c in call.server.connections])
        writer.close()

    served(test, config={"transferTimeout": "3s"})


def test_more_connections_and_more_requests_than_allowed():
    async def test(call):
        held = [await asyncio.open_connection("127.0.0.1", call.port) for _ in range(4)]
        for _, writer in held:
            writer.write(f"POST {BASE}k HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na".encode())
            await until(lambda: call.front._in_flight)
        await until(lambda: call.front._in_flight == 3)
        # The fourth was sent away and said so; a fifth connection is not taken.
        text = await held[3][0].read()
        assert text.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in text
        held[3][1].close()
        for _, writer in held[:3]:
            writer.write(b"b")
        for reader, _ in held[:3]:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201")
        more = [await asyncio.open_connection("127.0.0.1", call.port) for _ in range(3)]
        ends = []
        for reader, writer in more:
            writer.write(f"GET {BASE}k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            try:
                ends.append(await reader.read())
            except ConnectionError:
                ends.append(b"")
        assert b"" in ends
        for _, writer in [*held, *more]:
            writer.close()
        # There is room again.
        while True:
            try:
                status, text, _ = await call.key("GET", "k")
            except aiohttp.ClientError:
                continue
            assert (status, text) == (200, b"ab")
            break

    served(test, max_in_flight=3, config={"maxConnections": 5})


def test_callers_by_credential():
    known = files.sha256(SECRET.encode()).digest(), files.sha256(b"r" * 40).digest()

    async def test(call):
        def bearer(secret):
            return {"headers": {"Authorization": f"Bearer {secret}"}}

        assert (await call.key("POST", "k", b"v", **bearer(SECRET)))[0] == 201
        assert (await call.key("GET", "k", **bearer("r" * 40)))[0] == 200
        problem(await call.key("POST", "k", b"v", **bearer("r" * 40)), 403)
        problem(await call.key("DELETE", "k", **bearer("r" * 40)), 403)
        for shown in (
            {},
            bearer("x" * 40),
            bearer(""),
            bearer(SECRET[:-1]),
            {"headers": {"Authorization": f"Basic {SECRET}"}},
            {"headers": {"Authorization": SECRET}},
            {"headers": [("Authorization", f"Bearer {SECRET}"), ("Authorization", "Bearer x")]},
        ):
            for method, path in (("GET", BASE + "k"), ("POST", BASE + "k"), ("GET", "/metrics"), ("GET", "/openapi"),
                                 ("GET", "/x"), ("PATCH", BASE + "k")):  # fmt: skip
                answer = await call(method, path, b"v" if method == "POST" else None, **shown)
                problem(answer, 401)
                assert answer[2]["WWW-Authenticate"] == "Bearer"
            assert (await call("GET", "/healthz", **shown))[0] == 200
        assert (await call("GET", "/metrics", **bearer("r" * 40)))[0] == 200
        assert not [text for text in call.seen if b"canary-credential" in text]

    rules = [Rule("credential:mw", frozenset("*")), Rule("credential:reader", frozenset(["GET"]))]
    served(test, rules=rules, credentials=dict(zip(known, ("credential:mw", "credential:reader"), strict=True)))


def test_the_realm_has_its_own_list_of_callers():
    async def test(call):
        assert (await call.key("POST", "k", b"v"))[0] == 201
        problem(await call.key("DELETE", "k"), 403)

    served(test, policy={"callers": (Caller("anonymous", ("POST", "GET")),)})


def test_guesses_of_credentials_are_limited_and_the_known_are_served():
    async def test(call):
        good = {"headers": {"Authorization": f"Bearer {SECRET}"}}
        statuses = [(await call.key("GET", "k", headers={"Authorization": "Bearer x"}))[0] for _ in range(8)]
        assert statuses[:5] == [401] * 5 and 429 in statuses
        assert (await call.key("POST", "k", b"v", **good))[0] == 201

    served(
        test,
        rules=[Rule("credential:mw", frozenset("*"))],
        credentials={files.sha256(SECRET.encode()).digest(): "credential:mw"},
        guesses=GuessLimits(per_address=5),
    )


def test_callers_by_certificate(tmp_path):
    authority, stranger = Authority(), Authority("another")
    certificate, key = authority.issue("front", addresses=("127.0.0.1",)).write(tmp_path, "front")
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    tls = {"certificateFile": certificate, "keyFile": key, "clientCaFile": str(tmp_path / "ca.crt")}

    def client(issued, name):
        context = ssl.create_default_context(cadata=authority.pem.decode())
        if issued is not None:
            context.load_cert_chain(*issued.write(tmp_path, name))
        return context

    async def test(call):
        call.tls = client(authority.issue(uris=("spiffe://x/wiki/1",)), "wiki")
        assert (await call.key("POST", "k", b"v"))[0] == 201
        call.tls = client(authority.issue("reader"), "reader")
        assert (await call.key("GET", "k"))[1] == b"v"
        problem(await call.key("DELETE", "k"), 403)
        call.tls = client(authority.issue(uris=("spiffe://x/other",)), "other")
        problem(await call.key("GET", "k"), 403)
        assert (await call("GET", "/healthz"))[0] == 200
        call.tls = client(authority.issue(uris=("spiffe://x/wiki/1", "spiffe://x/wiki/2")), "two")
        problem(await call.key("GET", "k"), 401)
        for issued in (None, stranger.issue(uris=("spiffe://x/wiki/1",))):
            call.tls = client(issued, "none")
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await call.key("GET", "k")

    rules = [Rule("spiffe://x/wiki/*", frozenset("*")), Rule("cn:reader", frozenset(["GET"]))]
    served(test, rules=rules, config={"tls": tls, "callers": [{"identity": "cn:reader"}]})


def test_health_is_what_a_write_says():
    async def test(call):
        status, text, _ = await call("GET", "/healthz")
        assert status == 200 and set(json.loads(text).values()) == {"ok"}

        async def broken(values):
            raise OSError("disk canary")

        call.store.note = broken
        while status == 200:
            status, text, _ = await call("GET", "/healthz")
        assert status == 503 and json.loads(text)["store"] == "unavailable" and b"canary" not in text
        del call.store.note
        while status == 503:
            status, _, _ = await call("GET", "/healthz")
        await call.s.tools.realms.delete("wiki", "")
        status, text, _ = await call("GET", "/healthz")
        assert status == 503 and json.loads(text)["realm"] == "missing"
        problem(await call.key("GET", "k"), 403)

    served(test)


def test_health_looks_once_in_a_second_whoever_asks():
    clock = VirtualClock()

    async def main():
        async with opened("memory") as store:
            s = await service(store, clock=clock)
            await s.tools.realms.create("wiki", Policy(kind=Kind.OPAQUE))
            looked = 0

            async def note(values):
                nonlocal looked
                looked += 1

            store.note = note
            health = Health(s.tools, "wiki", lambda: False)
            for seconds in range(1, 4):
                reports = await asyncio.gather(*(health.report() for _ in range(50)))
                assert {tuple(report.values()) for report in reports} == {("ok",) * 4} and looked == seconds
                await clock.advance(FRESH_S)

    clock.run(main(), patience_s=0.005)


def test_a_server_that_stops_says_so():
    async def test(call):
        status, text, _ = await call("GET", "/healthz")
        assert status == 503 and json.loads(text)["server"] == "stopping"

    served(test, health=lambda tools: Health(tools, "wiki", lambda: True))


def test_an_error_that_nobody_expected_tells_nothing(caplog):
    async def test(call):
        async def broken(realm, names):
            raise ValueError("canary of a driver")

        call.store.opaque.read = broken
        body = problem(await call.key("GET", "k"), 500)
        assert "canary" not in str(body) and "canary" not in caplog.text
        # The failure is found in the log by its name.
        assert body["instance"] in str([vars(record) for record in caplog.records])

    served(test)


def test_metrics_have_kasks_names():
    async def test(call):
        await call.key("POST", "k", b"v")
        await call.key("GET", "canary")
        status, text, headers = await call("GET", "/metrics")
        assert status == 200 and headers["Content-Type"].startswith("text/plain")
        assert b'http_requests_total{code="201",method="POST"} 1.0' in text
        assert b'http_request_duration_seconds_count{code="404",method="GET"} 1.0' in text
        assert b"canary" not in text

    served(test)


def test_the_document_is_what_is_served():
    async def test(call):
        status, text, headers = await call("GET", "/openapi")
        assert status == 200 and headers["Content-Type"] == "application/json"
        document = json.loads(text)
        methods = {"get", "post", "put", "delete", "head", "patch", "options", "trace"}
        described = {path: {m.upper() for m in item if m in methods} for path, item in document["paths"].items()}
        assert described == call.front.routes
        # What it says of statuses and types, against what happens.
        keys = document["paths"][BASE + "{key}"]
        for method, key, body, status in (
            ("get", "none", None, 404),
            ("post", "k", b"v", 201),
            ("put", "k", b"v", 201),
            ("get", "k", None, 200),
            ("post", "k", b"", 400),
            ("post", "k", b"v" * 200_000, 413),
            ("delete", "k", None, 204),
            ("post", "k", b"v", 409),
            ("get", "%00", None, 400),
        ):
            answer = await call(method.upper(), BASE + key, body)
            assert answer[0] == status
            content = keys[method]["responses"][str(status)].get("content", {})
            if content:
                assert answer[2]["Content-Type"] in content
        for path in ("/healthz", "/metrics"):
            assert "200" in document["paths"][path]["get"]["responses"]

        def references(node):
            if isinstance(node, dict):
                if "$ref" in node:
                    yield node["$ref"]
                for value in node.values():
                    yield from references(value)
            elif isinstance(node, list):
                for value in node:
                    yield from references(value)

        assert set(references(document)) == {"#/components/schemas/Problem"}
        shown = problem(await call.key("GET", "none"), 404)
        assert set(shown) == set(document["components"]["schemas"]["Problem"]["properties"])

    served(test)
