"""For tests: a wiki held in a dict, its pages rendered without any service."""

import asyncio
import re
from collections.abc import Mapping

from examples.wiki import renderer, titles
from libs.render.types import Document, RenderRequest, RenderResult


def name(title: str) -> str:
    """The resource of a page."""
    return titles.resource(titles.parse(title), "enwiki")


class Site:
    """Pages by title; `asked` lists every name that was fetched."""

    def __init__(self, pages: Mapping[str, str | bytes]) -> None:
        self.documents: dict[str, Document] = {}
        self.asked: list[str] = []
        for title, text in pages.items():
            self.put(title, text)

    def put(self, title: str, text: str | bytes, version: int = 1) -> None:
        value = text if isinstance(text, bytes) else text.encode()
        self.documents[name(title)] = Document(value, version.to_bytes(16, "big"), "text/x-wiki")

    async def fetch(self, names: list[str]) -> dict[str, Document | None]:
        self.asked += names
        return {one: self.documents.get(one) for one in names}

    def render(self, title: str) -> RenderResult:
        return asyncio.run(renderer.render(RenderRequest(name(title), "html", self.fetch)))


def render(text: str | bytes, **templates: str | bytes) -> RenderResult:
    """The result of rendering a page `Page` with these templates (their names with underscores)."""
    pages = {f"Template:{key}": value for key, value in templates.items()}
    return Site({"Page": text} | pages).render("Page")


def body(text: str | bytes, **templates: str | bytes) -> str:
    """The HTML inside the article, without its heading and without the marks of expanded calls."""
    html = render(text, **templates).body.decode()
    inner = html.partition("</h1>\n")[2].rpartition("\n</article>")[0]
    inner = re.sub(r'\n<div class="templates-unseen">.*?</div>', "", inner)
    return re.sub(r'<span class="template"[^>]*></span>', "", inner).strip()
