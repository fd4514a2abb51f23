"""One run of the fan-out bench: the pages loaded, one change undisturbed, one over the death of the engine."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from libs.embedded.store import EmbeddedStore
from services.propagation.domain.partition import shard_of
from services.propagation.store.embedded_layout import FAMILIES, SCHEMA, VERSION
from tools.bench import fanout_raw
from tools.bench.fanout_engine import Engine, cpu_s
from tools.bench.fanout_executor import BATCH_ITEMS
from tools.bench.fanout_world import HUB, PAGE_PREFIX, VIEW, choose, declarations
from tools.bench.figures import Figures, log
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client import aio
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels
from wellspring_client.errors import NotFound

_LONG_S = 600.0
_VIEWS_S = 60.0
"""Engines that have just begun bring the views of their file into all shards."""


class Executor:
    """The executor's process, and what it says."""

    def __init__(
        self, engine: Engine, folder: Path, change: str, chosen: npt.NDArray[np.bool_], seed: int, *more: str
    ) -> None:
        self._out = folder / f"{change}.bits"
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
        command = [sys.executable, "-m", "tools.bench.fanout_executor", "--address", engine.address]
        command += ["--change", change, "--seed", str(seed), "--out", str(self._out)]
        command += ["--resources", str(len(chosen)), "--dependents", str(int(chosen.sum())), *more]
        self._process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True
        )
        self._events = SimpleQueue[dict[str, Any] | None]()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        return cpu_s(self._process.pid)

    def wait(self, event: str) -> dict[str, Any]:
        """The next event of that name; others are passed over. Ends the bench when it does not come."""
        while True:
            try:
                told = self._events.get(timeout=_LONG_S)
            except Empty:
                raise SystemExit(f"the executor said nothing for {_LONG_S:.0f} s; {event!r} was expected") from None
            if told is None:
                raise SystemExit(f"the executor ended (status {self._process.wait()}) before {event!r}")
            if told["event"] == event:
                return told

    def rendered(self, count: int) -> npt.NDArray[np.bool_]:
        """Which pages it has rendered; waits for its end."""
        if self._process.wait(_LONG_S):
            raise SystemExit(f"the executor ended with status {self._process.returncode}")
        return np.unpackbits(np.frombuffer(self._out.read_bytes(), np.uint8), count=count).astype(np.bool_)

    def kill(self) -> None:
        """Ends it if it still runs."""
        self._process.kill()
        self._process.wait()


