"""The executor's process: configuration in, work out.

python -m services.propagation.executor.main --config executor.yaml
"""

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Sequence
from functools import partial

from libs.config import wiring
from libs.config.clients import caller, open_channels
from libs.config.command import from_command_line
from libs.config.config import ConfigError
from libs.config.kafka import kafka_options
from libs.kafka.errors import AccessRefused, BrokersAway
from libs.kafka.producer import Producer
from libs.kafka.topics import Topics
from libs.purge.caches import Caches
from libs.rpc.options import StartError
from libs.rpc.run import run
from libs.rpc.server import Server
from services.propagation.executor.adapters import GrpcDocuments, GrpcWork
from services.propagation.executor.engines import EveryEngine
from services.propagation.executor.metrics import WorkerCollector
from services.propagation.executor.ports import Work
from services.propagation.executor.worker import Worker, WorkerOptions
from services.propagation.targets.budget import RetryBudget
from services.propagation.targets.settings import TargetInvalid, settings_of
from services.propagation.targets.targets import Targets
from wellspring.config.v1 import executor_pb2, server_pb2
from wellspring_client.channels import Channels

log = logging.getLogger(__name__)


class Running:
    """The worker and its task, as a resource of the server: closing it ends the work in an orderly way.

    A worker that ends by itself is a fault of ours: the process ends, and whoever runs it starts another.
    """

    def __init__(self, worker: Worker, server: Server) -> None:
        self.worker = worker
        self._server = server
        self.task = asyncio.get_running_loop().create_task(worker.run())
        self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the worker failed", exc_info=error)
            self._server.failed = True
            self._server.stopping.set()

    async def close(self) -> None:
        """Finishes what has begun, gives back the rest."""
        self.worker.stop()
        await asyncio.wait([self.task])

    async def check(self) -> None:
        """Raises when there is no work to be had: the engine is away, or the worker has ended."""
        if self.task.done():
            raise RuntimeError("the worker has ended")
        if not self.worker.connected:
            raise RuntimeError("the engine cannot be reached")


def main() -> int:
    """Serves until a signal says stop; returns the exit status."""
    config = from_command_line("executor", executor_pb2.ExecutorConfig)
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    sys.path[:0] = list(config.python_path)

    async def build(server: Server) -> None:
        engines = await _engines(server, config.engine)
        storage = await server.resources.add(
            "storage channel", lambda: open_channels(config.storage), close=Channels.close
        )
        caches = await server.resources.add("caches", lambda: _caches(config), close=Caches.close)
        worker = Worker(
            _options(config),
            engines,
            GrpcDocuments(caller(storage, config.storage)),
            caches,
            await _targets(config, await _messages(server, config)),
        )
        server.telemetry.registry.register(WorkerCollector(worker))
        await server.resources.add("worker", lambda: _start(worker, server), close=Running.close, health=Running.check)

    return run(
        build,
        wiring.server_options("executor", config.server),
        telemetry=wiring.telemetry_options(config.telemetry),
    )


YOUNG_OBJECTS = 10_000
"""Before the collector looks through them, for half a millisecond: a slice makes thousands, which end with it."""
RESERVED_ITEMS = 20
"""Pages of roots that had no turn yet, above all else: an edit of one page has one, and few edits come at once."""
SLICE_S = 0.005
"""Of the event loop, in several steps: two or three slices may be in a newcomer's way, which is to wait 10 ms or so."""


async def _engines(server: Server, config: server_pb2.ServiceClient) -> Work:
    """What gives work: the engine, or each of those that are named."""
    works: list[Work] = []
    for address in config.addresses:
        one = server_pb2.ServiceClient()
        one.CopyFrom(config)
        one.addresses[:] = [address]
        channels = await server.resources.add(
            f"engine channel {address}", partial(open_channels, one), close=Channels.close
        )
        works.append(GrpcWork(caller(channels, one)))
    if len(works) == 1:
        return works[0]
    return await server.resources.add("engines", partial(_every, works), close=EveryEngine.close)


async def _every(works: Sequence[Work]) -> EveryEngine:
    return EveryEngine(works)


def _options(config: executor_pb2.ExecutorConfig) -> WorkerOptions:
    return WorkerOptions(
        name=config.name or f"{socket.gethostname()}:{os.getpid()}",
        lease_items=config.lease_items,
        leases=config.leases,
        slice_items=config.slice_items,
        slices=config.slices,
        wait_s=wiring.seconds(config.lease_wait),
        heartbeat_s=wiring.seconds(config.heartbeat),
        source_cache_bytes=config.source_cache_bytes,
        reserved_items=RESERVED_ITEMS,
        slice_s=SLICE_S,
    )


async def _caches(config: executor_pb2.ExecutorConfig) -> Caches:
    try:
        return Caches.of(config.caches)
    except ValueError as error:
        raise StartError(str(error)) from None


async def _messages(server: Server, config: executor_pb2.ExecutorConfig) -> Producer | None:
    """What takes messages of views. Brokers that are away are not waited for: other views are served meanwhile."""
    if not config.HasField("kafka"):
        return None
    try:
        options = kafka_options(config.kafka, "kafka")
        await Topics(options).cluster()
    except BrokersAway:
        log.warning("the Kafka brokers do not answer now; views that publish wait for them")
    except (ConfigError, AccessRefused) as error:
        raise StartError(error.message) from None

    async def open_producer() -> Producer:
        return Producer(options)

    return await server.resources.add("kafka", open_producer, close=Producer.close)


async def _targets(config: executor_pb2.ExecutorConfig, messages: Producer | None) -> Targets:
    try:
        settings = settings_of(config.targets)
        for one in settings.values():
            if one.origin.startswith("https:"):
                one.ssl_context()  # a file that cannot be read is found now
    except TargetInvalid as error:
        raise StartError(str(error)) from None
    budget = RetryBudget(config.retry_budget.share, config.retry_budget.min_per_s)
    return Targets(settings, budget, messages=messages)


async def _start(worker: Worker, server: Server) -> Running:
    return Running(worker, server)


if __name__ == "__main__":
    sys.exit(main())
