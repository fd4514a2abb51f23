"""A real Redis: a round trip with the real client, kill -9 with and without its log, a pause, bad input."""

import pytest
import redis as client

from tools.dev.servers.process import ServerError
from tools.dev.servers.redis import Redis


def connect(server: Redis, timeout_s: float = 10) -> client.Redis:
    return client.Redis.from_url(server.url, socket_timeout=timeout_s)


def test_round_trip_over_both_transports():
    with Redis() as server:
        print(f"started in {server.start_seconds:.3f} s")
        with connect(server) as c:
            c.set("k", "v", ex=60)
            assert 0 < c.ttl("k") <= 60
        with client.Redis(unix_socket_path=str(server.socket_path)) as c:
            assert c.get("k") == b"v"
        assert "Ready to accept connections" in server.logs()
    assert not server.directory.exists()


def test_kill_9_keeps_what_an_append_only_server_acknowledged():
    with Redis(append_only=True) as server:
        with connect(server) as c:
            for i in range(500):
                c.set(f"k{i}", i)
        server.kill()
        with pytest.raises(client.ConnectionError), connect(server) as c:
            c.ping()
        server.restart()
        with connect(server) as c:
            assert c.dbsize() == 500


def test_without_its_log_a_restart_is_empty():
    with Redis() as server:
        with connect(server) as c:
            c.set("k", "v")
        server.restart()
        with connect(server) as c:
            assert c.dbsize() == 0


def test_a_paused_server_hangs_and_resumes():
    with Redis() as server, connect(server) as c:
        c.set("k", "v")
        server.pause()
        with connect(server, timeout_s=0.3) as hasty, pytest.raises(client.TimeoutError):
            hasty.get("k")
        server.resume()
        assert c.get("k") == b"v"


def test_a_server_that_cannot_start_says_why():
    with pytest.raises(ServerError) as error, Redis(arguments=("--maxmemory", "lots")):
        pass
    assert "redis ended before it was ready" in str(error.value)
    assert "maxmemory" in str(error.value)
