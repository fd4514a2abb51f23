"""A propagation server in the test's own process, over the store in memory, and stubs to call it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, cast

import grpc

from libs.clock.clock import SystemClock
from libs.paging.paging import PageTokens
from libs.purge.caches import Caches
from libs.rpc.options import ServerOptions
from libs.rpc.server import Server
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from services.propagation.domain.engine import Engine
from services.propagation.domain.shard import Settings
from services.propagation.service import add_propagation
from services.propagation.store.interface import Store
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk
from services.propagation.views.catalogue import Catalogue
from services.propagation.views.parsing import Defaults
from wellspring.propagation.v1 import propagation_admin_pb2_grpc, propagation_pb2_grpc, work_pb2_grpc

VIEWS = """
views:
  - name: html
    resource_prefixes: [w/page/]
    source_namespace: wiki
    source_prefix: w/page/
    render: {entry_point: {function: "examples.wiki.renderer:render"}}
    store: {namespace: html}
    retry: {max_attempts: 2, initial_backoff: 10ms, max_backoff: 20ms}
  - name: summary
    resource_prefixes: [w/summary/]
    render: {http: {url: "http://127.0.0.1:9/{resource}"}}
    store: {namespace: summaries, record: "{name}"}
"""


@dataclass(slots=True)
class Served:
    """A running server: its engine, and a stub for each service."""

    engine: Engine
    catalogue: Catalogue
    address: str
    propagation: Any
    work: Any
    admin: Any


@asynccontextmanager
async def served(
    disk: MemoryDisk | None = None, settings: Settings | None = None, caches: Caches | None = None
) -> AsyncIterator[Served]:
    """A server with VIEWS; the same disk again is a restart."""
    store = cast("Store", MemoryStore(disk))
    catalogue = Catalogue(store, Defaults())
    clock = SystemClock()
    rng = Random(1)  # noqa: S311  a test
    engine = Engine(store, clock, rng, settings or Settings(), catalogue.views(), catalogue.revision, catalogue.older())
    if not catalogue.revision:
        await catalogue.put(engine, VIEWS)
    telemetry = Telemetry(TelemetryOptions(), "propagation")
    server = Server(ServerOptions(service="propagation", drain_wait_s=0, drain_grace_s=0.1), telemetry)
    add_propagation(server, engine, catalogue, PageTokens([bytes(32)], clock, ttl_s=3600), caches=caches)
    async with server, grpc.aio.insecure_channel(server.addresses[0]) as channel:
        yield Served(
            engine,
            catalogue,
            server.addresses[0],
            propagation_pb2_grpc.PropagationStub(channel),  # type: ignore[no-untyped-call,unused-ignore]
            work_pb2_grpc.PropagationWorkStub(channel),  # type: ignore[no-untyped-call,unused-ignore]
            propagation_admin_pb2_grpc.PropagationAdminStub(channel),  # type: ignore[no-untyped-call,unused-ignore]
        )
