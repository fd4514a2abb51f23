"""One server in one process: services behind the pipeline, resources, background work, health, and an orderly end.

    server = Server(ServerOptions(service="storage"), telemetry=telemetry)
    store = await server.resources.add("store", open_store, close=Store.close, health=Store.check)
    server.add_service(storage_pb2.DESCRIPTOR.services_by_name["Storage"], Servicer(store))
    async with server:
        await server.stopping.wait()

A service's main does not do this itself but hands a ``build`` function to ``libs.rpc.run.run``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import TracebackType
from typing import Any, Self

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2

from libs.auth.options import AuthOptions
from libs.auth.rules import AllowList, RuleError
from libs.rpc.diagnostics import CHANNELZ, REFLECTION, ChannelzServicer, reflection_servicer
from libs.rpc.engine import Engine, make_engine
from libs.rpc.gate import Draining, Gate, Shared, Slots
from libs.rpc.health import Health
from libs.rpc.listen import Address, parse_address, try_address
from libs.rpc.options import ServerOptions, StartError
from libs.rpc.pipeline import end_endless
from libs.rpc.policy import Policy
from libs.rpc.resources import Resources
from libs.rpc.service import Service
from libs.rpc.tls import server_credentials
from libs.telemetry.logs import fields
from libs.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

_OWN_PLACES = 256
"""Calls at once to health, reflection and channelz together, of each kind."""

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]


class Server:
    """A server as ``options`` and ``auth`` say. Raises StartError for what they cannot mean.

    ``resources`` and ``add_service`` are used before it starts; ``stopping`` is set when it shall end, by a signal or
    by background work that failed (then ``failed`` is true). ``share_ports`` lets worker processes listen side by side.
    """

    def __init__(
        self,
        options: ServerOptions,
        telemetry: Telemetry,
        *,
        auth: AuthOptions | None = None,
        share_ports: bool = False,
    ) -> None:
        options.check()
        self.options = options
        self.telemetry = telemetry
        self.stopping = asyncio.Event()
        self.failed = False
        # What the ready line tells beside the server's own addresses.
        self.ready_facts: dict[str, Any] = {}
        self.resources = Resources()
        self.health = Health(self.resources.checks, options.health_interval_s, options.health_timeout_s)
        self._addresses = [parse_address(text) for text in options.listen]
        self._share_ports = share_ports
        allow_list = check_access(options, auth or AuthOptions(), self._addresses)
        mutual = options.tls is not None and options.tls.client_ca_file is not None
        slots = Slots(options.max_in_flight), Slots(options.max_open_streams)
        self._shared = Shared(options, allow_list, mutual, telemetry, *slots, Draining())
        self._services: dict[str, Service] = {}
        self._background: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._owner: asyncio.TaskGroup | None = None
        self._engine: Engine | None = None

    @property
    def addresses(self) -> list[str]:
        """Where the server listens, with the ports chosen, as ``options.listen`` is written."""
        return [str(address) for address in self._addresses]

    @property
    def gates(self) -> list[Gate]:
        """The gates of all methods."""
        return [gate for service in self._services.values() for gate in service.gates]

    def add_service(
        self,
        descriptor: ServiceDescriptor,
        servicer: object,
        policies: Mapping[str, Policy] | None = None,
        *,
        depends_on: Collection[str] | None = None,
    ) -> None:
        """Serves ``servicer`` as the service of ``descriptor``, every method behind the pipeline.

        ``policies`` by method name; ``depends_on`` names the resources without which the service is NOT_SERVING (None:
        all that have a health check). Methods that the servicer lacks answer UNIMPLEMENTED.
        """
        name = descriptor.full_name
        if name in self._services:
            raise StartError(f"two servicers are registered for {name}")
        self._services[name] = Service(descriptor, servicer, policies or {}, self._shared)
        self.health.watch_over(name, depends_on)

    def add_background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs ``work()`` beside the calls, from start until the calls have ended; then it is cancelled.

        Work that raises ends the server: half a service is worse than one that is started again.
        """
        self._background.append((name, work))

    async def start(self) -> None:
        """Listens and takes calls. Raises StartError when it cannot listen."""
        self._engine = make_engine(self.options, self._addresses, self._shared, share_ports=self._share_ports)
        self._listen(self._engine)
        self._add_own_services()
        for service in self._services.values():
            self._engine.add_service(service.name, service.handlers, apart=service.name == HEALTH.full_name)
        unknown = {
            f"{name} of {service}" for service, name in self.health.dependencies() if name not in self.resources.names
        }
        if unknown:
            raise StartError(f"services depend on resources that are not registered: {', '.join(sorted(unknown))}")
        await self.health.check_now()
        await self._engine.start()
        self._owner = await asyncio.TaskGroup().__aenter__()
        for name, work in [*self._background, ("health", self.health.keep_checking)]:
            self._tasks.append(self._owner.create_task(self._guard(name, work), name=name))
        self.health.set_serving(True)
        log.info("serving", extra=fields(listen=self.addresses, engine=self.options.engine))

    async def stop(self, *, wait_s: float | None = None, grace_s: float | None = None) -> None:
        """NOT_SERVING, a short wait, the calls under way, the background work, the resources: in this order.

        ``wait_s`` and ``grace_s`` replace ``drain_wait_s`` and ``drain_grace_s``. A server that never started only
        closes its resources.
        """
        self.stopping.set()
        self.health.set_serving(False)
        engine, self._engine = self._engine, None
        if engine is not None and self._owner is not None:
            log.info("draining")
            await asyncio.sleep(self.options.drain_wait_s if wait_s is None else wait_s)
            async with asyncio.TaskGroup() as ending:
                ending.create_task(engine.stop(self.options.drain_grace_s if grace_s is None else grace_s))
                for gate in self.gates:
                    end_endless(gate)
            for task in self._tasks:
                task.cancel()
            owner, self._owner = self._owner, None
            await owner.__aexit__(None, None, None)
        elif engine is not None:
            await engine.stop(0)
        await self.resources.close()
        log.info("stopped")

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    def _listen(self, engine: Engine) -> None:
        credentials = None if self.options.tls is None else server_credentials(self.options.tls)
        bound = []
        for address in self._addresses:
            if not self._share_ports:
                try_address(address)
            port = engine.listen(address, credentials)
            bound.append(Address(address.host, port, address.path))
        self._addresses = bound

    def _add_own_services(self) -> None:
        # With places of their own: a server that is merely busy must not look dead to whoever asks for its health.
        shared = self._shared._replace(unary=Slots(_OWN_PLACES), streams=Slots(_OWN_PLACES))
        own = {HEALTH.full_name: Service(HEALTH, self.health, {"Watch": Policy(endless=True)}, shared)}
        if self.options.reflection:
            names = [*self._services, HEALTH.full_name]
            own[REFLECTION.full_name] = Service(REFLECTION, reflection_servicer(names), {}, shared)
        if self.options.channelz and all(address.loopback for address in self._addresses):
            own[CHANNELZ.full_name] = Service(CHANNELZ, ChannelzServicer(), {}, shared)
        self._services |= own

    async def _guard(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            log.critical("background work failed; the server ends", extra=fields(work=name), exc_info=error)
            self.failed = True
            self.stopping.set()


def check_access(options: ServerOptions, auth: AuthOptions, addresses: list[Address]) -> AllowList:
    """The allow-list of ``auth``; StartError when the listeners would let in callers that nobody has named.

    A listener that other machines can reach needs TLS, a client CA and rules; without them a server listens on
    loopback.
    """
    try:
        allow_list = AllowList(auth)
    except RuleError as error:
        raise StartError(str(error)) from None
    for address in addresses:
        if address.loopback:
            continue
        lacks = [
            name
            for name, missing in (
                ("server.tls", options.tls is None),
                ("server.tls.client_ca_file", options.tls is not None and options.tls.client_ca_file is None),
                ("auth.rules", not allow_list.configured),
            )
            if missing
        ]
        if lacks:
            raise StartError(
                f"server.listen: {address} is open to other machines, which needs {' and '.join(lacks)};"
                " without them listen on 127.0.0.1"
            )
    return allow_list
