"""The HTTP client against real sockets and servers that mean it no good."""

import asyncio
import contextlib
import ssl

import pytest

from libs.rpc.testing.certificates import Authority
from services.propagation.targets import exchange, wire
from services.propagation.targets.settings import TargetSettings, origin_of, settings_of
from services.propagation.targets.targets import Targets, ask
from wellspring.config.v1 import propagation_pb2, server_pb2

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers the n-th request with the n-th piece (the last one again and again); a callable does as it likes."""

    def __init__(self, *answers, ssl_context=None):
        self.answers = list(answers) or [OK]
        self.requests = []
        self.connections = 0
        self._ssl = ssl_context

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._ssl)
        scheme = "https" if self._ssl else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if b"content-length" in x), 0)
                self.requests.append(head + (await reader.readexactly(length)))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if callable(answer):
                    if await answer(reader, writer) == "end":
                        break
                elif answer is None:
                    break
                else:
                    writer.write(answer)
                    await writer.drain()
        writer.close()


def run(test, *answers, settings=None, **how):
    """test(server, request) with a client for the server."""

    async def main():
        async with Server(*answers, **how) as server, asyncio.timeout(120):
            origin = origin_of(server.url)
            given = TargetSettings(origin, **(settings or {}))
            targets = Targets({origin: given})
            lane = targets.of_url(server.url).lane(1000)

            async def request(path="/", method="GET", **more):
                more = {"timeout_s": 60.0, "max_body_bytes": 10_000} | more
                return await ask(lane, given, method, path, **more)

            server.lane, server.target = lane, lane.target
            try:
                return await test(server, request)
            finally:
                await targets.close()

    return asyncio.run(main())


def test_a_connection_is_kept_and_used_again():
    async def test(server, request):
        for _ in range(5):
            got = await request("/a?b=c")
            assert (got.status, got.body, got.error) == (200, b"ok", None)
        assert server.connections == 1
        assert server.requests[0].startswith(b"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"User-Agent: wellspring\r\n" in server.requests[0] and b"gzip" not in server.requests[0]

    run(test)


def test_bodies_go_out_and_come_in_whole_and_in_chunks():
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-A: c\r\n\r\n"
    )

    async def split(reader, writer):
        for n in range(len(chunked)):
            writer.write(chunked[n : n + 1])
            await writer.drain()

    async def test(server, request):
        for _ in range(2):
            got = await request("/", "POST", body=b"hello")
            assert got.body == b"abcde" and got.header(b"x-a") == b"b"
        assert len([1 for name, _ in got.headers if name == b"x-a"]) == 1  # a trailer is no header
        assert server.requests[0].endswith(b"Content-Length: 5\r\n\r\nhello") and server.connections == 1

    run(test, chunked, split)


def test_a_hundred_at_once_keep_within_the_bound_and_each_has_its_own_answer():
    most = now = 0

    async def main():
        nonlocal most, now

        async def serve(reader, writer):
            nonlocal most, now
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    now += 1
                    most = max(most, now)
                    await asyncio.sleep(0.002)
                    now -= 1
                    path = head.split(b" ")[1]
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = TargetSettings(origin, max_concurrency=8)
        targets = Targets({origin: settings})
        lane = targets.of_url(origin).lane(1000)
        async with asyncio.timeout(120):
            got = await asyncio.gather(*(ask(lane, settings, "GET", f"/{n}") for n in range(100)))
        assert [one.body for one in got] == [b"/%d" % n for n in range(100)]
        await targets.close()
        server.close()

    asyncio.run(main())
    assert 2 <= most <= 8


def test_an_idle_connection_that_the_server_closed_is_no_failure():
    async def once(reader, writer):
        writer.write(OK)
        await writer.drain()
        return "end"

    async def test(server, request):
        for _ in range(4):
            assert (await request()).body == b"ok"
            await asyncio.sleep(0.02)
        assert server.connections == 4

    run(test, once)


def test_a_connection_that_ends_as_it_is_used_again_is_tried_once_more_unless_the_request_may_have_had_effect():
    async def test(server, request):
        assert (await request()).body == b"ok"
        assert (await request()).body == b"ok"  # None: read, and closed without a word
        assert server.connections == 2 and len(server.requests) == 3
        server.answers = [None, OK]
        got = await request("/", "POST", body=b"x")
        assert got.error == exchange.CONNECTION_LOST and len(server.requests) == 4
        server.answers = [OK, None]
        assert (await request()).body == b"ok"
        assert (await request()).error == exchange.CONNECTION_LOST  # twice is a failure

    run(test, OK, None, OK)


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n"


async def endless_body(reader, writer):
    writer.write(LONG)
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()


async def endless_chunks(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"1;%b\r\nx\r\n" % (b"e" * 1000))
            await writer.drain()


async def endless_header(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()


async def endless_trailer(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()


async def silent(reader, writer):
    await reader.read(1)


async def drops(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nCon")
    await asyncio.sleep(0.01)
    writer.close()
    return "end"


async def half(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    return "end"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (endless_body, exchange.TOO_LARGE),
        (endless_chunks, exchange.MALFORMED),
        (endless_header, exchange.MALFORMED),
        (endless_trailer, exchange.MALFORMED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n" + b"x" * 10_001, exchange.TOO_LARGE),
        (silent, exchange.TIMEOUT),
        (drops, exchange.CONNECTION_LOST),
        (half, exchange.CONNECTION_LOST),
        (b"SSH-2.0-OpenSSH_9\r\n", exchange.MALFORMED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", exchange.MALFORMED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", exchange.MALFORMED),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", exchange.MALFORMED),
        (b"\0" * 100, exchange.MALFORMED),
    ],
)
def test_a_hostile_server_harms_only_its_own_request(answer, error):
    async def test(server, request):
        got = await request(timeout_s=0.5 if answer is silent else 60.0)
        assert (got.error, got.body) == (error, b""), got.detail
        assert got.detail and server.target.running == 0
        server.answers = [OK]
        assert (await request()).body == b"ok"

    run(test, answer)


def test_an_answer_to_nobody_is_given_to_nobody():
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"

    async def test(server, request):
        assert (await request()).body == b"ok"
        await asyncio.sleep(0.02)
        assert (await request()).body == b"ok"
        # A second request takes the freed connection in the very call that ended the first one.
        got = await asyncio.gather(*(request(f"/{n}") for n in range(20)))
        assert all(one.body != b"stray" for one in got)

    run(test, OK + stray, OK, OK + stray, settings={"max_concurrency": 1})


def test_a_body_may_end_with_the_connection_and_early_hints_are_passed_over():
    async def to_the_end(reader, writer):
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")
        await writer.drain()
        return "end"

    async def test(server, request):
        got = await request()
        assert (got.status, got.body, got.header(b"link")) == (200, b"abc", None)

    run(test, to_the_end)


def test_redirects_are_answers():
    async def test(server, request):
        got = await request()
        assert got.status == 302 and len(server.requests) == 1

    run(test, b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")


def test_nobody_there_is_said_and_waited_for_no_longer_than_the_time_to_connect():
    async def main():
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()
        await server.wait_closed()
        targets = Targets()
        got = await ask(targets.of_url(origin).lane(1), targets.settings(origin), "GET", "/")
        assert got.error == exchange.UNREACHABLE and origin in got.detail
        nowhere = TargetSettings("http://name.invalid:80", connect_timeout_s=2.0)
        targets = Targets({nowhere.origin: nowhere})
        got = await ask(targets.of_url(nowhere.origin).lane(1), nowhere, "GET", "/")
        assert got.error == exchange.UNREACHABLE
        await targets.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/a b", ()),
        ("GET", "/a\r\nX: y", ()),
        ("GET", "/ü", ()),
        ("GET", "a", ()),
        ("GET /x HTTP/1.1\r\nA: b", "/", ()),
        ("HEAD", "/", ()),
        ("GET", "/", [("X", "a\r\nB: c")]),
        ("GET", "/", [("X: y\r\nZ", "a")]),
        ("GET", "/", [("X", "ü")]),
        ("GET", "/", [("Content-Length", "3")]),
        ("GET", "/", [("transfer-encoding", "chunked")]),
        ("GET", "/", [("Host", "other")]),
    ],
)
def test_nothing_can_be_smuggled_into_a_request(method, path, headers):
    async def test(server, request):
        with pytest.raises(wire.RequestInvalid):
            await request(path, method, headers=headers)
        assert not server.requests

    run(test)


def test_who_gives_up_leaves_nothing_behind():
    async def test(server, request):
        tasks = [asyncio.create_task(request(f"/{n}")) for n in range(50)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert server.target.running == 0 and not server.lane.waiting and server.lane.running == 0
        server.answers = [OK]
        assert (await request()).body == b"ok"

    run(test, silent)


def test_identity_and_tls_are_the_target_s(tmp_path):
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    server_files = authority.issue("web", dns=("renderer.internal",)).write(tmp_path, "server")
    client_files = authority.issue("executor").write(tmp_path, "client")
    (tmp_path / "secret").write_text("Bearer abc\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(*server_files)
    context.verify_mode = ssl.CERT_REQUIRED

    def settings(**tls):
        given = propagation_pb2.Target(origin="https://127.0.0.1:1", user_agent="site/1")
        given.authorization_file = str(tmp_path / "secret")
        given.tls.CopyFrom(server_pb2.ClientTls(ca_file=str(tmp_path / "ca.pem"), **tls))
        (one,) = settings_of([given]).values()
        return {"tls": one.tls, "user_agent": one.user_agent, "authorization": one.authorization}

    async def good(server, request):
        assert (await request()).body == b"ok"
        assert b"User-Agent: site/1\r\nAuthorization: Bearer abc\r\n" in server.requests[0]

    mine = {"certificate_file": client_files[0], "key_file": client_files[1], "server_name": "renderer.internal"}
    run(good, settings=settings(**mine), ssl_context=context)

    async def bad(server, request):
        got = await request()
        assert got.error == exchange.UNREACHABLE and "certificate" in got.detail and not server.requests

    run(bad, settings=settings(**(mine | {"server_name": "other.internal"})), ssl_context=context)

    async def nobody(server, request):
        got = await request()
        assert got.error in (exchange.UNREACHABLE, exchange.CONNECTION_LOST) and not server.requests

    run(nobody, settings=settings(server_name="renderer.internal"), ssl_context=context)