class Bench:
    """One run, in a folder of its own. `spare` is an engine that takes over from one that is killed; `others` share the
    shards with the engine; `broker_cpu_s` tells the CPU seconds of the broker that has their log."""

    def __init__(
        self,
        folder: Path,
        dependents: int,
        seed: int,
        engine: Engine | None = None,
        spare: Engine | None = None,
        others: Sequence[Engine] = (),
        broker_cpu_s: Callable[[], float] | None = None,
    ) -> None:
        self._folder = folder
        self._seed = seed
        self._dependents = dependents
        self._chosen = choose(dependents, seed)
        self._engine = engine or Engine(folder)
        self._spare = spare
        self._others = others
        self._broker_cpu_s = broker_cpu_s
        self._version = 0
        self._passes: dict[str, list[float]] = {}
        self._figures: Figures = {"dependents": dependents, "resources": 2 * dependents, "seed": seed}

    def run(self) -> Figures:
        """All of it, over the death of the engine too. Ends the program with a sentence when a promise is broken."""
        try:
            self.open()
            self.undisturbed()
            self.killed()
        finally:
            self.close()
        self._sizes()
        members = BitMap(np.flatnonzero(self._chosen).astype(np.uint32))
        raw = fanout_raw.completions_per_s(self._folder / "raw", members, BATCH_ITEMS)
        self._figures["raw_completions_per_s"] = int(raw)
        self._figures["completions_ratio"] = round(self.figures["completions_per_s"] / raw, 3)
        return self.figures

    def open(self) -> None:
        """Starts and loads the engines, and starts them again. To be closed, also when it raises."""
        self._start()
        self._load()
        self.close()
        self._start()

    def close(self) -> None:
        """Ends the engines."""
        for engine in (self._engine, *self._others):
            engine.stop()

    @property
    def figures(self) -> Figures:
        """What was measured so far; where the change was rendered undisturbed several times, what is the middle."""
        return {**self._figures, **{name: round(median(values), 3) for name, values in self._passes.items()}}

    def passes(self, name: str) -> list[float]:
        """A figure of each undisturbed rendering."""
        return self._passes[name]

    def _start(self) -> None:
        engines = (self._engine, *self._others)
        for engine in engines:
            engine.begin()
        for engine in engines:
            engine.wait()
        asyncio.run(self._views_known())
        for engine in engines:
            engine.settle()

    def _load(self) -> None:
        began = time.monotonic()
        edges = asyncio.run(self._declare())
        if edges != len(self._chosen):
            raise SystemExit(f"{len(self._chosen)} edges were declared, {edges} added")
        self._engine.settle()
        took = time.monotonic() - began
        log(f"loaded {len(self._chosen):,} pages in {took:.1f} s; {self._engine.resident_mib():.0f} MiB resident")
        self._figures["load_s"] = round(took, 2)

    async def _views_known(self) -> None:
        """Waits until each shard has the views: whatever is asked of a shard without them is refused."""
        numbers = range(64 * self._engine.shards)
        pages = {shard_of(page, self._engine.shards): page for page in map(f"{PAGE_PREFIX}{{}}".format, numbers)}
        end_s = time.monotonic() + _VIEWS_S
        async with aio.connect(propagation=self._engine.address, timeout=60.0) as client:
            for page in pages.values():
                while True:
                    try:
                        await client.propagation.dependencies(page, VIEW)
                        break
                    except NotFound:
                        if time.monotonic() >= end_s:
                            raise SystemExit(f"a shard had no views after {_VIEWS_S:.0f} s") from None
                    await asyncio.sleep(0.1)

    async def _declare(self) -> int:
        service = propagation_pb2.DESCRIPTOR.services_by_name["Propagation"]
        caller = Caller(Channels(self._engine.address, tls=None), 60.0, dict)
        added = 0
        try:
            for piece in declarations(self._chosen):
                request = propagation_pb2.DeclareDependenciesRequest(packed=[piece])
                answer = await caller.unary(
                    service, "DeclareDependencies", request, propagation_pb2.DeclareDependenciesResponse, 60.0
                )
                added += answer.edges_added
        finally:
            await caller.close()
        return added

    def undisturbed(self) -> None:
        """Changes the template, and renders all that depends on it."""
        self._version += 1
        change = f"change-{self._version}"
        engine, figures = self._engine, Figures()
        idle_mib = engine.resident_mib()
        engine.forget_peak()
        beside = [f"--beside={other.address}" for other in self._others]
        executor = self._executor(change, *beside)
        try:
            executor.wait("ready")
            before = self._cpu_s(executor)
            published_s = self._publish(change, figures)
            first_s = executor.wait("first_lease")["at_s"]
            burst = executor.wait("burst")
            over = executor.wait("over")
            after = self._cpu_s(executor)
            self._check(change, executor, over, in_flight=0)
        finally:
            executor.kill()
        figures["first_lease_s"] = round(first_s - published_s, 3)
        figures["leases_per_s"] = int(burst["items"] / burst["seconds"])
        took_s = over["last_done_at_s"] - first_s
        figures["completions_per_s"] = int(self._dependents / took_s)
        for who, used_s in after.items():
            figures[f"{who}_cpu_s"] = round(used_s - before[who], 2)
        figures["engine_cores"] = round(figures["engine_cpu_s"] / took_s, 2)
        for name, value in figures.items():
            self._passes.setdefault(name, []).append(value)
        above_mib = round(engine.peak_mib() - idle_mib, 1)
        if self._version == 1:
            self._figures |= {"idle_mib": round(idle_mib, 1), "memory_above_idle_mib": above_mib}
        log(f"undisturbed: {self._dependents:,} in {took_s:.2f} s, {above_mib} MiB above idle")

    def _executor(self, change: str, *more: str) -> Executor:
        """One whose renders are others than at the changes before."""
        return Executor(self._engine, self._folder, change, self._chosen, self._seed + self._version - 1, *more)

    def _cpu_s(self, executor: Executor) -> dict[str, float]:
        """CPU seconds used so far, by whom."""
        used = {"engine": sum(engine.cpu_s() for engine in (self._engine, *self._others)), "executor": executor.cpu_s()}
        return used if self._broker_cpu_s is None else {**used, "broker": self._broker_cpu_s()}

    def _publish(self, change: str, figures: Figures) -> float:
        """Estimates and publishes; answers when the publishing began."""

        async def publish() -> float:
            async with aio.connect(propagation=self._engine.address, timeout=60.0) as client:
                await client.propagation.admin.list_views()  # connects
                began_s = time.monotonic()
                estimate = await client.propagation.estimate(HUB)
                estimated_s = time.monotonic()
                told = sum(view.dependents for view in estimate.views)
                if told != self._dependents:
                    raise SystemExit(f"{told:,} dependents were estimated, {self._dependents:,} declared")
                await client.propagation.change(HUB, self._version.to_bytes(16, "big"), id=change)
                figures["estimate_s"] = round(estimated_s - began_s, 3)
                figures["acknowledged_s"] = round(time.monotonic() - estimated_s, 3)
                return estimated_s

        return asyncio.run(publish())

    def killed(self) -> None:
        """Changes the template once more, and kills the engine at half way."""
        self._version += 1
        change = f"change-{self._version}"
        engine, figures = self._engine, self._figures
        successor = self._spare or engine
        more = ("--engine-dies", "--successor", successor.address)
        executor = self._executor(change, *more)
        try:
            if self._spare is not None:
                self._spare.begin()
                self._spare.settle()
            executor.wait("ready")
            self._publish(change, {})
            half = executor.wait("half")
            engine.kill()
            started_s = time.monotonic()
            if self._spare is not None:
                self._engine = self._spare
                self._engine.wait()
            else:
                engine.start()
            executor.wait("lost")
            first_s = executor.wait("first_lease")["at_s"]
            over = executor.wait("over")
            self._check(change, executor, over, in_flight=over["given_up"])
        finally:
            executor.kill()
        figures["restart_to_first_lease_s"] = round(first_s - started_s, 3)
        figures["restart_to_end_s"] = round(over["last_done_at_s"] - started_s, 3)
        figures["rendered_twice"] = over["rendered_twice"]
        figures["in_flight_at_kill"] = over["given_up"]
        log(f"killed at {half['done']:,}, {over['given_up']:,} in flight: {over['rendered_twice']:,} rendered twice")

    def _check(self, change: str, executor: Executor, over: dict[str, Any], in_flight: int) -> None:
        """Every dependent rendered and no other page, nothing that was acknowledged done again; else the end."""
        root = asyncio.run(self._root(change))
        rendered = executor.rendered(len(self._chosen))
        lost, strange = int((self._chosen & ~rendered).sum()), int((rendered & ~self._chosen).sum())
        unacknowledged = over["rendered"] - over["done"]
        problems = {
            f"{lost:,} dependents were not rendered": lost,
            f"{strange:,} pages were rendered that depend on something else": strange,
            f"{over['done_again']:,} pages were done again after their completion was acknowledged": over["done_again"],
            f"{over['rendered_twice']:,} were rendered twice, {in_flight:,} in flight": over["rendered_twice"]
            > in_flight,
            f"{unacknowledged:,} completions never acknowledged, {in_flight:,} in flight": unacknowledged > in_flight,
            f"the root says done {root.progress.done:,} of {root.progress.total:,}": not (
                root.progress.done == root.progress.total == self._dependents
            ),
            f"the root ended as {propagation_pb2.Root.State.Name(root.state)}": root.state
            != propagation_pb2.Root.STATE_DONE,
        }
        broken = [problem for problem, there in problems.items() if there]
        if broken:
            raise SystemExit(f"{change}, seed {self._seed}: " + "; ".join(broken))

    async def _root(self, change: str) -> propagation_pb2.Root:
        async with aio.connect(propagation=self._engine.address, timeout=60.0) as client:
            return await client.propagation.get_change(change)

    def _sizes(self) -> None:
        with EmbeddedStore.open(self._engine.data, schema=SCHEMA, version=VERSION, families=FAMILIES) as store:
            sizes = store.sizes()
        edges = sum(sizes[name].disk_bytes for name in ("forward", "reverse", "arrivals"))
        self._figures["bytes_per_edge"] = round(edges / len(self._chosen), 2)
        for name in ("names", "name_blocks", "columns"):
            log(f"{name}: {sizes[name].disk_bytes / len(self._chosen):.1f} bytes a page")
