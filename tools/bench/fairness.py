"""The fairness bench: one-page edits while nothing else goes on, and again while a root of many pages runs.

Storage, engine and one executor are processes as in a deployment; the renderer and the cache are a stub. Each edit is
of a page by itself, never edited before: rendered, stored and purged. Its time is from the call that publishes it to
the answer of AwaitVisible. The root must still run when the last of the second edits is visible, else the bench says
so.

./bazelw run //tools/bench:fairness -- --pages 1000000 --json
"""

import argparse
import asyncio
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np

from tools.bench.endtoend_world import HUB, NAMESPACE, VIEW, WARM, Deployment, Service, declarations, page
from tools.bench.figures import Figures, add_options, log, run_folder, tell_figures
from tools.dev.servers.ports import accepts, free_port
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client import aio
from wellspring_client.aio import Client
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels

_WARM_EDITS = 20
_PAUSE_S = 0.02
_LONG_S = 60.0
_RUNNING_SHARE = 0.001


class Bench:
    """One run, in a folder of its own."""

    def __init__(self, folder: Path, pages: int, edits: int, executors: int) -> None:
        self._pages = pages
        self._edits = edits
        self._stub_port = free_port()
        arguments = ["--port", str(self._stub_port), "--body-bytes", "2048"]
        self._stub = Service("stub", "tools.bench.endtoend_stub", arguments, folder / "stub")
        self._deployment = Deployment(folder, executors, self._stub_port)
        self._figures: Figures = {"pages": pages, "edits": edits, "executors": executors}
        # Pages that are edited by themselves come behind those of the root.
        self._next = pages

    def run(self) -> Figures:
        """All of it. Ends the program with a sentence when the root ended too early."""
        deployment = self._deployment
        servers = [deployment.storage, deployment.engine, *deployment.executors]
        try:
            self._stub.start()
            _until(lambda: accepts("127.0.0.1", self._stub_port))
            for server in servers:
                server.start()
            asyncio.run(self._measure())
        finally:
            for server in reversed(servers):
                server.stop()
            self._stub.kill()
        return self._figures

    async def _measure(self) -> None:
        deployment = self._deployment
        async with aio.connect(
            storage=deployment.storage_address, propagation=deployment.engine_address, timeout=60.0
        ) as client:
            await client.storage.create_namespace(NAMESPACE, mode="LWW")
            await self._declare()
            self._show(1, WARM)
            await self._visible_ms(client, _WARM_EDITS)
            idle = await self._visible_ms(client, self._edits)
            log(f"idle: {np.percentile(idle, 50):.1f} ms, p99 {np.percentile(idle, 99):.1f} ms")
            self._show(2, HUB)
            await client.propagation.change(HUB, (1).to_bytes(16, "big"), id="root")
            before = await self._running(client)
            began_s = time.monotonic()
            busy = await self._visible_ms(client, self._edits)
            took_s = time.monotonic() - began_s
            root = await client.propagation.get_change("root")
            if root.state != propagation_pb2.Root.STATE_ACTIVE:
                raise SystemExit(f"the root of {self._pages:,} pages was over before the edits were; give more --pages")
        self._tell("idle", idle)
        self._tell("busy", busy)
        self._figures["p50_ratio"] = round(self._figures["busy_p50_ms"] / self._figures["idle_p50_ms"], 2)
        self._figures["p99_ratio"] = round(self._figures["busy_p99_ms"] / self._figures["idle_p99_ms"], 2)
        self._figures["root_pages_per_s"] = int((root.progress.done - before) / took_s)

    def _show(self, edit: int, dependency: str) -> None:
        """What the stub renders from now on, and on what it says that depends."""
        path = f"/edit/{edit}/{quote(dependency, safe='')}"
        with urllib.request.urlopen(f"http://127.0.0.1:{self._stub_port}{path}", timeout=10) as answer:
            answer.read()

    async def _declare(self) -> None:
        service = propagation_pb2.DESCRIPTOR.services_by_name["Propagation"]
        caller = Caller(Channels(self._deployment.engine_address, tls=None), 60.0, dict)
        try:
            for piece in [*declarations(0, self._pages, HUB), *declarations(self._pages, 1, WARM)]:
                request = propagation_pb2.DeclareDependenciesRequest(packed=[piece])
                answer = propagation_pb2.DeclareDependenciesResponse
                await caller.unary(service, "DeclareDependencies", request, answer, 60.0)
        finally:
            await caller.close()

    async def _running(self, client: Client) -> int:
        """Waits until a small share of the root is done; answers how many pages."""
        while True:
            root = await client.propagation.get_change("root")
            if root.progress.done >= _RUNNING_SHARE * self._pages:
                return root.progress.done
            await asyncio.sleep(_PAUSE_S)

    async def _visible_ms(self, client: Client, edits: int) -> list[float]:
        """Edits so many pages one after the other; how long each took until it was visible."""
        took: list[float] = []
        for _ in range(edits):
            self._next += 1
            name = page(self._next)
            began_s = time.perf_counter()
            accepted = await client.propagation.change(name, (1).to_bytes(16, "big"))
            answer = await client.propagation.await_visible(accepted.visibility_token, name, VIEW, timeout=_LONG_S)
            if not answer.visible:
                raise SystemExit(f"{name} was not visible within {_LONG_S:.0f} s of its edit")
            took.append(1000 * (time.perf_counter() - began_s))
            await asyncio.sleep(_PAUSE_S)
        return took

    def _tell(self, name: str, took_ms: list[float]) -> None:
        for percent in (50, 99):
            self._figures[f"{name}_p{percent}_ms"] = round(float(np.percentile(took_ms, percent)), 2)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the stub did not start")
        time.sleep(0.02)


def main(tell: Callable[[str], None] = print) -> int:
    """Measures; prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=1_000_000, help="of the root that runs beside the edits")
    parser.add_argument("--edits", type=int, default=300, help="of one page each, idle and again beside the root")
    parser.add_argument("--executors", type=int, default=1)
    add_options(parser)
    asked = parser.parse_args()
    if not 10_000 <= asked.pages <= 10_000_000:
        parser.error("--pages: 10,000 to 10,000,000 are allowed")
    if not 10 <= asked.edits <= 10_000:
        parser.error("--edits: 10 to 10,000 are allowed")
    if not 1 <= asked.executors <= 16:
        parser.error("--executors: 1 to 16 are allowed")
    with run_folder("fairness", asked.folder) as folder:
        figures = Bench(folder, asked.pages, asked.edits, asked.executors).run()
    tell_figures(figures, asked.json, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
