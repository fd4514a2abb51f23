"""Storage and gateway as processes behind a real Varnish, and what stores pages and purges them as an executor does."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from libs.purge.caches import Caches
from services.propagation.executor.adapters import GrpcDocuments
from tests.caches.site import deployed_vcl, targets
from tests.system.served import Served
from tools.dev.servers.ports import free_port
from tools.dev.servers.process import Process
from tools.dev.servers.varnish import Varnish
from wellspring_client import aio
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels

NAMESPACE = "pages"


class Wire:
    """A way to a server that loses connections and delays what goes over it, as `rng` has it."""

    def __init__(
        self, host: str, port: int, rng: random.Random, lost_share: float = 0.0, delay_s: float = 0.005
    ) -> None:
        self._to = host, port
        self._delay_s = delay_s
        self._rng = rng
        self._lost_share = lost_share
        self.lost = 0
        self.port = 0

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._to)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, back))
                group.create_task(self._carry(there, writer))
        except* (ConnectionError, _Lost):
            self.lost += 1
        finally:
            back.close()
            writer.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await asyncio.sleep(self._rng.random() * self._delay_s)
            if self._rng.random() < self._lost_share:
                raise _Lost
            sink.write(data)
            await sink.drain()
        raise _Lost


class _Lost(Exception):
    """The connection goes."""


@dataclass
class Rig:
    """What runs. `caches` are purged over wires that lose connections."""

    storage: Served
    varnish: Varnish
    gateway: Process
    documents: GrpcDocuments
    caches: Caches
    wires: tuple[Wire, Wire]


@asynccontextmanager
async def running(folder: Path, rng: random.Random, lost_share: float) -> AsyncIterator[Rig]:
    """Varnish before a gateway with the route /p/NAME before storage, all on free ports; killed at the end."""
    storage = Served(folder / "storage", "storage", "grpcio", {})
    gateway, address, ready = _gateway(folder / "gateway", storage.address)
    channels = Channels([storage.address], tls=None)
    host, _, port = address.partition(":")
    try:
        await asyncio.to_thread(storage.start)
        async with aio.connect(storage=storage.address) as client:
            await client.storage.create_namespace(NAMESPACE)
        gateway.start()
        await asyncio.to_thread(gateway.wait_ready, ready.exists)
        async with AsyncExitStack() as stack:
            # Varnish's own way is slow: pages are on it for long, and purges come in between.
            slow = await stack.enter_async_context(Wire(host, int(port), rng, delay_s=0.05))
            varnish = Varnish(f"127.0.0.1:{slow.port}", vcl=deployed_vcl())
            stack.push_async_callback(asyncio.to_thread, varnish.close)
            await asyncio.to_thread(varnish.start)
            inner = await stack.enter_async_context(Wire(host, int(port), rng, lost_share))
            outer = await stack.enter_async_context(Wire("127.0.0.1", varnish.port, rng, lost_share))
            urls = {"gateway": f"http://127.0.0.1:{inner.port}", "varnish": f"http://127.0.0.1:{outer.port}"}
            caches = targets(urls, pipeline=8)
            stack.push_async_callback(caches.close)
            documents = GrpcDocuments(Caller(channels, 10.0, dict))
            yield Rig(storage, varnish, gateway, documents, caches, (inner, outer))
    finally:
        await channels.close()
        gateway.kill()
        storage.kill()


def _gateway(folder: Path, storage: str) -> tuple[Process, str, Path]:
    folder.mkdir()
    address, ready = f"127.0.0.1:{free_port()}", folder / "ready.json"
    config = {
        "server": {"listen": ["127.0.0.1:0"], "ready_file": str(ready), "drain_wait": "0s"},
        "http": {"listen": [address]},
        "storage": {"addresses": [storage]},
        "routes": [{"path_prefix": "/p/", "namespace": NAMESPACE}],
        # Small: pages are evicted and read again all the time.
        "cache": {"max_bytes": 16384},
    }
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "services.gateway.main", "--config", str(file)]
    return Process("gateway", command, folder, environment), address, ready
