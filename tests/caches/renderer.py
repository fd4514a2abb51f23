"""The renderer of the cache tests: a page shows its template; in which order pages were rendered is written down."""

import os
from pathlib import Path

from libs.render.types import CONTENT, RenderRequest, RenderResult, dependency_list

PREFIX = "w/"
TEMPLATE = "w/template/t"
LOG_VARIABLE = "RENDER_LOG"


async def render(request: RenderRequest) -> RenderResult:
    """Reads the template; appends the page's name to the file that the environment names."""
    template = (await request.fetch([TEMPLATE]))[TEMPLATE]
    text = template.value.decode() if template is not None else "-"
    _note(request.resource)
    return RenderResult(
        f"{request.resource} {text}".encode(), "text/plain", dependency_list([(TEMPLATE, CONTENT)]), ["all"]
    )


def _note(resource: str) -> None:
    with Path(os.environ[LOG_VARIABLE]).open("a", encoding="utf-8") as log:
        log.write(f"{resource}\n")
