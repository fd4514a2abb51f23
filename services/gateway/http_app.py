"""The readers' HTTP side: pages out of the cache or storage, purges in.

    GET, HEAD /<path>           the page, with ETag, X-Wellspring-Version and Surrogate-Key
    PURGE /<path>               forgets the page; X-Min-Version: <32 hex digits> keeps what is at least so new,
                                and nothing older is served from then on
    PURGE with Xkey: a b        forgets every page that carries one of these surrogate keys (and, with X-Min-Version,
                                is older)
    GET /healthz, /metrics      for operators; a page cannot have these paths

Purges are taken from the networks that the configuration names (default: loopback).
"""

import asyncio
import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from libs.ids.ids import VERSION_BYTES
from libs.purge.naming import MINIMUM_HEADER, PURGE_TAGS_HEADER, VERSION_HEADER
from services.gateway.domain.cache import Page, PageCache
from services.gateway.domain.reads import ReadCounts
from services.gateway.domain.routes import BadPath, Route, Target, resolve
from services.gateway.metrics import CacheCollector
from services.gateway.origin import Origin, OriginUnavailable

TAGS_HEADER = "Surrogate-Key"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """`browser_max_age_s` is how long a reader's own browser may keep a page without asking; shared caches in front
    keep it until they are purged, at most `shared_max_age_s`."""

    routes: tuple[Route, ...]
    purgers: tuple[Network, ...] = (
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
    )
    browser_max_age_s: int = 0
    shared_max_age_s: int = 86_400


