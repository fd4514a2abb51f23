"""The front's requests: who calls, which path, which verb, and the opaque realm's answer over HTTP.

    GET <base><key>                200 and the value as application/octet-stream; 404
    POST, PUT <base><key>          201; 409 for a key that was deleted
    DELETE <base><key>             204, whether something was there or not
    GET /healthz                   200 or 503, to whoever can connect
    GET /metrics, /openapi         to known callers

What was asked of is neither logged nor repeated: a log line has verb, status, time and caller.
"""

import json
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from libs.errors.errors import ResourceExhausted, Unavailable, WellspringError
from libs.telemetry.logs import fields
from services.session.domain.errors import CallerQuota, GuessLimit, KeyDeleted, RealmFull, RealmNotFound, ValueNotFound
from services.session.domain.guesses import Guesses
from services.session.domain.opaque import DELETE, GET, POST, OpaqueValues
from services.session.domain.quotas import Quotas
from services.session.domain.realms import Realm
from services.session.kask import bodies, keys, openapi
from services.session.kask.callers import Callers
from services.session.kask.health import Health
from services.session.kask.problems import HEADERS, Problem, answer

log = logging.getLogger(__name__)

Verb = Callable[[web.BaseRequest, Realm, str, bytes], Awaitable[web.Response]]
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_RETRY: Final = {"Retry-After": "1"}


@dataclass(frozen=True, slots=True)
class FrontOptions:
    """`base_path` begins and ends with a slash; `log_all`: a line for each request, not for what went wrong alone."""

    realm: str
    base_path: str = "/sessions/v1/"
    transfer_s: float = 10.0
    max_in_flight: int = 512
    log_all: bool = False


