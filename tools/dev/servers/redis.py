"""A real Redis server for tests: `with Redis() as redis: client.from_url(redis.url)`."""

from __future__ import annotations

import socket

from tools.dev.servers import locate
from tools.dev.servers.ports import free_port
from tools.dev.servers.process import START_TIMEOUT_S, Process
from tools.dev.servers.server import Server


class Redis(Server):
    """One Redis on a port of 127.0.0.1 and on a Unix socket.

    `address` is "host:port", `url` what clients take, `socket_path` the socket. Redis acknowledges before it writes to
    disk: with append_only=True every command is written and synced first and so outlives kill -9, without nothing does.
    """

    name = "redis"

    def __init__(
        self, append_only: bool = False, arguments: tuple[str, ...] = (), timeout_s: float = START_TIMEOUT_S
    ) -> None:
        """`arguments` are further options of redis-server, e.g. ("--maxmemory", "8mb")."""
        root = locate.repository("redis_server") / "root"
        super().__init__(timeout_s)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"redis://{self.address}/0"
        self.socket_path = self.directory / "redis.sock"
        durable = ["--appendonly", "yes", "--appendfsync", "always"] if append_only else ["--appendonly", "no"]
        command = [str(root / "usr/bin/redis-server"), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--unixsocket", str(self.socket_path), "--unixsocketperm", "700", "--save", "", *durable]
        command += ["--dir", str(self.directory), "--daemonize", "no", *arguments]
        self.processes = [Process("redis", command, self.directory, locate.library_environment(root))]

    def wait_ready(self) -> None:
        self.processes[0].wait_ready(self._answers, self.timeout_s, every_s=0.01)

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
            connection.sendall(b"PING\r\n")
            # While it loads its data it answers -LOADING.
            return connection.recv(64).startswith(b"+PONG")
