"""The renderer of the giant root: a page shows its own revision and that of the one template that all pages use.

A page that nobody has edited is not stored: its revision is 0.
"""

from libs.render.types import CONTENT, RenderRequest, RenderResult

PREFIX = "giant/"
PAGES = PREFIX + "page/"
TEMPLATE = PREFIX + "template"


def body(page: int, template: int) -> bytes:
    """What a page shows at these revisions."""
    return b"page %d template %d" % (page, template)


def shown(served: bytes) -> tuple[int, int]:
    """The revisions of a page and of the template that it shows."""
    _, page, _, template = served.split(b" ")
    return int(page), int(template)


async def render(request: RenderRequest) -> RenderResult:
    """Reads both at once."""
    found = await request.fetch([request.resource, TEMPLATE])
    page, template = (int(one.value) if one is not None else 0 for one in found.values())
    return RenderResult(body(page, template), "text/plain", dependencies=[(TEMPLATE, CONTENT)])
