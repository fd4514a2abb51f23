"""From parsed wikitext to HTML: lines into blocks, and inside a line text, styles, links, tags and tables.

The parser (mwparserfromhell) gets one logical line at a time; every node that it can return has one place here, and
what has no meaning in HTML is shown as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Node, Tag, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

from examples.wiki import safe, titles
from examples.wiki.blocks import MAX_LIST_DEPTH, Blocks
from examples.wiki.links import Links
from examples.wiki.markers import BLOCK, Markers, escape, resolve, strip, unescape, visible
from examples.wiki.references import References
from examples.wiki.tame import BLOCK_TAGS, INLINE_TAGS, logical_lines

MAX_STYLED_LINE = 128 * 1024
"""A longer line is parsed without bold and italics: pairing its quotes takes time that grows with its square."""

_PLAIN = re.compile(r"(?! |----)[^\[\]<>'&*#:;={}|\x7f]*")
_TOO_DEEP = re.compile(rf"\A([*#:;]{{{MAX_LIST_DEPTH}}})[*#:;]+")
_TRAIL = re.compile(r"[a-z]+")
_LIST = {"*", "#", ":", ";"}
_STRUCTURE = frozenset({"table", "tbody", "thead", "tr", "ul", "ol", "dl"})
_RENAMED = {"big": "span", "center": "div", "font": "span", "poem": "div", "strike": "s", "tt": "code"}


class _Line:
    """A line in the making: list characters, then pieces of HTML, each a block or not."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.pieces: list[tuple[str, bool]] = []
        self.blank_first = False

    def add(self, html: str, is_block: bool = False) -> None:
        if html:
            self.pieces.append((html, is_block))

    def into(self, blocks: Blocks) -> None:
        if self.prefix:
            blocks.item(self.prefix, "".join(html for html, _ in self.pieces))
            return
        if not any(is_block for _, is_block in self.pieces):
            html = "".join(html for html, _ in self.pieces)
            if self.blank_first and visible(html).strip():
                blocks.preformatted(html[1:])
            else:
                self._running(html, blocks, ends_paragraph=True)
            return
        running = ""
        for html, is_block in self.pieces:
            if not is_block:
                running += html
                continue
            self._running(running, blocks)
            blocks.block(html)
            running = ""
        self._running(running, blocks)

    def _running(self, html: str, blocks: Blocks, *, ends_paragraph: bool = False) -> None:
        if visible(html).strip():
            blocks.text(html)
        elif html.strip() or ends_paragraph:
            blocks.nothing(html.strip())


