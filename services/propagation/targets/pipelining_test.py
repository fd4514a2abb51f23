"""Several requests on one connection: each has its own answer, and one that ends badly harms no other."""

import asyncio
import contextlib
import random

import pytest

from services.propagation.targets import exchange
from services.propagation.targets.exchange import Exchange
from services.propagation.targets.settings import TargetSettings, origin_of
from services.propagation.targets.targets import Targets

DEPTH = 8


def answer_to(path, body=b""):
    text = path + b" " + body
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Path: %b\r\n\r\n%b" % (len(text), path, text)


class Server:
    """Reads whole requests and gives their paths, as they come, to `answer(path, writer, nth of its connection)`, which
    says "end" for an end of the connection."""

    def __init__(self, answer):
        self.answer = answer
        self.paths = []
        self.came = asyncio.Event()
        self.connections = 0
        self.most_together = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        nth = 0
        rest = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                *requests, rest = (rest + data).split(b"\r\n\r\n")
                self.most_together = max(self.most_together, len(requests))
                for head in requests:
                    path = head.split(b" ")[1]
                    self.paths.append(path)
                    self.came.set()
                    nth += 1
                    if await self.answer(path, writer, nth) == "end":
                        writer.close()
                        return
        writer.close()


def run(test, answer, pipeline=DEPTH, **settings):
    """test(server, ask): `ask(paths, **more)` gives the ended exchanges, all of them submitted together."""

    async def main():
        async with Server(answer) as server, asyncio.timeout(120):
            origin = origin_of(server.url)
            given = {"max_concurrency": 64, "pipeline": pipeline} | settings
            targets = Targets({origin: TargetSettings(origin, **given)})
            lane = targets.of_url(server.url).lane(1000)
            lane.target.limit.limit = float(given["max_concurrency"])
            server.lane, server.target = lane, lane.target

            async def ask(paths, **more):
                left = len(paths)
                done = asyncio.get_running_loop().create_future()

                def ended(_):
                    nonlocal left
                    left -= 1
                    if not left:
                        done.set_result(None)

                more = {"timeout_s": 60.0, "max_body_bytes": 10_000} | more
                asked = [
                    Exchange(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % str(path).encode(), ended, **more)
                    for path in paths
                ]
                lane.submit(*asked)
                await done
                return asked

            try:
                await test(server, ask)
                assert lane.running == 0 and not lane.waiting and lane.target.running == 0
            finally:
                await targets.close()

    asyncio.run(main())


async def plain(path, writer, nth):
    writer.write(answer_to(path))


def own(exchanges, paths):
    """Whether each has the answer to its own request."""
    return [(one.error, one.body.split(b" ")[0]) for one in exchanges] == [(None, b"/%d" % path) for path in paths]


def test_requests_go_together_and_each_has_its_own_answer():
    async def test(server, ask):
        for _ in range(3):
            assert own(await ask(range(64)), range(64))
        assert server.connections == 64 // DEPTH and server.most_together > 1

    run(test, plain)


def test_one_connection_for_each_where_pipelining_is_not_allowed():
    async def test(server, ask):
        assert own(await ask(range(64)), range(64))
        assert server.connections == 64 and server.most_together == 1

    run(test, plain, pipeline=1)


def test_what_may_not_be_made_twice_waits_behind_nothing():
    async def test(server, ask):
        assert own(await ask(range(20), idempotent=False), range(20))
        assert server.most_together == 1

    run(test, plain)


