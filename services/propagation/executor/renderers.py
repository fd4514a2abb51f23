"""The ways to render: a Python function of the deployment's, or an HTTP request."""

import importlib
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import quote, unquote

import aiohttp

from libs.render.types import RenderRequest, RenderResult
from wellspring.propagation.v1 import work_pb2

DEPENDENCIES_HEADER = "Wellspring-Dependencies"
TAGS_HEADER = "Surrogate-Key"
DEFAULT_MAX_OUTPUT_BYTES = 8 << 20


class RenderFailed(Exception):
    """The renderer did not give a page. `retryable` unless trying again cannot help."""

    def __init__(self, reason: str, detail: str, *, retryable: bool = True) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.retryable = retryable


class RendererUnusable(Exception):
    """A view asks for a renderer that this executor does not have."""


class Renderer(Protocol):
    """Makes a view's output of a resource. Raises RenderFailed."""

    async def render(self, request: RenderRequest) -> RenderResult: ...

    async def close(self) -> None: ...


class EntryPointRenderer:
    """Calls `module:function`, an async function from RenderRequest to RenderResult."""

    def __init__(self, function: str) -> None:
        module_name, _, name = function.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise RendererUnusable(
                f"the renderer {function!r} cannot be loaded: {error}; it is given as package.module:function, "
                "on the executor's Python path"
            ) from error
        self._function: Callable[[RenderRequest], Awaitable[RenderResult]] = found

    async def render(self, request: RenderRequest) -> RenderResult:
        """What the function gives."""
        return await self._function(request)

    async def close(self) -> None:
        """Nothing is held."""


class HttpRenderer:
    """Asks a URL. The answer's Wellspring-Dependencies header lists inputs, percent-encoded, separated by blanks, each
    with ";aspect" where it is not the content; Surrogate-Key lists tags; 404 and 410 mean that the page is gone."""

    def __init__(self, spec: work_pb2.Render.Http, max_output_bytes: int) -> None:
        self._spec = spec
        self._max_bytes = max_output_bytes
        self._session: aiohttp.ClientSession | None = None

    async def render(self, request: RenderRequest) -> RenderResult:
        """One request; the time limit is the caller's."""
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=True)
        url = self._spec.url.format(
            resource=quote(request.resource, safe=""),
            view=quote(request.view, safe=""),
            title=quote(request.resource.rsplit("/", 1)[-1], safe=""),
        )
        try:
            async with self._session.request(
                self._spec.method or "GET", url, headers=dict(self._spec.headers), allow_redirects=False
            ) as answer:
                return await self._result(answer)
        except aiohttp.ClientError as error:
            raise RenderFailed("RENDERER_UNREACHABLE", f"{type(error).__name__} from {url}") from None

    async def _result(self, answer: aiohttp.ClientResponse) -> RenderResult:
        gone = answer.status in (404, 410)
        if answer.status != 200 and not gone:
            retryable = answer.status >= 500 or answer.status == 429
            raise RenderFailed(f"RENDERER_HTTP_{answer.status}", f"{answer.url}", retryable=retryable)
        body = bytearray()
        async for chunk in answer.content.iter_chunked(1 << 16):
            body += chunk
            if len(body) > self._max_bytes:
                raise RenderFailed("OUTPUT_TOO_LARGE", f"more than {self._max_bytes} bytes", retryable=False)
        dependencies = []
        for entry in answer.headers.get(DEPENDENCIES_HEADER, "").split():
            resource, _, aspect = entry.partition(";")
            dependencies.append((unquote(resource), aspect or "content"))
        return RenderResult(
            body=b"" if gone else bytes(body),
            content_type=answer.headers.get("Content-Type", "application/octet-stream"),
            dependencies=dependencies,
            surrogate_keys=answer.headers.get(TAGS_HEADER, "").split(),
            missing=gone,
        )

    async def close(self) -> None:
        """Ends the connections."""
        if self._session is not None:
            await self._session.close()


def make_renderer(spec: work_pb2.Render) -> Renderer:
    """The renderer that a view asks for. Raises RendererUnusable."""
    kind = spec.WhichOneof("kind")
    if kind == "entry_point":
        return EntryPointRenderer(spec.entry_point.function)
    if kind == "http":
        return HttpRenderer(spec.http, spec.max_output_bytes or DEFAULT_MAX_OUTPUT_BYTES)
    raise RendererUnusable(
        f"this executor cannot render by {kind or 'nothing'}: entry_point and http are what it knows"
    )
