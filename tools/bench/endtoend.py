"""The end-to-end bench: an edit of one template, and every page that depends on it rendered, stored and purged.

Engine, storage and executors are real processes with their defaults, but that the renderer is asked for `--pipeline`
pages in a row on a connection; the renderer and the cache are stubs that answer HTTP with a page of a fixed size, whose
CPU is not counted. A small edit warms everything up; then the template with all the pages is edited, and
CPU and time are taken until the root is done. Every page must be stored as the edit made it, and each must have been
rendered and purged. In the same run a bare loop (aiohttp, events from Kafka) makes one GET for each event to the same
stub: no retry, no state, no store, no purge.

./bazelw run //tools/bench:endtoend -- --pages 20000 --executors 1 --json
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tools.bench import endtoend_loop
from tools.bench.endtoend_world import HUB, NAMESPACE, WARM, Deployment, Service, declarations, environment, page
from tools.bench.figures import Figures, add_options, log, run_folder, tell_figures
from tools.dev.servers.kafka import Kafka
from tools.dev.servers.ports import accepts, free_port
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client import aio
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels

WARM_PAGES = 1_000
PIPELINE = 16
_SAMPLE = 200
_LOOK_EVERY_S = 0.1
_LONG_S = 900.0


class Bench:
    """One run, in a folder of its own."""

    def __init__(self, folder: Path, pages: int, executors: int, body_bytes: int, pipeline: int = PIPELINE) -> None:
        self._pages = pages
        self._stub_port = free_port()
        arguments = ["--port", str(self._stub_port), "--body-bytes", str(body_bytes)]
        self._stub = Service("stub", "tools.bench.endtoend_stub", arguments, folder / "stub")
        self._deployment = Deployment(folder, executors, self._stub_port, pipeline)
        self._figures: Figures = {
            "pages": pages,
            "executors": executors,
            "body_bytes": body_bytes,
            "pipeline": pipeline,
        }

    def run(self, loop_from: str) -> Figures:
        """All of it. Ends the program with a sentence when a page was lost."""
        deployment = self._deployment
        servers = [deployment.storage, deployment.engine, *deployment.executors]
        try:
            self._stub.start()
            _until(lambda: accepts("127.0.0.1", self._stub_port), "the stub")
            for server in servers:
                server.start()
            asyncio.run(self._load())
            self._edit(WARM, WARM_PAGES, "1")
            self._measure()
        finally:
            for server in reversed(servers):
                server.stop()
        try:
            self._bare_loop(loop_from)
        finally:
            self._stub.kill()
        return self._figures

    async def _load(self) -> None:
        service = propagation_pb2.DESCRIPTOR.services_by_name["Propagation"]
        deployment = self._deployment
        async with aio.connect(storage=deployment.storage_address, timeout=60.0) as client:
            await client.storage.create_namespace(NAMESPACE, mode="LWW")
        caller = Caller(Channels(deployment.engine_address, tls=None), 60.0, dict)
        try:
            pieces = [*declarations(0, self._pages, HUB), *declarations(self._pages, WARM_PAGES, WARM)]
            for piece in pieces:
                request = propagation_pb2.DeclareDependenciesRequest(packed=[piece])
                answer = propagation_pb2.DeclareDependenciesResponse
                await caller.unary(service, "DeclareDependencies", request, answer, 60.0)
        finally:
            await caller.close()

    def _measure(self) -> None:
        time.sleep(1.0)  # what was loaded is folded, and the warm-up's last work is over
        before = self._deployment.cpu_s()
        seconds = self._edit(HUB, self._pages, "2")
        after = self._deployment.cpu_s()
        by = 10_000 / self._pages
        used = {part: (after[part] - before[part]) * by for part in after}
        self._figures["seconds"] = round(seconds, 2)
        self._figures["pages_per_s"] = int(self._pages / seconds)
        self._figures["cpu_s_per_10k_pages"] = round(sum(used.values()), 3)
        self._figures |= {f"{part}_cpu_s_per_10k": round(value, 3) for part, value in used.items()}
        log(f"{self._pages:,} pages in {seconds:.2f} s; CPU s per 10,000: {used}")

    def _edit(self, template: str, pages: int, number: str) -> float:
        """Edits a template and waits until all its pages are done; the seconds that took."""
        self._ask(f"/edit/{number}/{template.replace('/', '%2F')}")
        began_s = time.monotonic()
        root = asyncio.run(self._publish_and_wait(template, number))
        seconds = time.monotonic() - began_s
        told = self._ask("/counts")
        problems = {
            f"the root says done {root.progress.done:,} of {root.progress.total:,}, not {pages:,}": not (
                root.progress.done == root.progress.total == pages
            ),
            f"{told['renders']:,} renders": told["renders"] < pages,
            f"{told['purges']:,} purges": told["purges"] < pages,
        }
        broken = [problem for problem, there in problems.items() if there]
        broken += asyncio.run(self._stale(template, pages, number))
        if broken:
            raise SystemExit(f"edit {number} of {pages:,} pages: " + "; ".join(broken))
        return seconds

    async def _publish_and_wait(self, template: str, number: str) -> propagation_pb2.Root:
        async with aio.connect(propagation=self._deployment.engine_address, timeout=60.0) as client:
            version = int(number).to_bytes(16, "big")
            await client.propagation.change(template, version, id=f"edit-{number}")
            end = time.monotonic() + _LONG_S
            while time.monotonic() < end:
                root = await client.propagation.get_change(f"edit-{number}")
                if root.state == propagation_pb2.Root.STATE_DONE:
                    return root
                await asyncio.sleep(_LOOK_EVERY_S)
        raise SystemExit(f"edit {number} was not done after {_LONG_S:.0f} s: {root.progress}")

    async def _stale(self, template: str, pages: int, number: str) -> list[str]:
        """What a sample of the stored pages shows, where that is not this edit."""
        first = self._pages if template == WARM else 0
        step = max(1, pages // _SAMPLE)
        records = [page(first + at).encode() for at in range(0, pages, step)]
        async with aio.connect(storage=self._deployment.storage_address, timeout=60.0) as client:
            items = await client.storage.namespace(NAMESPACE).get_many(records)
        wanted = f"of edit {number}".encode()
        stale = sum(item is None or wanted not in item.value for item in items)
        return [f"{stale} of {len(records)} stored pages do not show the edit"] if stale else []

    def _ask(self, path: str) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._stub_port}{path}", timeout=10) as answer:
            told: dict[str, int] = json.load(answer)
            return told

    def _bare_loop(self, loop_from: str) -> None:
        if loop_from == "kafka":
            try:
                self._bare_loop_on_kafka()
                return
            except (SkipTest, LookupError) as reason:
                log(f"no Kafka here, events from memory instead: {reason}")
        self._run_loop("")
        self._figures["bare_loop_kafka"] = 0

    def _bare_loop_on_kafka(self) -> None:
        with Kafka(measured=True) as kafka:
            admin = AdminClient({"bootstrap.servers": kafka.address})
            admin.create_topics([NewTopic(endtoend_loop.TOPIC, 1, 1)])[endtoend_loop.TOPIC].result(30)
            producer = Producer({"bootstrap.servers": kafka.address, "queue.buffering.max.messages": 10_000_000})
            for number in range(self._pages):
                producer.produce(endtoend_loop.TOPIC, json.dumps({"resource": page(number)}).encode())
            producer.flush(60)
            self._run_loop(kafka.address)
        self._figures["bare_loop_kafka"] = 1

    def _run_loop(self, kafka: str) -> None:
        command = [sys.executable, "-m", "tools.bench.endtoend_loop", "--events", str(self._pages), "--kafka", kafka]
        command += ["--url", f"http://127.0.0.1:{self._stub_port}/render/"]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=_LONG_S)
        if done.returncode:
            raise SystemExit(f"the bare loop failed: {done.stderr[-2000:]}")
        told = json.loads(done.stdout.splitlines()[-1])
        self._figures["bare_loop_per_s"] = int(told["events"] / told["seconds"])
        self._figures["bare_loop_cpu_s_per_10k"] = round(told["cpu_s"] * 10_000 / told["events"], 3)
        ours = self._figures["cpu_s_per_10k_pages"]
        self._figures["bare_loop_ratio"] = round(ours / self._figures["bare_loop_cpu_s_per_10k"], 3)


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not start")
        time.sleep(0.02)


def main(tell: Callable[[str], None] = print) -> int:
    """Measures; prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=20_000, help="that depend on the template")
    parser.add_argument("--executors", type=int, default=1)
    parser.add_argument("--body-bytes", type=int, default=2_048, help="of a page")
    parser.add_argument("--pipeline", type=int, default=PIPELINE, help="GETs in a row on a connection to the renderer")
    parser.add_argument("--loop", choices=("kafka", "memory"), default="kafka", help="where the bare loop's events are")
    add_options(parser)
    asked = parser.parse_args()
    if not 100 <= asked.pages <= 10_000_000:
        parser.error("--pages: 100 to 10,000,000 are allowed")
    if not 1 <= asked.executors <= 16:
        parser.error("--executors: 1 to 16 are allowed")
    if not 256 <= asked.body_bytes <= 1 << 20:
        parser.error("--body-bytes: 256 to 1,048,576 are allowed")
    if not 1 <= asked.pipeline <= 64:
        parser.error("--pipeline: 1 to 64 are allowed")
    with run_folder("endtoend", asked.folder) as folder:
        bench = Bench(folder, asked.pages, asked.executors, asked.body_bytes, asked.pipeline)
        figures = bench.run(asked.loop)
    tell_figures(figures, asked.json, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