class Markup:
    """Turns the expanded wikitext of one page into HTML with tokens."""

    def __init__(self, site: str, page: titles.Title, markers: Markers) -> None:
        self.links = Links(site, page, markers)
        self.references = References(markers)
        self._ids: dict[str, int] = {}

    def page(self, wikitext: str) -> str:
        """The page's blocks, its forgotten lists of notes and its categories."""
        blocks = Blocks()
        for line in logical_lines(wikitext):
            if _PLAIN.fullmatch(line):
                (blocks.text if line.strip() else blocks.nothing)(escape(line.strip()))
            else:
                line = _TOO_DEEP.sub(r"\1", line)
                code = mwparserfromhell.parse(line, skip_style_tags=len(line) > MAX_STYLED_LINE)
                self._flow(code.nodes, blocks)
        ends = (self.references.place_rest(), self.links.footer())
        return "\n".join(part for part in (blocks.finish(), *ends) if part)

    def _flow(self, nodes: list[Node], blocks: Blocks, *, line_start: bool = True) -> None:
        """Break nodes into lines and hand them on; `line_start` false when the first is not at the start of one."""
        line, fresh = _Line(), line_start
        for node, text in _trailed(nodes):
            if isinstance(node, Text):
                for number, piece in enumerate(text.split("\n")):
                    if number:
                        line.into(blocks)
                        line, fresh = _Line(), True
                    if piece:
                        line.blank_first = line.blank_first or (fresh and not line.pieces and piece[0] == " ")
                        _add_text(line, piece)
            elif isinstance(node, Tag) and node.wiki_markup in _LIST:
                line = self._list_sign(str(node.wiki_markup), line, blocks)
            else:
                line.add(*self._node(node, text))
        if line.prefix or line.pieces:
            line.into(blocks)

    def _list_sign(self, sign: str, line: _Line, blocks: Blocks) -> _Line:
        if not line.pieces:
            line.prefix += sign
        elif sign == ":" and line.prefix.endswith(";"):
            line.into(blocks)
            return _Line(line.prefix[:-1] + ":")
        else:
            line.add(sign)
        return line

    def _inline(self, code: Wikicode) -> str:
        return "".join(
            escape(text) if isinstance(node, Text) else self._node(node, text)[0] for node, text in _trailed(code.nodes)
        )

    def _content(self, code: Wikicode | None) -> tuple[str, bool]:
        """The inside of an element: as one line when it is one, else as blocks."""
        if code is None:
            return "", False
        if not any(_is_block(node) for node in code.nodes):
            return self._inline(code), False
        return self._blocks(code), True

    def _blocks(self, code: Wikicode | None) -> str:
        blocks = Blocks()
        if code is not None:
            self._flow(code.nodes, blocks, line_start=False)
        return blocks.finish(unwrap=True)

    def _node(self, node: Node, trail: str) -> tuple[str, bool]:
        """One node as HTML, and whether it is a block."""
        if isinstance(node, Tag):
            return self._tag(node)
        if isinstance(node, Wikilink):
            return self.links.wiki(node, self._inline, trail), False
        if isinstance(node, ExternalLink):
            return self.links.external(node, self._inline), False
        if isinstance(node, HTMLEntity):
            return escape(unescape(str(node))), False
        if isinstance(node, Heading):
            return self._heading(node), True
        return escape(resolve(str(node))), False

    def _heading(self, node: Heading) -> str:
        level = min(max(node.level, 1), 6)
        html = self._inline(node.title).strip()
        words = unescape(re.sub(r"<[^>]*>", "", strip(html))).split()
        anchor = "_".join(words)[:200] or "section"
        self._ids[anchor] = self._ids.get(anchor, 0) + 1
        if self._ids[anchor] > 1:
            anchor += f"_{self._ids[anchor]}"
        return f'\n<h{level} id="{escape(anchor)}">{html}</h{level}>\n'

    def _tag(self, node: Tag) -> tuple[str, bool]:
        name = str(node.tag).strip().lower()
        if name == "ref":
            return self._ref(node), False
        if name == "references":
            return self._reference_list(node), True
        if name not in INLINE_TAGS and name not in BLOCK_TAGS:
            return escape(resolve(str(node))), False
        attributes = safe.attributes(node.attributes)
        if name in ("br", "wbr", "hr"):
            return f"<{name}{attributes}/>", name == "hr"
        element = _RENAMED.get(name, name)
        if element != name and "class=" not in attributes:
            attributes = f' class="{name}"' + attributes
        if name in _STRUCTURE:
            return f"\n<{element}{attributes}>{self._structure(node)}</{element}>\n", True
        if name == "poem":
            return f"<div{attributes}>{self._inline(node.contents).strip().replace(chr(10), '<br/>')}</div>", True
        if name in BLOCK_TAGS:
            return f"<{element}{attributes}>{self._blocks(node.contents)}</{element}>", True
        html, is_block = self._content(node.contents)
        return f"<{element}{attributes}>{html}</{element}>", is_block

    def _structure(self, node: Tag) -> str:
        """The inside of a table, row or list, where only rows, cells or items may stand; stray text gets its own."""
        name = str(node.tag).strip().lower()
        holder = {"tr": "td", "ul": "li", "ol": "li", "dl": "dd"}.get(name, "caption")
        out: list[str] = []
        row: list[str] = []
        for child in node.contents.nodes if node.contents is not None else ():
            child_name = str(child.tag).strip().lower() if isinstance(child, Tag) else ""
            if isinstance(child, Tag) and child_name in ("td", "th") and name != "tr":
                caption = self._caption(child)
                if caption is None:
                    row.append(self._tag(child)[0])
                else:
                    out.append(caption)
                continue
            if row and child_name:
                out.append(f"\n<tr>{''.join(row)}</tr>\n")
                row = []
            if isinstance(child, Tag) and child_name in (
                "tr",
                "td",
                "th",
                "caption",
                "tbody",
                "thead",
                "li",
                "dd",
                "dt",
            ):
                out.append(self._tag(child)[0])
            else:
                stray = self._node(child, "")[0] if not isinstance(child, Text) else escape(str(child.value))
                out.append(f"<{holder}>{stray}</{holder}>" if strip(stray).strip() else stray)
        if row:
            out.append(f"\n<tr>{''.join(row)}</tr>\n")
        return "".join(out)

    def _caption(self, cell: Tag) -> str | None:
        """A `|+` line, which the parser gives as a cell that begins with a plus sign."""
        nodes = cell.contents.nodes if cell.contents is not None else []
        if cell.wiki_markup != "|" or not nodes or not isinstance(nodes[0], Text):
            return None
        first = str(nodes[0].value)
        if not first.startswith("+"):
            return None
        return f"<caption>{self._inline(Wikicode([Text(first[1:]), *nodes[1:]])).strip()}</caption>"

    def _ref(self, node: Tag) -> str:
        group, name = safe.attribute(node.attributes, "group"), safe.attribute(node.attributes, "name")
        if node.self_closing:
            return self.references.use(group, name, None)
        html = self._content(node.contents)[0].strip()
        return self.references.use(group, name, html if html or not name else None)

    def _reference_list(self, node: Tag) -> str:
        group = safe.attribute(node.attributes, "group")
        for child in node.contents.nodes if not node.self_closing and node.contents is not None else ():
            if isinstance(child, Tag) and str(child.tag).strip().lower() == "ref" and not child.self_closing:
                child_group = safe.attribute(child.attributes, "group") or group
                name = safe.attribute(child.attributes, "name")
                self.references.define(child_group, name, self._content(child.contents)[0].strip())
        return self.references.place(group)


def _trailed(nodes: list[Node]) -> Iterator[tuple[Node, str]]:
    """Nodes with their text; letters right after a link (`[[dog]]s`) go with the link."""
    taken = 0
    for number, node in enumerate(nodes):
        if isinstance(node, Text):
            yield node, str(node.value)[taken:]
            taken = 0
        elif isinstance(node, Wikilink):
            after = nodes[number + 1] if number + 1 < len(nodes) else None
            match = _TRAIL.match(str(after.value)) if isinstance(after, Text) else None
            taken = match.end() if match else 0
            yield node, match[0] if match else ""
        else:
            yield node, ""


def _add_text(line: _Line, text: str) -> None:
    """Text into a line, with block tokens in it as blocks."""
    position = 0
    for token in BLOCK.finditer(text):
        line.add(escape(text[position : token.start()]))
        line.add(token[0], True)
        position = token.end()
    line.add(escape(text[position:]))


def _is_block(node: Node) -> bool:
    if isinstance(node, Text):
        return "\n\n" in node.value or bool(BLOCK.search(str(node.value)))
    if isinstance(node, Tag):
        name = str(node.tag).strip().lower()
        return name in BLOCK_TAGS or (
            node.contents is not None and any(_is_block(inner) for inner in node.contents.nodes)
        )
    return isinstance(node, Heading)
