"""The service put together on a store: what a server and a test in one process have in common."""

import asyncio
import dataclasses
import functools
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass

from libs.clock.clock import Clock
from libs.errors.errors import ResourceExhausted, Unavailable
from libs.rpc.policy import Policy
from libs.rpc.server import Server
from libs.telemetry.logs import fields
from services.storage.administration import Backups, administration
from services.storage.domain import limits
from services.storage.domain.heat import Heat
from services.storage.domain.namespace import Deployment
from services.storage.measuring import Measures
from services.storage.mirrors import Mirrors, Opener
from services.storage.registry import Registry
from services.storage.requests import Reader
from services.storage.servicer import StorageServicer
from services.storage.store.heated import heated
from services.storage.store.interface import Store
from services.storage.tokens import Tokens
from wellspring.storage.v1 import storage_admin_pb2, storage_pb2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes in bytes, times as named. ``sweep_items``: looked at in one go, every ``sweep_interval_s``. ``backups``:
    where snapshots lie; None refuses them. ``mirrors``: how the targets of mirrors are opened, by name. ``shared``:
    other servers have the same store, so that what they did to namespaces is looked for with each sweep."""

    token_window_us: int
    max_value: int = limits.MAX_VALUE
    max_page: int = limits.MAX_READ_BYTES
    max_upload: int = limits.MAX_UPLOAD
    max_watches: int = 512
    sweep_interval_s: float = 1.0
    sweep_items: int = 1000
    shared: bool = False
    backups: Backups | None = None
    mirrors: Mapping[str, Opener] = dataclasses.field(default_factory=dict)


async def add_storage(
    server: Server, store: Store, tokens: Tokens, clock: Clock, deployment: Deployment, options: Options
) -> Registry:
    """Adds both services and the sweeper to ``server``; answers the registry of namespaces.

    Raises FailedPrecondition when the stored namespaces do not fit the deployment, StoreUnavailable when the folder for
    snapshots cannot be used.
    """

    def clock_us() -> int:
        return clock.time_ns() // 1000

    async def opened() -> Mirrors:
        return Mirrors(options.mirrors)

    heat = Heat(clock.monotonic, random.randrange)
    store = heated(store, heat)
    registry = Registry(store, deployment, clock_us, clock.monotonic)
    await registry.load()
    servicer = StorageServicer(
        store,
        registry,
        tokens,
        Reader(options.max_value, deployment.ttl_jitter),
        clock_us,
        token_window_us=options.token_window_us,
        max_page=options.max_page,
        max_upload=options.max_upload,
    )
    # A long scan or a big value may take its caller's whole time; a watch has no end.
    policies = {"Watch": Policy(endless=True, max_in_flight=options.max_watches)}
    server.add_service(storage_pb2.DESCRIPTOR.services_by_name["Storage"], servicer, policies)
    mirrors = await server.resources.add("mirrors", opened, close=Mirrors.close)
    admin, work = await administration(
        store, registry, tokens, clock, heat, options.backups, mirrors, shared=options.shared
    )
    server.add_service(storage_admin_pb2.DESCRIPTOR.services_by_name["StorageAdmin"], admin)
    for name, run in work.items():
        server.add_background(name, run)

    async def sweep() -> None:
        while True:
            more = await _sweep(store, registry, clock_us(), options)
            await clock.sleep(0 if more else options.sweep_interval_s)

    server.add_background("sweep", sweep)
    measures = Measures(registry, store)
    server.telemetry.registry.register(measures)
    server.add_background("measure", functools.partial(measures.run, clock))
    return registry


async def _sweep(store: Store, registry: Registry, now_us: int, options: Options) -> bool:
    """One turn. A store that cannot write now is left to its health check; the next turn comes anyway."""
    try:
        if options.shared:
            await registry.refresh()
        await registry.purge_due()
        more = await store.sweep(now_us, options.sweep_items)
    except (Unavailable, ResourceExhausted) as error:
        _log.warning("sweep put off", extra=fields(reason=error.reason))
        return False
    await asyncio.sleep(0)
    return more
