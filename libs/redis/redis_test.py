"""Exchanges with a real Redis: their limit, their failures, and who is at the other end."""

import asyncio
import contextlib
import time

import pytest
import redis as plain

from libs.redis.client import Redis as Client
from libs.redis.client import RedisUnavailable, Script
from libs.redis.options import Options, Tls
from libs.redis.patience import within
from libs.rpc.testing.certificates import Authority
from tools.dev.servers.ports import free_port
from tools.dev.servers.redis import Redis

ECHO = Script("echo", "return {ARGV[1], ARGV[2], KEYS[1]}")
SET = Script("set", "redis.call('SET', KEYS[1], ARGV[2]) return 1")


@contextlib.asynccontextmanager
async def connected(server, timeout_s=60.0, **more):
    client = Client(Options(("127.0.0.1", server.port), timeout_s=timeout_s, **more), (ECHO, SET))
    try:
        yield client
    finally:
        await client.close()


def test_a_script_is_told_who_runs_it_and_a_restarted_server_is_somebody_else():
    async def story():
        with Redis() as server:
            async with connected(server) as client:
                first, argument, key = await client.run(ECHO, [b"k"], [b"a"])
                assert (argument, key) == (b"a", b"k")
                assert [first] * 5 == [(await client.run(ECHO, [b"k"], [1]))[0] for _ in range(5)]
                server.restart()
                with pytest.raises(RedisUnavailable):
                    await client.run(ECHO, [b"k"], [b"a"])  # the connection to the old one
                second, _, _ = await client.run(ECHO, [b"k"], [b"a"])
                assert second != first

    asyncio.run(story())


def test_many_exchanges_share_few_connections():
    async def story():
        with Redis() as server:
            async with connected(server, max_connections=3) as client:
                answers = await asyncio.gather(*(client.run(ECHO, [b"k"], [b"%d" % n]) for n in range(200)))
                assert [one[1] for one in answers] == [b"%d" % n for n in range(200)]
                with plain.Redis.from_url(server.url) as other:
                    assert other.info("clients")["connected_clients"] <= 4

    asyncio.run(story())


def test_a_server_that_hangs_or_is_not_there_fails_the_exchange_and_nothing_else():
    async def story():
        with Redis() as server:
            async with connected(server, timeout_s=0.1) as client:
                await answered(client)
                server.pause()
                for _ in range(3):
                    with pytest.raises(RedisUnavailable):
                        await client.run(ECHO, [b"k"], [b"a"])
                server.resume()
                await answered(client)
                server.kill()
                for _ in range(3):
                    with pytest.raises(RedisUnavailable):
                        await client.run(ECHO, [b"k"], [b"a"])
                server.start()
                await answered(client)

    asyncio.run(story())


async def answered(client):
    """Waits until the server answers within the limit; on a busy machine that may take a while."""
    while True:
        with contextlib.suppress(RedisUnavailable):
            return await client.run(ECHO, [b"k"], [b"a"])


def test_an_exchange_given_up_by_its_caller_does_not_leave_its_answer_to_the_next():
    async def story():
        with Redis() as server:
            async with connected(server, max_connections=1) as client:
                await client.run(ECHO, [b"k"], [b"a"])
                server.pause()
                asked = asyncio.create_task(client.run(ECHO, [b"k"], [b"old"]))
                while not client._room.locked():  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0)
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked
                server.resume()
                assert (await client.run(ECHO, [b"k"], [b"new"]))[1] == b"new"

    asyncio.run(story())


def test_refusals_of_the_server_are_failures_too():
    async def story():
        with Redis() as server:
            with plain.Redis.from_url(server.url) as other:
                other.config_set("requirepass", "secret")
            async with connected(server) as stranger:
                with pytest.raises(RedisUnavailable):
                    await stranger.run(ECHO, [b"k"], [b"a"])
            async with connected(server, password="secret") as client:
                assert (await client.run(ECHO, [b"k"], [b"a"]))[1] == b"a"
                assert "secret" not in repr(client._options)

    asyncio.run(story())


def test_a_full_server_and_one_that_forgot_its_scripts():
    async def story():
        with Redis(arguments=("--maxmemory", "1mb", "--maxmemory-policy", "noeviction")) as server:
            async with connected(server) as client, contextlib.AsyncExitStack() as stack:
                other = stack.enter_context(plain.Redis.from_url(server.url))
                other.script_flush()
                other.config_set("maxmemory", "100mb")
                assert await answered(client)
                await client.run(SET, [b"k"], [b"v"])
                other.script_flush()
                with pytest.raises(RedisUnavailable):
                    await client.run(SET, [b"k"], [b"v"])
                await client.run(SET, [b"k"], [b"v"])  # a new connection brings them
                other.config_set("maxmemory", "1mb")
                with pytest.raises(RedisUnavailable):
                    await client.run(SET, [b"k"], [b"v"])

    asyncio.run(story())


def test_connections_that_were_closed_while_they_waited_cost_one_failure_together():
    async def story():
        with Redis() as server:
            async with connected(server, max_connections=8) as client:
                await asyncio.gather(*(client.run(ECHO, [b"k"], [b"a"]) for _ in range(50)))
                with plain.Redis.from_url(server.url) as other:
                    other.client_kill_filter(_type="normal", skipme=True)
                with pytest.raises(RedisUnavailable):
                    await client.run(ECHO, [b"k"], [b"a"])
                for _ in range(8):
                    await client.run(ECHO, [b"k"], [b"a"])

    asyncio.run(story())


def test_a_unix_socket():
    async def story():
        with Redis() as server:
            client = Client(Options(str(server.socket_path), database=3, timeout_s=60), (SET,))
            await client.run(SET, [b"k"], [b"v"])
            await client.close()
            with plain.Redis.from_url(f"redis://{server.address}/3") as other:
                assert other.get("k") == b"v"

    asyncio.run(story())


def test_tls_to_a_server_whose_certificate_carries_another_name(tmp_path):
    authority, port = Authority(), free_port()
    certificate, key = authority.issue(dns=("cache.example",)).write(tmp_path, "server")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    files = ("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", str(ca))
    secure = ("--tls-port", str(port), *files, "--tls-auth-clients", "no")

    async def story():
        with Redis(arguments=secure):
            for name, trusted in (("cache.example", True), ("", False), ("other.example", False)):
                tls = Tls(str(ca), server_name=name)
                client = Client(Options(("127.0.0.1", port), tls=tls, timeout_s=60), (ECHO,))
                if trusted:
                    assert (await client.run(ECHO, [b"k"], [b"a"]))[1] == b"a"
                else:
                    with pytest.raises(RedisUnavailable):
                        await client.run(ECHO, [b"k"], [b"a"])
                await client.close()

    asyncio.run(story())


def test_an_answer_that_came_while_the_loop_was_busy_is_in_time():
    async def story():
        read, write = asyncio.get_running_loop(), asyncio.Event()
        async with within(0.01, look_again_s=60):
            waiting = asyncio.create_task(write.wait())
            await asyncio.sleep(0)
            time.sleep(0.05)  # noqa: ASYNC251  # the loop is held up beyond the limit
            read.call_soon(write.set)
            await waiting
        with pytest.raises(TimeoutError):
            async with within(0.01):
                await asyncio.Event().wait()

    asyncio.run(story())