@pytest.mark.parametrize("seed", range(6))
def test_answers_of_every_form_in_pieces_of_any_size(seed):
    rng = random.Random(seed)
    print(f"seed {seed}")
    pending = []

    def form(path):
        text = path + b" " + b"y" * rng.choice((0, 1, 500, 5_000))
        kind = rng.randrange(6)
        if kind == 0:
            half = len(text) // 2 or 1
            parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (text[:half], text[half:]) if part)
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"
        if kind == 1:
            return b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + form(path)
        if kind == 2:
            return b"HTTP/1.1 404 None\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
        if kind == 3:
            return b"HTTP/1.1 200\r\ncontent-LENGTH:%d\r\nConnection: keep-alive\r\n\r\n%b" % (len(text), text)
        return b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length:  %d \r\n\r\n%b" % (len(text), text)

    async def answer(path, writer, nth):
        pending.append(form(path))
        if len(pending) < 4 and not path.endswith(b"9"):
            return
        data = b"".join(pending)
        pending.clear()
        while data:
            size = rng.choice((1, 7, 100, 3_000, 100_000))
            writer.write(data[:size])
            data = data[size:]
            await writer.drain()
            await asyncio.sleep(0)

    async def test(server, ask):
        for start in range(0, 400, 10):
            paths = range(start, start + 10)
            assert own(await ask(paths), paths)
        assert server.connections == 1

    # The server answers four at a time, whatever connection they came on: there must be one only.
    run(test, answer, pipeline=16)


def test_a_server_that_ends_connections_early_gets_the_rest_again_on_others():
    async def answer(path, writer, nth):
        writer.write(answer_to(path))
        return "end" if nth == 3 else None

    async def test(server, ask):
        for start in range(0, 160, 16):
            assert own(await ask(range(start, start + 16)), range(start, start + 16))

    run(test, answer)


def test_a_server_that_says_that_it_ends_the_connection_is_believed():
    async def answer(path, writer, nth):
        writer.write(answer_to(path).replace(b"X-Path", b"Connection: close\r\nX-Path"))
        writer.write(answer_to(b"/stray"))

    async def test(server, ask):
        assert own(await ask(range(8)), range(8))
        assert server.connections == 8

    run(test, answer)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n" + b"x" * 10_001, exchange.TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", exchange.MALFORMED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", exchange.MALFORMED),
        (b"nonsense\r\n\r\n", exchange.MALFORMED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", exchange.CONNECTION_LOST),
    ],
)
def test_a_bad_answer_harms_only_its_own_request(bad, error):
    async def answer(path, writer, nth):
        if path != b"/3":
            writer.write(answer_to(path))
            return None
        writer.write(bad)
        await writer.drain()
        return "end"

    async def test(server, ask):
        got = await ask(range(8))
        assert got[3].error == error and got[3].body == b""
        good = [*range(3), *range(4, 8)]
        assert own([got[at] for at in good], good)

    run(test, answer)


def test_an_answer_that_never_comes_holds_up_nobody_else_for_longer_than_its_own_time():
    async def answer(path, writer, nth):
        if path in (b"/0", b"/5"):
            await asyncio.Event().wait()
        writer.write(answer_to(path))

    async def test(server, ask):
        got = await ask(range(8), timeout_s=1.0)
        assert [one.error for one in got] == [exchange.TIMEOUT if at in (0, 5) else None for at in range(8)]
        assert own([one for at, one in enumerate(got) if at not in (0, 5)], [1, 2, 3, 4, 6, 7])

    run(test, answer)


def test_a_slow_target_gets_a_connection_for_each_request_soon():
    async def answer(path, writer, nth):
        await asyncio.sleep(0.02)
        writer.write(answer_to(path))
        await writer.drain()

    async def test(server, ask):
        assert own(await ask(range(100)), range(100))
        assert server.connections > 16 // DEPTH

    run(test, answer, max_concurrency=16)


def test_nothing_goes_out_behind_what_is_unanswered():
    gate = asyncio.Event()

    async def answer(path, writer, nth):
        if path == b"/0":
            await gate.wait()
        writer.write(answer_to(path))

    async def test(server, ask):
        slow = asyncio.create_task(ask([0]))
        await server.came.wait()
        assert own(await ask(range(1, 9)), range(1, 9))
        assert not slow.done()
        gate.set()
        assert own(await slow, [0])

    run(test, answer)


def test_who_gives_up_leaves_the_others_their_answers():
    async def answer(path, writer, nth):
        await asyncio.sleep(0.05)
        writer.write(answer_to(path))

    async def test(server, ask):
        asking = asyncio.create_task(ask(range(8)))
        await server.came.wait()
        first = next(iter(server.target._running))
        server.lane.cancel(first)
        first.on_end(first)  # for the test's count
        got = await asking
        assert own(got[1:], range(1, 8))

    run(test, answer)
