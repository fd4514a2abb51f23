"""Links: to pages (blue or red), to files, to categories, to other sites.

A link depends on the existence of its target only; which targets exist is asked once for the whole page, so a link
carries a token where its class will stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mwparserfromhell.nodes import ExternalLink, Node, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

from examples.wiki import titles
from examples.wiki.markers import Markers, escape, resolve, strip, unescape
from examples.wiki.safe import address

Inline = Callable[[Wikicode], str]

# Words in a file's link that say how to show it (https://www.mediawiki.org/wiki/Help:Images); the rest is a caption.
_FILE_OPTION = re.compile(
    r"\s*(?:thumb(?:nail)?|frame(?:d|less)?|border|left|right|center|centre|none|baseline|sub|super|top|text-top|middle|"
    r"bottom|text-bottom|upright(?:[= ][\d.]*)?|\d*x?\d+ ?px|(?:alt|link|page|class|lang|thumb(?:nail)?|start|end|"
    r"thumbtime)\s*=.*)\s*",
    re.IGNORECASE | re.DOTALL,
)


class Links:
    """Makes the links of one page; `categories` collects what belongs at its end (key -> label)."""

    def __init__(self, site: str, page: titles.Title, markers: Markers) -> None:
        self._site = site
        self._page = page
        self._markers = markers
        self._numbered = 0
        self.categories: dict[str, str] = {}

    def wiki(self, link: Wikilink, inline: Inline, trail: str) -> str:
        """`[[target|label]]trail` as HTML; what is no title stays as it was written."""
        target = strip(str(link.title))
        label = link.text
        try:
            title = titles.parse(target)
        except titles.InvalidTitle:
            inner = escape(resolve(str(link.title))) + ("" if label is None else "|" + inline(label))
            return f"[[{inner}]]{trail}"
        written = target.strip()
        if title.interwiki:
            shown = inline(label) if label is not None else escape(unescape(written).lstrip(":"))
            return f'<span class="interwiki" title="{escape(title.interwiki)}">{shown}{trail}</span>'
        if not written.startswith(":") and title.namespace == titles.CATEGORY:
            self.categories.setdefault(titles.resource(title, self._site), title.name)
            return trail
        if not written.startswith(":") and title.namespace == titles.FILE:
            file = self.page(title, escape(title.name))
            caption = self._caption(label, inline)
            return f'<span class="file">{file}{": " + caption if caption else ""}</span>{trail}'
        shown = inline(label) if label is not None else ""
        if not strip(shown).strip():
            shown += escape(unescape(written).removeprefix(":").strip().replace("_", " "))
        return self.page(title, shown + trail)

    def page(self, title: titles.Title, shown: str) -> str:
        """A link to a page of this site; `shown` is HTML."""
        if not title.name:
            return f'<a href="{escape(titles.href("", title.fragment)[1:])}">{shown}</a>'
        resource = titles.resource(title, self._site)
        place = escape(titles.href(resource, title.fragment))
        if (title.namespace, title.name) != (self._page.namespace, self._page.name):
            return f'<a{self._markers.link(resource)} href="{place}" title="{escape(title.full)}">{shown}</a>'
        if title.fragment:
            return f'<a href="{place}">{shown}</a>'
        return f'<strong class="selflink">{shown}</strong>'

    def external(self, link: ExternalLink, inline: Inline) -> str:
        """`[address label]` or a bare address; an address of an unknown scheme stays as it was written."""
        place = address(str(link.url))
        label = inline(link.title) if link.title is not None else ""
        if place is None:
            shown = escape(resolve(str(link.url))) + (f" {label}" if label else "")
            return f"[{shown}]" if link.brackets else shown
        if not link.brackets:
            label = escape(unescape(str(link.url)))
        elif not strip(label).strip():
            self._numbered += 1
            label += f"[{self._numbered}]"
        return f'<a class="external" rel="nofollow" href="{escape(place)}">{label}</a>'

    def footer(self) -> str:
        """The page's categories, in the order of their names."""
        if not self.categories:
            return ""
        items = "".join(
            f"<li>{self.page(titles.Title(titles.CATEGORY, label), escape(label))}</li>"
            for _, label in sorted(self.categories.items())
        )
        return f'<ul class="categories">{items}</ul>'

    def _caption(self, label: Wikicode | None, inline: Inline) -> str:
        """The last part of a file's link that is not an option, as HTML."""
        if label is None:
            return ""
        parts: list[list[Node]] = [[]]
        for node in label.nodes:
            if isinstance(node, Text):
                first, *more = str(node.value).split("|")
                parts[-1].append(Text(first))
                parts += [[Text(piece)] for piece in more]
            else:
                parts[-1].append(node)
        captions = [part for part in parts if not _FILE_OPTION.fullmatch("".join(str(node) for node in part))]
        return inline(Wikicode(captions[-1])).strip() if captions else ""
