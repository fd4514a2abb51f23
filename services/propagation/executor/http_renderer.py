"""Rendering by HTTP: one request for each page, all of a slice under way together."""

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

from services.propagation.executor.pages import (
    DEFAULT_MAX_OUTPUT_BYTES,
    DEFAULT_RENDER_TIMEOUT_S,
    Dependencies,
    Item,
    Outcome,
    Page,
    RenderFailed,
)
from services.propagation.executor.renderers import Slice
from services.propagation.executor.templates import request_encoders
from services.propagation.executor.url_requests import UrlTemplate, exchange_all, problem_of
from services.propagation.targets.exchange import Exchange
from services.propagation.targets.target import Target
from services.propagation.targets.targets import Targets
from wellspring.propagation.v1 import work_pb2

DEPENDENCIES_HEADER = b"wellspring-dependencies"
TAGS_HEADER = b"surrogate-key"
_GONE = (404, 410)
_UNBOUNDED = 1 << 30


class HttpRenderer:
    """Asks a URL. The answer's Wellspring-Dependencies header lists inputs, percent-encoded, separated by blanks, each
    with ";aspect" where it is not the content; without the header the page keeps the dependencies that it has.
    Surrogate-Key lists tags; 404 and 410 mean that the page is gone.

    Raises TargetInvalid or RequestInvalid for a view that cannot be served.
    """

    def __init__(self, view: work_pb2.View, targets: Targets) -> None:
        spec = view.render.http
        self._template = UrlTemplate(
            targets, spec.method or "GET", spec.url, spec.headers.items(), request_encoders(view.name)
        )
        self._lane = self._template.target.lane(view.max_concurrency or _UNBOUNDED, yields=True)
        self._timeout_s = view.render.timeout.ToNanoseconds() / 1e9 or DEFAULT_RENDER_TIMEOUT_S
        self._max_bytes = view.render.max_output_bytes or DEFAULT_MAX_OUTPUT_BYTES

    @property
    def target(self) -> Target:
        """Whom it asks."""
        return self._template.target

    async def render(self, items: Sequence[Item], given: Slice) -> list[Outcome]:
        """One request each; GET and PUT may be sent twice."""
        exchanges = await exchange_all(
            self._lane,
            self._template.requests([item.resource for item in items]),
            timeout_s=self._timeout_s,
            max_body_bytes=self._max_bytes,
            idempotent=self._template.idempotent,
            first=given.first,
        )
        given.seconds += sum([exchange.took_s for exchange in exchanges])
        return [_outcome(exchange) for exchange in exchanges]

    async def close(self) -> None:
        """Gives the lane back; the connections are the target's."""
        self._lane.close()


def _outcome(exchange: Exchange) -> Outcome:
    status = exchange.status
    if status != 200 or exchange.error is not None:
        return _no_page(exchange)
    content_type, tags = b"application/octet-stream", b""
    dependencies: bytes | None = None
    for name, value in exchange.headers:
        if name == b"content-type":
            content_type = value
        elif name == DEPENDENCIES_HEADER:
            dependencies = value if dependencies is None else dependencies + b" " + value
        elif name == TAGS_HEADER:
            tags = tags + b" " + value
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            return RenderFailed("RENDERER_GARBAGE", "a compressed answer, which was not asked for", retryable=False)
    try:
        return Page(
            exchange.body,
            content_type.decode("ascii"),
            None if dependencies is None else _parsed(dependencies),
            _split(tags) if tags else (),
        )
    except UnicodeDecodeError:
        detail = "a header with bytes that are not ASCII; percent-encode them"
        return RenderFailed("RENDERER_GARBAGE", detail, retryable=False)


def _no_page(exchange: Exchange) -> Outcome:
    status = exchange.status
    if status in _GONE:
        return Page(b"", "text/plain", _dependencies_of(exchange), (), missing=True)
    problem = problem_of(exchange, "RENDERER")
    if problem is not None:
        return problem
    return RenderFailed(f"RENDERER_HTTP_{status}", "a page comes with 200, 404 or 410", retryable=False)


def _dependencies_of(exchange: Exchange) -> Dependencies | None:
    given = exchange.header(DEPENDENCIES_HEADER)
    try:
        return None if given is None else _parsed(given)
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=256)
def _parsed(header: bytes) -> Dependencies:
    """Pages of one change often have the very same header."""
    found = []
    for entry in header.decode("ascii").split():
        resource, _, aspect = entry.partition(";")
        found.append((unquote(resource, errors="strict"), aspect or "content"))
    return tuple(found)


@lru_cache(maxsize=256)
def _split(header: bytes) -> tuple[str, ...]:
    return tuple(header.decode("ascii").split())
