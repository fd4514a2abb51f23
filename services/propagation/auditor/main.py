"""The auditor's process: configuration in, pages looked at, compared and repaired.

python -m services.propagation.auditor.main --config auditor.yaml
"""

import os
import sys
from random import Random

from libs.clock.clock import SystemClock
from libs.config import wiring
from libs.config.clients import caller, open_channels
from libs.config.command import from_command_line
from libs.purge.caches import Caches
from libs.rpc.options import StartError
from libs.rpc.run import run
from libs.rpc.server import Server
from services.propagation.auditor.adapters import GrpcEngine, GrpcPages
from services.propagation.auditor.auditor import Auditor, Outside, SweepOptions
from services.propagation.auditor.http_caches import HttpCaches
from services.propagation.auditor.metrics import AuditorCollector
from services.propagation.auditor.sampling import SamplingOptions
from services.propagation.auditor.state import StateDirectory, StateError
from wellspring.config.v1 import auditor_pb2
from wellspring.storage.v1 import storage_admin_pb2
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels

_STORAGE_ADMIN = storage_admin_pb2.DESCRIPTOR.services_by_name["StorageAdmin"]


def main() -> int:
    """Serves until a signal says stop; returns the exit status."""
    config = from_command_line("auditor", auditor_pb2.AuditorConfig)

    async def build(server: Server) -> None:
        if config.server.workers != 1:
            raise StartError("server.workers: one auditor keeps one cursor; 1 is allowed")
        try:
            await _build(server, config)
        except StateError as error:
            raise StartError(str(error)) from None

    return run(
        build,
        wiring.server_options("auditor", config.server),
        telemetry=wiring.telemetry_options(config.telemetry),
    )


async def _build(server: Server, config: auditor_pb2.AuditorConfig) -> None:
    state = StateDirectory(config.path)

    async def open_state() -> StateDirectory:
        return state.open()

    async def close_state(_: StateDirectory) -> None:
        state.close()

    await server.resources.add("state", open_state, close=close_state)
    engine_channels = await server.resources.add(
        "engine channel", lambda: open_channels(config.engine), close=Channels.close
    )
    engine = GrpcEngine(caller(engine_channels, config.engine))
    storage_channels = await server.resources.add(
        "storage channel", lambda: open_channels(config.storage), close=Channels.close
    )
    storage = caller(storage_channels, config.storage)

    async def check_engine(_: GrpcEngine) -> None:
        await engine.views()

    async def check_storage(_: Caller) -> None:
        request = storage_admin_pb2.ListNamespacesRequest(page_size=1)
        answer = storage_admin_pb2.ListNamespacesResponse
        await storage.unary(_STORAGE_ADMIN, "ListNamespaces", request, answer, 1.0)

    async def given_engine() -> GrpcEngine:
        return engine

    async def given_storage() -> Caller:
        return storage

    await server.resources.add("engine", given_engine, health=check_engine)
    await server.resources.add("storage", given_storage, health=check_storage)
    caches = await server.resources.add("caches", lambda: _open_caches(config), close=HttpCaches.close)
    auditor = Auditor(
        Outside(
            engine,
            GrpcPages(storage),
            caches.instances,
            SystemClock(),
            Random(os.urandom(16)),  # noqa: S311  chooses what is looked at, guards nothing
            lambda: os.urandom(8).hex(),
            state,
        ),
        _sampling(config),
        SweepOptions(config.sweep.pages_per_s, wiring.seconds(config.sweep.pause), config.sweep.cache_share),
        repair=config.repair,
    )
    sweeps = config.sweep.pages_per_s > 0
    server.telemetry.registry.register(AuditorCollector(auditor.freshness, auditor.sweeper if sweeps else None))
    if caches.instances:
        server.add_background("sampling", auditor.sampling)
    if sweeps:
        server.add_background("sweeping", auditor.sweeping)


def _sampling(config: auditor_pb2.AuditorConfig) -> SamplingOptions:
    delays = sorted({wiring.seconds(delay) for delay in config.sampling.delays})
    if not delays or delays[0] <= 0:
        raise StartError("sampling.delays: names no time, or one that is not above 0s; such as ['10s', '60s', '300s']")
    return SamplingOptions(config.sampling.per_s, tuple(delays), config.sampling.random_per_s)


async def _open_caches(config: auditor_pb2.AuditorConfig) -> HttpCaches:
    try:
        return HttpCaches(Caches.of(config.caches))
    except ValueError as error:
        raise StartError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
