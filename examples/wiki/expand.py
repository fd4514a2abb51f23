"""Expansion: a page's wikitext with every call replaced by what it stands for, and a list of what was read for it.

One `Expander` makes one attempt with the documents that are at hand. Pages that it would have needed are collected in
`wanted`; the caller fetches them and tries again, so that expansion itself needs no I/O. Arguments are expanded before
the call (MediaWiki does it on use): a template is a dependency wherever the page's text calls it, used or not.

Whatever goes wrong is shown in place and never raised: a missing template, a loop, a limit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from examples.wiki import include, titles
from examples.wiki.functions import FUNCTIONS, UNSUPPORTED_FUNCTIONS, UNSUPPORTED_VARIABLES, VARIABLES
from examples.wiki.markers import Markers, clean, escape, strip, unescape, visible
from examples.wiki.preprocess import VERBATIM, Argument, Call, Node, Part, scan
from libs.render.types import Document

MAX_DEPTH = 60
"""Calls within calls, over all templates; MediaWiki allows 40 templates and 100 nested constructs."""

MAX_CALLS = 20_000
"""Calls in one page, so that templates that call each other many times stay bounded."""

MAX_EXPANDED_CHARS = 2 * 1024 * 1024
"""Text that calls may yield in one page; MediaWiki's post-expand include size (wgMaxArticleSize) is 2 MiB."""

REDIRECT = re.compile(r"\s*#redirect\s*:?\s*\[\[([^\[\]|\n]+)(?:\|[^\[\]\n]*)?\]\]", re.IGNORECASE)
"""A redirect: the target is group 1."""

# What must begin a line to mean anything. MediaWiki starts a new line for all of these but headings and rules (T2529).
_LINE_START = ("{|", "*", "#", ":", ";")
_BLOCK_START = (*_LINE_START, "=", "----", "|", "!")


