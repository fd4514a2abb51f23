"""A host of caches for tests: caches on sockets, and the relay's process that purges them."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from typing import Any

from libs.purge.naming import MINIMUM_HEADER
from tools.dev.servers.kafka import Kafka


class Cache:
    """Acknowledges purges unless `broken`; keeps what it acknowledged, in `log` with its name, and in `versions` the
    minimum versions of each path, in their order."""

    def __init__(self, name: str, log: list[tuple[str, str]]) -> None:
        self.name, self.log = name, log
        self.versions: dict[str, list[str]] = {}
        self.broken = False
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one connection until it ends."""
        try:
            while line := await reader.readline():
                version = ""
                while (row := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = row.decode().partition(":")
                    version = value.strip() if name == MINIMUM_HEADER else version
                method, path, _ = line.decode().split()
                assert method == "PURGE"
                status = 503 if self.broken else 200
                if not self.broken:
                    self.log.append((self.name, path))
                    self.versions.setdefault(path, []).append(version)
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the relay was killed
        finally:
            writer.close()

    async def open(self) -> None:
        """Listens, on the port that it had."""
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    @property
    def paths(self) -> set[str]:
        """What it acknowledged."""
        return {path for name, path in self.log if name == self.name}


class RelayProcess:
    """The relay as a process of its own, for these caches."""

    def __init__(self, kafka: Kafka, topic: str, caches: Sequence[Cache], group: str = "host") -> None:
        listed = ", ".join(f"{{name: {c.name}, urls: ['http://127.0.0.1:{c.port}'], timeout: 60s}}" for c in caches)
        settings = [
            "server.listen=127.0.0.1:0",
            "telemetry.metrics_listen=127.0.0.1:0",
            f"kafka={{bootstrap_servers: ['{kafka.address}']}}",
            f"topics={topic}",
            f"group={group}",
            f"caches=[{listed}]",
        ]
        self.command = [sys.executable, "-m", "services.propagation.relay.main"]
        self.command += [argument for setting in settings for argument in ("--set", setting)]
        self.process: subprocess.Popen[bytes] | None = None
        self.metrics = ""

    def start(self) -> None:
        """Waits until it is there. Raises AssertionError with what it said when it ends instead."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.command, stdout=pipe, stderr=subprocess.PIPE, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1].decode())
        self.metrics = json.loads(line)["metrics"][0]

    def page(self, path: str) -> bytes:
        """A page beside its metrics."""
        with urllib.request.urlopen(f"http://{self.metrics}{path}", timeout=60) as answer:
            return bytes(answer.read())

    async def status(self) -> dict[str, Any]:
        """What it tells of itself."""
        told: dict[str, Any] = json.loads(await asyncio.to_thread(self.page, "/status"))
        return told

    async def caught_up(self) -> bool:
        """Whether all that its topic holds is acknowledged."""
        status = await self.status()
        return bool(status["ok"] and not status["lag"] and not status["under_way"])

    def kill(self) -> None:
        """kill -9; nothing when it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    async def again(self) -> None:
        """kill -9, and another life."""
        self.kill()
        await asyncio.to_thread(self.start)
