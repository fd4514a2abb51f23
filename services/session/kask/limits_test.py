"""Bad HTTP without an echo, pipelining, slow clients, too many of them."""

import asyncio
import logging

import aiohttp
from prometheus_client import generate_latest

from services.session.kask.rig import BASE, served, until


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

    served(test, idle_s=3, transfer_ms=1000)


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

    served(test, transfer_ms=3000)


def test_more_connections_and_more_requests_than_allowed():
    async def test(call):
        held = [await asyncio.open_connection("127.0.0.1", call.port) for _ in range(4)]
        for count, (_, writer) in enumerate(held, 1):
            writer.write(f"POST {BASE}k HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na".encode())
            await until(lambda count=count: call.front._in_flight == min(count, 3))
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

    served(test, max_in_flight=3, config={"max_connections": 5})


def test_a_realm_revoked_while_a_body_comes_refuses_it():
    async def test(call):
        await call.key("POST", "k", b"before")
        async with call.raw() as (reader, writer):
            writer.write(f"POST {BASE}k HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nla".encode())
            await until(lambda: call.front._in_flight)
            await call.s.tools.realms.revoke("wiki")
            writer.write(b"te")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 409")
        assert (await call.key("GET", "k"))[0] == 404

    served(test)
