"""The renderer of a view over another one's outputs: what all of its pages show, in one."""

from libs.render.types import CONTENT, RenderRequest, RenderResult, dependency_list

PAGES = [f"wiki/page/{number:02}" for number in range(12)]


async def digest(request: RenderRequest) -> RenderResult:
    """Reads the stored pages; depends on them as outputs of the view that stores them."""
    found = await request.fetch(PAGES)
    told = [document.value for page in PAGES if (document := found[page]) is not None]
    return RenderResult(
        body=b"\n".join(told) or b"nothing",
        content_type="text/plain",
        dependencies=dependency_list([(f"view/page/{page}", CONTENT) for page in PAGES]),
    )
