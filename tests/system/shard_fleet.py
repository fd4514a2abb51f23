"""Engines that share the shards of one log on three brokers, executors, a storage service and a cache: processes that
are killed and stopped, brokers among them."""

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import yaml

from tests.system.giant_renderer import PAGES, TEMPLATE
from tests.system.giant_site import CALL_S, VIEW, VIEWS, WORK
from tests.system.noting_cache import NotingCache
from tests.system.served import STACKS, Served
from tools.dev.servers.kafka import Broker, Kafka
from tools.dev.servers.ports import free_port
from tools.dev.servers.process import Process, ServerError
from tools.platform.layout import MODULES
from wellspring_client import aio
from wellspring_client.errors import DeadlineExceeded, NotFound, Unavailable

ENGINES, EXECUTORS, BROKERS, SHARDS = 3, 4, 3, 3
SESSION_S = 8
"""The brokers' least is 6: who stands still for longer is given up."""
LEASE_S = 4.0
GROUP, TOPIC = "engines", "wellspring.propagation.shard-log"
LOST = "a shard was lost"
GIVEN = "a shard is given to another engine"


class Fleet:
    """`engines` and `executors` are processes; `cache` was told of every purge."""

    def __init__(self, folder: Path, kafka: Kafka, cache: NotingCache) -> None:
        views = folder / "views.yaml"
        views.write_text(VIEWS, encoding="utf-8")
        self.kafka = kafka
        self.cache = cache
        self.storage = Served(folder / "storage", "storage", "grpcio", {})
        log = {
            "kafka": {"bootstrap_servers": kafka.address.split(","), "group": GROUP, "replication": BROKERS},
            "shards": SHARDS,
            "session_timeout": f"{SESSION_S}s",
        }
        self._served = []
        for number in range(ENGINES):
            path = folder / f"engine-{number}"
            config = {
                "views_file": str(views),
                "storage": {"addresses": [self.storage.address]},
                "follow": {"refresh": "200ms"},
                "backend": {"sharded": {**log, "embedded": {"path": str(path / "data"), "reserve_bytes": 0}}},
            }
            self._served.append(Served(path, "propagation", "grpcio", config))
            self._served[-1].process.name = path.name
        self.engines = [served.process for served in self._served]
        self.executors = [self._executor(folder / f"executor-{number}") for number in range(EXECUTORS)]

    @property
    def addresses(self) -> list[str]:
        """Of all engines: each takes calls for all shards."""
        return [served.address for served in self._served]

    def _executor(self, folder: Path) -> Process:
        folder.mkdir()
        config = {
            "server": {"listen": [f"127.0.0.1:{free_port()}"], "drain_wait": "50ms"},
            "engine": {"addresses": self.addresses, "timeout": "10s"},
            "storage": {"addresses": [self.storage.address]},
            "caches": [{"name": "cache", "urls": [self.cache.url], "timeout": "10s"}],
            **WORK,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-m", MODULES["executor"], "--config", str(folder / "config.yaml")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)} | STACKS
        return Process(folder.name, command, folder, environment)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator["Fleet"]:
        """Everything started, and the engines take calls: see `until_viewed`. All of it is killed at the end."""
        async with NotingCache().running() as cache:
            with contextlib.ExitStack() as stack:
                kafka = await asyncio.to_thread(stack.enter_context, Kafka(brokers=BROKERS))
                fleet = cls(folder, kafka, cache)
                stack.callback(fleet.kill)
                await asyncio.to_thread(fleet.storage.start)
                for process in fleet.processes():
                    process.start()
                for engine in fleet.engines:
                    await asyncio.to_thread(engine.wait_ready, (engine.directory / "ready.json").exists)
                yield fleet

    async def until_viewed(self) -> None:
        """Ends when every shard has the view: it takes pages of it. The first shard has it first."""
        some = [(f"{PAGES}{number:07}", [TEMPLATE]) for number in range(16 * SHARDS)]
        async with aio.connect(propagation=self.addresses, timeout=CALL_S) as client:
            while True:
                try:
                    await client.propagation.declare(VIEW, some)
                    return
                except (NotFound, Unavailable, DeadlineExceeded):
                    await asyncio.sleep(0.1)

    def processes(self) -> Iterator[Process]:
        """Engines and executors."""
        yield from self.engines
        yield from self.executors

    def kill(self) -> None:
        """All but the brokers."""
        for process in (*self.processes(), self.storage.process):
            process.kill()

    async def fault(self, kind: str, rng: random.Random) -> str:
        """Kills or stops a process of a kind, perhaps another one with it, and has them back; answers what was done."""
        if kind == "broker":
            return await self._broker(rng.choice(self.kafka.brokers), rng)
        victims = [rng.choice(self.engines if kind == "engine" else self.executors)]
        if rng.random() < 0.4:
            victims.append(rng.choice([one for one in self.processes() if one not in victims]))
        how = await self._kill(victims, rng) if rng.random() < 0.5 else await self._stop(victims, rng)
        return f"{how}: {', '.join(one.name for one in victims)}"

    async def revive(self) -> None:
        """Starts whoever has ended, as whatever looks after processes does."""
        for process in self.processes():
            if not process.running:
                await asyncio.to_thread(process.start)

    async def _kill(self, victims: list[Process], rng: random.Random) -> str:
        for process in victims:
            await asyncio.to_thread(process.kill)
        await asyncio.sleep(rng.uniform(0.0, 1.0))
        await self.revive()
        return "killed"

    async def _stop(self, victims: list[Process], rng: random.Random) -> str:
        """Now and then for longer than a lease, or than the group waits for an engine."""
        most_s = rng.choice([1.0, LEASE_S + 1.0, SESSION_S + 3.0])
        for process in victims:
            await asyncio.to_thread(_if_running, process, process.pause)
        await asyncio.sleep(rng.uniform(0.7, 1.0) * most_s)
        for process in victims:
            _if_running(process, process.resume)
        await self.revive()
        return f"stopped for up to {most_s:g} s"

    async def _broker(self, broker: Broker, rng: random.Random) -> str:
        if rng.random() < 0.3:
            await asyncio.to_thread(broker.pause)
            await asyncio.sleep(rng.uniform(0.5, 6.0))
            broker.resume()
            return f"stopped for a while: {broker.name}"
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(rng.uniform(0.0, 5.0))
        await asyncio.to_thread(broker.restart)
        return f"killed: {broker.name}"

    def complaints(self) -> list[str]:
        """What processes said that they should not have."""
        logs = {one: one.logs() for one in self.processes()}
        found = [f"{one.name} failed: {_about(said, 'Traceback')}" for one, said in logs.items() if "Traceback" in said]
        return found + [
            f"{one.name}: {_about(said, 'DATA_LOSS')}" for one, said in logs.items() if "LOG_DAMAGED" in said
        ]

    def moves(self) -> int:
        """How often an engine led a shard no more, and lived."""
        return sum(one.logs().count(words) for one in self.engines for words in (LOST, GIVEN))


def kinds(faults: int, rng: random.Random) -> list[str]:
    """So many kinds of faults for `Fleet.fault`, brokers among them."""
    some = rng.choices(["engine", "engine", "engine", "executor", "executor", "broker"], k=max(0, faults - 1))
    return rng.sample(["broker", *some], faults) if faults else []


def _if_running(process: Process, act: Callable[[], None]) -> None:
    """One that has ended by itself is no victim."""
    try:
        act()
    except (ServerError, ProcessLookupError):
        if process.running:
            raise


def _about(said: str, words: str) -> str:
    at = said.find(words)
    return said[max(0, at - 500) : at + 2_000]
