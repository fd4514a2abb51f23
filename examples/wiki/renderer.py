"""The example renderer's entry point: a page of wikitext in, a page of HTML and all that it was made from out.

It reads what it needs in rounds: the page, the templates that the page calls, the templates that those call, …, and at
last which link targets exist. What it read becomes its dependencies:

- a transcluded page by `content` and by `existence`, whether it is there or not (a missing template shows as a visible
  placeholder, and its creation changes the page);
- the target of a link, a category or a file by `existence` alone: an edit of the target does not touch this page.

The HTML holds no version and no time, only what the texts say: a template saved again without effect gives the same
bytes. Each expanded call leaves `data-template` and `data-digest` (a hash of what the template transcludes) behind.
"""

from __future__ import annotations

from dataclasses import dataclass

from examples.wiki import titles
from examples.wiki.expand import REDIRECT, Expander, Sources
from examples.wiki.markers import Markers, clean, escape
from examples.wiki.markup import Markup
from libs.render.types import (
    CONTENT,
    EXISTENCE,
    Document,
    Fetch,
    RenderError,
    RenderRequest,
    RenderResult,
    dependency_list,
    surrogate_key,
)

CONTENT_TYPE = "text/html; charset=utf-8"

MAX_PAGE_BYTES = 2 * 1024 * 1024
"""Wikitext of one page; MediaWiki's own limit (wgMaxArticleSize)."""

MAX_ROUNDS = 50
"""Rounds of reading templates: each finds what the last one's templates call; MediaWiki stops at 40 levels."""

LINKS_A_FETCH = 100
"""Link targets asked for at once; only whether they exist is kept, so that their texts never pile up."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The HTML of a page and the (resource, aspect) pairs that it was made from, the page itself not among them."""

    html: bytes
    dependencies: frozenset[tuple[str, str]]


async def render(request: RenderRequest) -> RenderResult:
    """Render a stored page; every view name gets the same HTML. Raises RenderError for what only an edit can mend."""
    try:
        site, title = titles.parse_resource(request.resource)
    except titles.InvalidTitle as error:
        raise RenderError(f"cannot render {request.resource!r}: {error}") from None
    document = (await request.fetch([request.resource]))[request.resource]
    keys = [surrogate_key(request.resource), surrogate_key(site)]
    if document is None:
        body = _document(title, f"<p>There is no page {escape(title.full)}.</p>", 'class="missing-page"')
        return RenderResult(body, CONTENT_TYPE, [], keys, missing=True)
    rendered = await render_page(site, title, page_text(request.resource, document), request.fetch)
    return RenderResult(rendered.html, CONTENT_TYPE, dependency_list(rendered.dependencies), keys)


def page_text(resource: str, document: Document) -> str:
    """The wikitext of a stored page. Raises RenderError when it is too large or not UTF-8."""
    size = len(document.value)
    if size > MAX_PAGE_BYTES:
        raise RenderError(f"{resource} has {size} bytes of wikitext; at most {MAX_PAGE_BYTES} are rendered")
    try:
        return document.value.decode()
    except UnicodeDecodeError as error:
        raise RenderError(f"{resource} is not UTF-8: byte {error.start} is not part of a character") from None


async def render_page(site: str, title: titles.Title, text: str, fetch: Fetch) -> Rendered:
    """Render wikitext as the page `title` of `site`, reading templates and the existence of links through `fetch`."""
    text, target = _redirect(clean(text))
    expander, markers, expanded = await _expand(site, title, text, fetch)
    markup = Markup(site, title, markers)
    blocks = markup.page(expanded)
    if target is not None:
        blocks = f'<p class="redirect">Redirect to {markup.links.page(target, escape(target.full))}</p>\n{blocks}'
    own = titles.resource(title, site)
    present = await _existing(markers.links, fetch)
    html = markers.finish(blocks, present.__contains__, markup.references.html)
    html += _unseen(html, expander.transcluded)
    used = set(expander.transcluded)
    tested = {*markers.links, *expander.tested, *used} - {own}
    dependencies = {(resource, CONTENT) for resource in used - {own}} | {(resource, EXISTENCE) for resource in tested}
    return Rendered(_document(title, html), frozenset(dependencies))


def _redirect(text: str) -> tuple[str, titles.Title | None]:
    """The rest of a redirect's text and its target; the text as it is and None when it is no redirect."""
    match = REDIRECT.match(text)
    if match is None:
        return text, None
    try:
        target = titles.parse(match[1])
    except titles.InvalidTitle:
        return text, None
    return (text, None) if target.interwiki else (text[match.end() :], target)


async def _expand(site: str, title: titles.Title, text: str, fetch: Fetch) -> tuple[Expander, Markers, str]:
    """Expand the text again and again until nothing is wanted that has not been fetched."""
    sources = Sources()
    for _ in range(MAX_ROUNDS):
        markers = Markers()
        expander = Expander(site, title, sources, markers)
        expanded = expander.page(text)
        if not expander.wanted:
            return expander, markers, expanded
        wanted = sorted(expander.wanted)
        documents = await fetch(wanted)
        sources.documents.update({name: documents[name] for name in wanted})
    raise RenderError(f"{title.full}: templates call templates more than {MAX_ROUNDS} levels deep")


async def _existing(resources: list[str], fetch: Fetch) -> set[str]:
    """Those of the resources that are stored."""
    present: set[str] = set()
    for start in range(0, len(resources), LINKS_A_FETCH):
        documents = await fetch(resources[start : start + LINKS_A_FETCH])
        present.update(name for name, document in documents.items() if document is not None)
    return present


def _unseen(html: str, transcluded: dict[str, str]) -> str:
    """Names the templates that left no trace in the HTML, because they stand in an attribute or a link's target."""
    labels = sorted({label for label in transcluded.values() if f'data-template="{escape(label)}"' not in html})
    if not labels:
        return ""
    spans = "".join(f'<span class="template" data-template="{escape(label)}"></span>' for label in labels)
    return f'\n<div class="templates-unseen">{spans}</div>'


def _document(title: titles.Title, blocks: str, attributes: str = "") -> bytes:
    """A whole HTML page, also well-formed as XML."""
    name = escape(title.full)
    return (
        f'<!DOCTYPE html>\n<html>\n<head><meta charset="utf-8"/><title>{name}</title></head>\n'
        f"<body>\n<article{' ' + attributes if attributes else ''}>\n<h1>{name}</h1>\n{blocks}\n</article>\n"
        "</body>\n</html>\n"
    ).encode()
