"""Strip markers: finished HTML set aside while the wikitext around it is still being worked on.

MediaWiki's device (Parser strip state): what is already HTML (a `<nowiki>`, a placeholder) is replaced in the text by
a short token that no wikitext can contain, and put back at the very end. Tokens that end up where no element may stand
(an attribute, a link target) are dropped there. The kinds:

- `H`: held HTML that a reader sees; `B`: the same, but a block; `M`: a mark, invisible, that says what was expanded.
- `L`: the class of a link, known only once the existence of all link targets has been asked for together.
- `R`: a list of references, known only at the end of the page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Literal

_TOKEN = re.compile("\x7f([HBMLR])([0-9]+)\x7f")
_HELD = re.compile("\x7f[HBM]([0-9]+)\x7f")
_MARK = re.compile("\x7fM[0-9]+\x7f")
_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
BLOCK = re.compile("\x7f(?:B|R)[0-9]+\x7f")
"""A token that stands for a block."""

# Everything XML 1.0 forbids (section 2.2) and the token's own delimiter.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """Text that may stand in XML and cannot imitate a token: forbidden characters become U+FFFD, line ends `\\n`."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _FORBIDDEN.sub("\ufffd", text)


def resolve(text: str) -> str:
    """Resolve character references (with their semicolon); tokens stay, and nothing that `clean` forbids gets in."""
    return _REFERENCE.sub(lambda match: clean(html.unescape(match[0])), text) if "&" in text else text


def unescape(text: str) -> str:
    """Resolve character references and drop tokens: for titles, addresses, attributes."""
    return resolve(strip(text))


def strip(text: str) -> str:
    """The text without tokens, for places where no element may stand."""
    return _TOKEN.sub("", text) if "\x7f" in text else text


def visible(text: str) -> str:
    """The text without its marks: what a comparison or a test for emptiness should see."""
    return _MARK.sub("", text) if "\x7fM" in text else text


def escape(text: str) -> str:
    """HTML-escape text, or a value between double quotes; tokens pass unharmed."""
    return html.escape(text, quote=False).replace('"', "&quot;")


class Markers:
    """The set-aside pieces of one rendering."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._links: dict[str, int] = {}
        self._groups: list[str] = []

    def hold(self, markup: str, kind: Literal["H", "B", "M"] = "H") -> str:
        """Set finished HTML aside (held pieces inside it are put back first); returns its token."""
        self._held.append(self._unhold(markup))
        return f"\x7f{kind}{len(self._held) - 1}\x7f"

    def link(self, resource: str) -> str:
        """A token for the link class of a resource, to stand directly after `<a`."""
        return f"\x7fL{self._links.setdefault(resource, len(self._links))}\x7f"

    def references(self, group: str) -> str:
        """A token for the list of references of a group."""
        self._groups.append(group)
        return f"\x7fR{len(self._groups) - 1}\x7f"

    @property
    def links(self) -> list[str]:
        """The resources whose existence the page shows, sorted."""
        return sorted(self._links)

    def size(self, text: str) -> int:
        """The length of a text with its held pieces put back, in characters."""
        if "\x7f" not in text:
            return len(text)
        return len(text) + sum(len(self._held[int(number)]) for number in _HELD.findall(text))

    def _unhold(self, text: str) -> str:
        return _HELD.sub(lambda match: self._held[int(match[1])], text) if "\x7f" in text else text

    def finish(self, markup: str, exists: Callable[[str], bool], references: Callable[[str], str]) -> str:
        """Put everything back: lists of references first (they hold tokens themselves), then the rest."""
        markup = re.sub("\x7fR([0-9]+)\x7f", lambda match: references(self._groups[int(match[1])]), markup)
        attributes = ["" if exists(resource) else ' class="new"' for resource in self._links]

        def put(match: re.Match[str]) -> str:
            kind, number = match[1], int(match[2])
            return attributes[number] if kind == "L" else "" if kind == "R" else self._held[number]

        return _TOKEN.sub(put, markup)