class Front:
    """Answers requests; an HttpServer's handler. Counts them under Kask's own names, so that its dashboards go on."""

    def __init__(
        self,
        values: OpaqueValues,
        callers: Callers,
        health: Health,
        guesses: Guesses,
        quotas: Quotas,
        options: FrontOptions,
        registry: CollectorRegistry,
    ) -> None:
        self._values = values
        self._callers = callers
        self._health = health
        self._guesses = guesses
        self._quotas = quotas
        self._options = options
        self._registry = registry
        self._in_flight = 0
        self._document = json.dumps(openapi.document(options.base_path)).encode()
        self._verbs: dict[str, tuple[str, Verb]] = {
            "GET": (GET, self._get),
            "POST": (POST, self._put),
            "PUT": (POST, self._put),
            "DELETE": (DELETE, self._delete),
        }
        self._pages: dict[str, Callable[[], Awaitable[web.Response]]] = {
            "/healthz": self._healthz,
            "/metrics": self._metrics,
            "/openapi": self._openapi,
        }
        self._requests = Counter(
            "http_requests", "HTTP requests answered, by status and method", ["code", "method"], registry=registry
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Seconds that HTTP requests took, by status and method",
            ["code", "method"],
            registry=registry,
            buckets=_BUCKETS,
        )

    @property
    def routes(self) -> dict[str, set[str]]:
        """Every path, with its methods."""
        pages = {path: {"GET"} for path in self._pages}
        return {f"{self._options.base_path}{{key}}": set(self._verbs), **pages}

    def refused(self, status: int) -> None:
        """Counts an answer to what was no request."""
        self._requests.labels(str(status), "none").inc()

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        began, caller, instance = time.monotonic(), [""], ""
        try:
            if self._in_flight >= self._options.max_in_flight:
                raise Problem(503, "Too many requests at once", headers=_RETRY, close=True)
            self._in_flight += 1
            try:
                response = await self._answer(request, caller)
            finally:
                self._in_flight -= 1
        except Problem as problem:
            response, instance = answer(problem)
        except WellspringError as error:
            response, instance = answer(_problem_of(error))
        except Exception as error:
            log.error("nobody expected this error", extra=fields(error=type(error).__name__))
            response, instance = answer(Problem(500, close=True))
        self._tell(request.method, response.status, time.monotonic() - began, caller[0], instance)
        return response

    async def _answer(self, request: web.BaseRequest, caller: list[str]) -> web.Response:
        path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
        page = self._pages.get(path)
        if page is not None and path == "/healthz":
            _check_method(request.method, ["GET"])
            return await page()
        caller[0] = identity = self._identify(request)
        if page is not None:
            self._callers.check(identity)
            _check_method(request.method, ["GET"])
            return await page()
        if not path.startswith(self._options.base_path):
            self._callers.check(identity)
            raise Problem(404)
        verb = self._verbs.get(request.method)
        self._callers.check(identity, verb[0] if verb is not None else "")
        if verb is None:
            _check_method(request.method, list(self._verbs))
            raise Problem(405)
        key = keys.parse(path.removeprefix(self._options.base_path))
        if query:
            raise Problem(400, "A query means nothing here")
        self._quotas.called(identity)
        realm = self._values.enter(self._options.realm, identity, verb[0])
        return await verb[1](request, realm, identity, key)

    async def _get(self, request: web.BaseRequest, realm: Realm, caller: str, key: bytes) -> web.Response:
        value = await self._values.get(realm, key)
        return web.Response(body=value, content_type="application/octet-stream", headers=HEADERS)

    async def _put(self, request: web.BaseRequest, realm: Realm, caller: str, key: bytes) -> web.Response:
        value = await bodies.read(request, realm.policy.max_data_bytes - len(key), self._options.transfer_s)
        # The body may have taken its time: the realm as it is now.
        await self._values.put(self._values.enter(realm.name, caller, POST), caller, key, value)
        return web.Response(status=201, content_type="application/octet-stream", headers=HEADERS)

    async def _delete(self, request: web.BaseRequest, realm: Realm, caller: str, key: bytes) -> web.Response:
        await self._values.delete(realm, caller, key)
        return web.Response(status=204, headers=HEADERS)

    async def _healthz(self) -> web.Response:
        states = await self._health.report()
        status = 200 if set(states.values()) == {"ok"} else 503
        return web.json_response(states, status=status, headers=HEADERS)

    async def _metrics(self) -> web.Response:
        headers = {**HEADERS, "Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        return web.Response(body=generate_latest(self._registry), headers=headers)

    async def _openapi(self) -> web.Response:
        return web.Response(body=self._document, content_type="application/json", headers=HEADERS)

    def _identify(self, request: web.BaseRequest) -> str:
        """The caller. Who shows what is not known is counted by address, and told to stop when it goes on."""
        try:
            return self._callers.identify(request)
        except Problem:
            self._guesses.failed("kask", request.remote or "")
            raise

    def _tell(self, method: str, status: int, seconds: float, caller: str, instance: str) -> None:
        known = method if method in self._verbs else "other"
        self._requests.labels(str(status), known).inc()
        self._seconds.labels(str(status), known).observe(seconds)
        level = logging.WARNING if status >= 500 else logging.INFO if self._options.log_all else logging.DEBUG
        if log.isEnabledFor(level):
            facts = fields(method=known, status=status, ms=round(seconds * 1000, 1), caller=caller, instance=instance)
            log.log(level, "kask request", extra=facts)


def _check_method(method: str, allowed: list[str]) -> None:
    if method not in allowed:
        text = ", ".join(allowed)
        raise Problem(405, f"The path has the methods {text}", headers={"Allow": text}, close=True)


def _problem_of(error: WellspringError) -> Problem:
    """What the domain's errors are over HTTP: none of their words is about the request."""
    if isinstance(error, ValueNotFound):
        return Problem(404)
    if isinstance(error, KeyDeleted):
        return Problem(409, "The key was deleted; a new session needs a new key")
    if isinstance(error, RealmNotFound):
        return Problem(403)
    if isinstance(error, (GuessLimit, CallerQuota)):
        wait = {"Retry-After": str(max(1, math.ceil(error.retry_after_s or 1)))}
        unknown = isinstance(error, GuessLimit)
        what = (
            "Too many requests that nobody vouches for" if unknown else "The caller has used its share of this second"
        )
        return Problem(429, what, headers=wait, close=unknown)
    if isinstance(error, RealmFull):
        return Problem(507, "The realm keeps as much as it may; a value that is there may be written anew or deleted")
    if isinstance(error, (Unavailable, ResourceExhausted)):
        return Problem(503, "Nothing was done here and now; the same request may be sent again", headers=_RETRY)
    return Problem(500)
