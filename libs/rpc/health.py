"""Health that tells the truth: a service is SERVING while the resources it depends on say that they can work.

The checks run every ``health_interval_s``, all at once, each with its own time limit; a caller of ``Check`` gets the
last answer and so cannot load the backends. Implements ``grpc.health.v1``.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping

from grpc_health.v1 import health_pb2

from libs.errors.errors import NotFound
from libs.rpc.call import Call
from libs.rpc.resources import HealthCheck
from libs.telemetry.logs import fields

log = logging.getLogger(__name__)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
WHOLE_SERVER = ""
"""The name under which ``grpc.health.v1`` asks for the server as a whole."""


class Health:
    """The health of a server's services; also the servicer of ``grpc.health.v1.Health``.

    ``checks`` is read anew in every round. A service that names no dependency depends on every check.
    """

    def __init__(self, checks: Mapping[str, HealthCheck], interval_s: float, timeout_s: float) -> None:
        self._checks = checks
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._depends: dict[str, frozenset[str] | None] = {}
        self._failing: frozenset[str] = frozenset()
        self._serving = False
        self._changed = asyncio.Event()

    def watch_over(self, service: str, depends_on: Collection[str] | None) -> None:
        """Adds a service, with the names of the resources it cannot work without (None: all there are)."""
        self._depends[service] = None if depends_on is None else frozenset(depends_on)

    def dependencies(self) -> list[tuple[str, str]]:
        """Every (service, resource) that some service named as a dependency."""
        return [(service, name) for service, names in self._depends.items() for name in sorted(names or ())]

    def set_serving(self, serving: bool) -> None:
        """Whether the server takes calls at all: false before it has started and from the moment it begins to stop."""
        if serving != self._serving:
            self._serving = serving
            self._announce()

    def is_serving(self, service: str = WHOLE_SERVER) -> bool:
        """Whether ``service`` (or, by default, every service) can work. KeyError for a service that is not here."""
        if not self._serving:
            return False
        if service == WHOLE_SERVER:
            return not self._failing
        depends = self._depends[service]
        return not (self._failing if depends is None else self._failing & depends)

    async def keep_checking(self) -> None:
        """Checks for ever, a round every interval."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.check_now()

    async def check_now(self) -> None:
        """One round of all checks."""
        checks = dict(self._checks)
        results = await asyncio.gather(*(self._passes(name, check) for name, check in checks.items()))
        failing = frozenset(name for name, passed in zip(checks, results, strict=True) if not passed)
        if failing != self._failing:
            self._failing = failing
            self._announce()

    async def _passes(self, name: str, check: HealthCheck) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                await check()
        except Exception as error:
            if name not in self._failing:
                log.warning("a dependency stopped working", extra=fields(resource=name), exc_info=error)
            return False
        if name in self._failing:
            log.info("a dependency works again", extra=fields(resource=name))
        return True

    def _announce(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _status(self, service: str) -> "health_pb2.HealthCheckResponse.ServingStatus":
        if service != WHOLE_SERVER and service not in self._depends:
            return _SERVICE_UNKNOWN
        return _SERVING if self.is_serving(service) else _NOT_SERVING

    async def Check(self, request: health_pb2.HealthCheckRequest, call: Call) -> health_pb2.HealthCheckResponse:
        """The last known health of a service."""
        status = self._status(request.service)
        if status == _SERVICE_UNKNOWN:
            raise NotFound("no service of that name is served here", reason="SERVICE_NOT_FOUND")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, call: Call
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The health of a service now and whenever it changes."""
        last = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != last:
                last = status
                yield health_pb2.HealthCheckResponse(status=status)
            await changed.wait()

    async def List(self, request: health_pb2.HealthListRequest, call: Call) -> health_pb2.HealthListResponse:
        """The health of the server and of every service."""
        names = [WHOLE_SERVER, *self._depends]
        statuses = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in names}
        return health_pb2.HealthListResponse(statuses=statuses)