@dataclass(slots=True)
class Sources:
    """What is known so far, kept between attempts: documents by resource, and the trees of templates read once."""

    documents: dict[str, Document | None] = field(default_factory=dict)
    trees: dict[str, Template | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Template:
    """A transcludable text: its tree, its length in characters, the digest of what it transcludes, its redirect."""

    tree: list[Node]
    size: int
    digest: str
    redirect: str


@dataclass(frozen=True, slots=True)
class _Frame:
    """One level of transclusion: its arguments, the resources being expanded around it, and the depth of calls."""

    arguments: Mapping[str, str] = field(default_factory=dict)
    around: tuple[str, ...] = ()
    depth: int = 0

    def deeper(self) -> _Frame:
        return _Frame(self.arguments, self.around, self.depth + 1)


def template_label(title: titles.Title) -> str:
    """The name of a transcluded page as it would be written between braces: `Cite web`, `:Earth`, `Portal:Art`."""
    if title.namespace == titles.TEMPLATE:
        return title.name
    return title.full if title.namespace else f":{title.name}"


class Expander:
    """One attempt. After `page()`: `transcluded` (resource -> label), `tested` (existence only) and `wanted`."""

    def __init__(self, site: str, page: titles.Title, sources: Sources, markers: Markers) -> None:
        self._site = site
        self.page_title = page
        self._sources = sources
        self._markers = markers
        self._calls = 0
        self._expanded = 0
        self._exhausted = ""
        self.transcluded: dict[str, str] = {}
        self.tested: set[str] = set()
        self.wanted: set[str] = set()

    def page(self, text: str) -> str:
        """Expand a page's own text. Returns wikitext with tokens."""
        own = titles.resource(self.page_title, self._site)
        return self.expand(scan(include.as_page(text)), _Frame(around=(own,)))

    def expand(self, nodes: list[Node], frame: _Frame) -> str:
        out: list[str] = []
        for node in nodes:
            if isinstance(node, str):
                out.append(node)
                continue
            if isinstance(node, Call):
                piece = self._call(node, frame)
                if piece.startswith(_LINE_START) and out and not out[-1].endswith("\n"):
                    piece = "\n" + piece
            elif isinstance(node, Argument):
                piece = self._argument(node, frame)
            else:
                piece = self.verbatim(node.name, node.attributes, node.content, frame)
            if piece:
                out.append(piece)
        return "".join(out)

    def part(self, part: Part, frame: _Frame) -> str:
        value = self.expand(part.value, frame)
        return value if part.name is None else f"{self.expand(part.name, frame)}={value}"

    def _argument(self, node: Argument, frame: _Frame) -> str:
        if frame.depth >= MAX_DEPTH:
            return self._error("", f"more than {MAX_DEPTH} levels of calls")
        deeper = frame.deeper()
        name = strip(self.part(node.parts[0], deeper)).strip()
        if name in frame.arguments:
            value = frame.arguments[name]
            return value if self._charge(self._markers.size(value)) else ""
        if len(node.parts) > 1:
            return self.part(node.parts[1], deeper)
        return self._markers.hold(escape("{{{" + name + "}}}"))

    def _call(self, node: Call, frame: _Frame) -> str:
        self._calls += 1
        if self._calls > MAX_CALLS:
            self._exhausted = self._exhausted or f"more than {MAX_CALLS} calls in one page"
        if self._exhausted:
            return self._error("", self._exhausted)
        if frame.depth >= MAX_DEPTH:
            return self._error("", f"more than {MAX_DEPTH} levels of calls")
        frame = frame.deeper()
        head = self.part(node.parts[0], frame)
        name, rest = visible(head).strip(), node.parts[1:]
        if not rest and name in VARIABLES:
            return VARIABLES[name](self.page_title)
        word, colon, first = name.partition(":")
        word = word.strip().lower()
        if colon and word in ("subst", "safesubst") and first.lstrip().startswith("#"):
            word, colon, first = (piece.strip() for piece in first.partition(":"))
        if colon and word in FUNCTIONS:
            return FUNCTIONS[word](_Scope(self, frame), first, rest)
        if word.startswith("#") or (colon and word in UNSUPPORTED_FUNCTIONS):
            return self._unsupported(word + colon, name, rest, frame)
        if not rest and UNSUPPORTED_VARIABLES.fullmatch(name):
            return self._unsupported(name, name, rest, frame)
        try:
            title = self._title(name)
        except titles.InvalidTitle:
            return "{{" + "|".join([head, *(self.part(part, frame) for part in rest)]) + "}}"
        return self._transclude(title, rest, frame)

    def _title(self, name: str) -> titles.Title:
        if name.startswith("/"):
            return titles.parse(self.page_title.full + name)
        title = titles.parse_template(name)
        if title.interwiki:
            raise titles.InvalidTitle("a page of another site cannot be transcluded")
        return title

    def _transclude(self, title: titles.Title, parts: list[Part], frame: _Frame) -> str:
        arguments, source = self._arguments(parts, frame)
        label, resource = template_label(title), titles.resource(title, self._site)
        template = self._template(resource, label)
        if isinstance(template, str):
            return template
        if template is not None and template.redirect:
            target = titles.parse(template.redirect)
            label, resource = template_label(target), titles.resource(target, self._site)
            template = self._template(resource, label)
            if isinstance(template, str):
                return template
        if template is None:
            shown = escape("{{" + label + source + "}}")
            placeholder = f'<span class="missing-template" data-template="{escape(label)}">{shown}</span>'
            return self._markers.hold(placeholder) if self._charge(self._markers.size(placeholder)) else ""
        if resource in frame.around:
            return self._error(label, f"{label} calls itself")
        if not self._charge(template.size):
            return self._error(label, self._exhausted)
        body = self.expand(template.tree, _Frame(arguments, (*frame.around, resource), frame.depth))
        mark = f'<span class="template" data-template="{escape(label)}" data-digest="{template.digest}"></span>'
        return _attach(body, self._markers.hold(mark, "M"))

    def _arguments(self, parts: list[Part], frame: _Frame) -> tuple[dict[str, str], str]:
        """The arguments by name or number (positional ones keep their blanks), and the call's parts as written."""
        arguments: dict[str, str] = {}
        written: list[str] = []
        position = 0
        for part in parts:
            value = self.expand(part.value, frame)
            if part.name is None:
                position += 1
                arguments[str(position)] = value
                written.append("|" + value)
            else:
                name = self.expand(part.name, frame)
                arguments[strip(name).strip()] = value.strip()
                written.append(f"|{name}={value}")
        return arguments, "".join(written)

    def _template(self, resource: str, label: str) -> Template | None | str:
        """The template stored under a resource, None when there is none, or the text to show instead of it."""
        self.transcluded[resource] = label
        if resource in self._sources.trees:
            return self._sources.trees[resource]
        if resource not in self._sources.documents:
            self.wanted.add(resource)
            return ""
        document = self._sources.documents[resource]
        if document is None:
            self._sources.trees[resource] = None
            return None
        try:
            text = clean(document.value.decode())
        except UnicodeDecodeError as error:
            return self._error(label, f"{label} is not UTF-8 (byte {error.start})")
        redirect = REDIRECT.match(text)
        target = redirect[1] if redirect and _is_title(redirect[1]) else ""
        text = include.as_template(text)
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        self._sources.trees[resource] = template = Template(scan(text), len(text), digest, target)
        return template

    def exists(self, title: titles.Title) -> bool:
        resource = titles.resource(title, self._site)
        self.tested.add(resource)
        if resource not in self._sources.documents:
            self.wanted.add(resource)
            return False
        return self._sources.documents[resource] is not None

    def verbatim(self, name: str, attributes: str, content: str | None, frame: _Frame) -> str:
        """A tag whose content is not wikitext, as a token (a gallery as a list of its files)."""
        text = content or ""
        if name == "nowiki":
            return self._markers.hold(escape(unescape(text)))
        if name in ("math", "chem") or (name in ("source", "syntaxhighlight") and " inline" in attributes):
            return self._markers.hold(f'<code class="{name}">{escape(unescape(text))}</code>')
        if name in ("pre", "source", "syntaxhighlight"):
            shown = text.strip("\n") if name != "pre" else text.removeprefix("\n")
            return "\n" + self._markers.hold(f'<pre class="{name}">{escape(unescape(shown))}</pre>', "B") + "\n"
        if name == "gallery" and frame.depth < MAX_DEPTH:
            lines = self.expand(scan(text), frame.deeper()).split("\n")
            items = (f"* [[:File:{line.strip().removeprefix('File:').removeprefix('Image:')}]]" for line in lines)
            return "\n" + "\n".join(item for item, line in zip(items, lines, strict=True) if line.strip()) + "\n"
        return self._markers.hold(f'<span class="unsupported" data-name="{escape(name)}">&lt;{escape(name)}&gt;</span>')

    def _unsupported(self, name: str, head: str, parts: list[Part], frame: _Frame) -> str:
        shown = escape("{{" + "|".join([head, *(self.part(part, frame) for part in parts)]) + "}}")
        placeholder = f'<span class="unsupported" data-name="{escape(strip(name))}">{shown}</span>'
        return self._markers.hold(placeholder) if self._charge(self._markers.size(placeholder)) else ""

    def _error(self, label: str, reason: str) -> str:
        attribute = f' data-template="{escape(label)}"' if label else ""
        return self._markers.hold(f'<strong class="error"{attribute}>{escape(reason)}</strong>')

    def _charge(self, size: int) -> bool:
        """Count expanded text against the limit; False once it is spent."""
        self._expanded += size
        if self._expanded > MAX_EXPANDED_CHARS:
            self._exhausted = self._exhausted or f"templates yield more than {MAX_EXPANDED_CHARS} characters"
        return not self._exhausted


@dataclass(frozen=True, slots=True)
class _Scope:
    """A parser function's view of the call that it stands in."""

    expander: Expander
    frame: _Frame

    @property
    def page(self) -> titles.Title:
        return self.expander.page_title

    def text(self, part: Part) -> str:
        return self.expander.part(part, self.frame)

    def split(self, part: Part) -> tuple[str | None, str]:
        name = None if part.name is None else self.expander.expand(part.name, self.frame)
        return name, self.expander.expand(part.value, self.frame)

    def exists(self, title: titles.Title) -> bool:
        return self.expander.exists(title)

    def tag(self, name: str, content: str, attributes: str) -> str:
        if name in VERBATIM:
            return self.expander.verbatim(name, attributes, content, self.frame)
        return f"<{name}{attributes}>{content}</{name}>"


def _is_title(text: str) -> bool:
    try:
        return not titles.parse(text).interwiki
    except titles.InvalidTitle:
        return False


def _attach(body: str, mark: str) -> str:
    """A template's text with its mark: in front, or at the end where the text must begin a line."""
    if not body.lstrip().startswith(_BLOCK_START):
        return mark + body
    text = body.rstrip()
    return text + mark + body[len(text) :]
