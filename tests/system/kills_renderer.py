"""The renderer of the kill tests: a page shows its own revision and those of the templates that it names.

A page's text is its revision, then its templates, one a line; a template's text is its revision.
"""

import asyncio

from libs.render.types import CONTENT, RenderRequest, RenderResult, dependency_list

PREFIX = "wiki/"
WORK_S = 0.01
"""A render takes a while, so that a kill finds some under way."""


def body(name: str, revision: str, templates: dict[str, str]) -> bytes:
    """What a page shows."""
    lines = [f"{name} {revision}", *(f"{template} {told}" for template, told in sorted(templates.items()))]
    return "\n".join(lines).encode()


async def render(request: RenderRequest) -> RenderResult:
    """Reads the page and its templates."""
    page = (await request.fetch([request.resource]))[request.resource]
    if page is None:
        return RenderResult(b"", "text/plain", missing=True)
    revision, *names = page.value.decode().split("\n")
    resources = [PREFIX + name for name in names]
    found = await request.fetch(resources)
    await asyncio.sleep(WORK_S)
    told = {
        name: document.value.decode() if (document := found[resource]) is not None else "-"
        for name, resource in zip(names, resources, strict=True)
    }
    return RenderResult(
        body=body(request.resource[len(PREFIX) :], revision, told),
        content_type="text/plain",
        dependencies=dependency_list([(resource, CONTENT) for resource in resources]),
    )
