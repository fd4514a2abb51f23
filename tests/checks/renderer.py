"""The renderer of the checks: a page shows its text and that of the one input that it names; some never come out."""

from libs.render.types import CONTENT, RenderError, RenderRequest, RenderResult, dependency_list

PREFIX = "checks/"


async def render(request: RenderRequest) -> RenderResult:
    """A page's text is "text input". Raises RenderError for pages named broken (for good) and slow (for now)."""
    if "/broken" in request.resource:
        raise RenderError("BROKEN_PAGE")
    if "/slow" in request.resource:
        raise RenderError("SLOW_PAGE", retryable=True)
    page = (await request.fetch([request.resource]))[request.resource]
    if page is None:
        return RenderResult(b"", "text/plain", missing=True)
    text, _, name = page.value.decode().partition(" ")
    told = (await request.fetch([name]))[name]
    return RenderResult(
        body=f"{text} {told.value.decode() if told is not None else '-'}".encode(),
        content_type="text/plain",
        dependencies=dependency_list([(name, CONTENT)]),
    )