@dataclass(eq=False)
class Gateway:
    """One process's readers' side. `app()` gives the aiohttp application that serves it; `reads` counts what readers
    ask for, if somebody is to be told."""

    origin: Origin
    cache: PageCache
    options: HttpOptions
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    reads: ReadCounts | None = None
    _loading: dict[str, asyncio.Task[Page | None]] = field(default_factory=dict)

    def app(self) -> web.Application:
        """The application; its handlers run on the loop that runs it."""
        self.registry.register(CacheCollector(self.cache))
        # A page's body is never read from a request: whatever comes as one is refused early.
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_get("/healthz", self._healthz, allow_head=True)
        app.router.add_get("/metrics", self._metrics, allow_head=True)
        # Any character: a line break in a path is a bad path like others, and no route would take it.
        app.router.add_route("*", "/{path:(?s:.*)}", self._any)
        return app

    async def _any(self, request: web.Request) -> web.StreamResponse:
        if request.method in ("GET", "HEAD"):
            return await self._page(request)
        if request.method == "PURGE":
            return self._purge(request)
        return _problem(
            405,
            f"{request.method} is not served here: GET, HEAD and PURGE are",
            Allow="GET, HEAD, PURGE",
        )

    async def _page(self, request: web.Request) -> web.Response:
        try:
            target = resolve(self.options.routes, request.rel_url.raw_path)
        except BadPath as error:
            return _problem(400, str(error))
        if target is None:
            return _problem(404, "no route of this gateway covers the path")
        page = self.cache.get(target.path, time.monotonic())
        state = "HIT" if page is not None else "MISS"
        if page is None:
            try:
                page = await self._load(target)
            except OriginUnavailable as error:
                self._count(target, fresh=False)
                return _problem(
                    503,
                    str(error),
                    **{"Retry-After": str(max(1, round(error.retry_after_s)))},
                )
        if page is None:
            return _problem(404, "there is no such page", **{"X-Cache": state})
        self._count(target, fresh=page.version >= self.cache.minimum(target.path))
        return self._answer(request, target, page, state)

    def _count(self, target: Target, *, fresh: bool) -> None:
        if self.reads is not None and target.view:
            self.reads.count(target.view, target.resource, fresh)

    def _answer(self, request: web.Request, target: Target, page: Page, state: str) -> web.Response:
        # A shared cache would keep another spelling of the path, or one with a query, where no purge finds it.
        shared_s = self.options.shared_max_age_s if request.raw_path == target.path else 0
        headers = {
            "ETag": f'"{page.etag}"',
            VERSION_HEADER: page.version.hex(),
            "Cache-Control": f"public, max-age={self.options.browser_max_age_s}, s-maxage={shared_s}, must-revalidate",
            "X-Cache": state,
        }
        if page.tags:
            headers[TAGS_HEADER] = headers[PURGE_TAGS_HEADER] = " ".join(page.tags)
        if _matches(request.headers.get("If-None-Match", ""), page.etag):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = page.content_type
        return web.Response(body=page.body, headers=headers)

    async def _load(self, target: Target) -> Page | None:
        """Reads the origin, once for all readers who wait for the same path."""
        task = self._loading.get(target.path)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(target))
            self._loading[target.path] = task
            task.add_done_callback(lambda done: self._forget_load(target.path, done))
        # A reader who goes away must not take the answer from the others.
        return await asyncio.shield(task)

    def _forget_load(self, path: str, done: asyncio.Task[Page | None]) -> None:
        if self._loading.get(path) is done:
            del self._loading[path]
        if not done.cancelled():
            # Taken here as well, so that a failure whose readers have all gone is no unhandled one.
            done.exception()

    async def _fetch(self, target: Target) -> Page | None:
        for strong in (True,) if self.cache.must_ask_strongly(time.monotonic()) else (False, True):
            fetch = self.cache.begin_fetch(target.path)
            page: Page | None = None
            try:
                page = await self.origin.fetch(target, strong=strong)
            finally:
                good = self.cache.end_fetch(fetch, page, time.monotonic())
            if good:
                return page
        raise OriginUnavailable("the page's newest version has not arrived here yet")

    def _purge(self, request: web.Request) -> web.Response:
        if not self._may_purge(request.remote):
            return _problem(403, "purges are not taken from this address")
        try:
            minimum = bytes.fromhex(request.headers.get(MINIMUM_HEADER, ""))
        except ValueError:
            return _problem(400, f"{MINIMUM_HEADER} is not hexadecimal; 32 hexadecimal digits are allowed")
        if minimum and len(minimum) != VERSION_BYTES:
            return _problem(
                400,
                f"{MINIMUM_HEADER} has {2 * len(minimum)} hexadecimal digits; 32 are allowed",
            )
        tags = request.headers.get(PURGE_TAGS_HEADER, "").split()
        if tags:
            return web.json_response({"purged": self.cache.purge_tags(tags, minimum)})
        try:
            target = resolve(self.options.routes, request.rel_url.raw_path)
        except BadPath as error:
            return _problem(400, str(error))
        if target is None:
            return _problem(404, "no route of this gateway covers the path")
        # A read that began before the purge may come back with what was there before it.
        self._loading.pop(target.path, None)
        return web.json_response({"purged": self.cache.purge(target.path, minimum, time.monotonic())})

    def _may_purge(self, remote: str | None) -> bool:
        try:
            address = ipaddress.ip_address(remote or "")
        except ValueError:
            return False
        return any(address in network for network in self.options.purgers if network.version == address.version)

    async def _healthz(self, _: web.Request) -> web.Response:
        healthy = await self.origin.healthy()
        return web.json_response(
            {"storage": "ok" if healthy else "unavailable"},
            status=200 if healthy else 503,
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self.registry),
            headers={"Content-Type": "text/plain; version=0.0.4"},
        )


def _matches(header: str, etag: str) -> bool:
    """RFC 9110, section 13.1.2: weak comparison against a list of entity tags, or "*"."""
    for part in (piece.strip() for piece in header.split(",")):
        if part == "*" or part.removeprefix("W/").strip('"') == etag:
            return bool(part)
    return False


def _problem(status: int, what: str, **headers: str) -> web.Response:
    """RFC 9457 problem details; errors are never kept by caches."""
    body = {"status": status, "title": what}
    return web.json_response(
        body,
        status=status,
        headers={"Cache-Control": "no-store", **headers},
        content_type="application/problem+json",
    )


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks in CIDR notation. Raises ValueError naming the one that is none."""
    return tuple(ipaddress.ip_network(text) for text in texts)
