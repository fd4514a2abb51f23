"""Makes expanded wikitext safe to parse: every bracket that the parser will meet has its partner, in proper order.

The parser tries each opening bracket and backtracks when the closing one never comes, which on hostile text costs time
that grows with the square of its length or worse. Here one linear pass with one stack pairs `[[ ]]`, `[http ]`,
`{| |}` and the known HTML tags; what has no partner, or is not a known tag, is written as a character reference and so
becomes text. The result is cut into logical lines (a line, or several held together by a bracket), each parsed alone:
wikitext is a language of lines, and the cost of any one stays small.
"""

from __future__ import annotations

import re

MAX_OPEN = 30
"""Brackets open at once in what is parsed; the parser itself stops at 40."""

_INLINE_TAGS_WORDS = (
    "abbr b bdi bdo big br cite code data del dfn em font i ins kbd mark q rp rt ruby s samp small span strike "
    "strong sub sup time tt u var wbr"
)
INLINE_TAGS = frozenset(_INLINE_TAGS_WORDS.split())
_BLOCK_TAGS_WORDS = (
    "blockquote caption center dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p poem table tbody td th thead tr ul"
)
BLOCK_TAGS = frozenset(_BLOCK_TAGS_WORDS.split())
"""Together the HTML that MediaWiki lets through (its Sanitizer), and `poem`."""

_WIKI_TAGS = frozenset({"ref", "references"})
_VOID = frozenset({"br", "hr", "wbr"})
# A new one of these ends the last one, as in HTML where their end tags may be left out.
_IMPLIED_END = frozenset({"li", "dd", "dt", "tr", "td", "th", "p"})

_SIGN = re.compile(
    r"(?P<tag><(?P<end>/?)(?P<name>[A-Za-z][A-Za-z0-9]*)(?P<rest>(?:[\s/][^<>]*)?)>)"
    r"|(?P<table>(?:(?<=\n)|\A)[ \t:]*\{\|)"
    r"|(?P<tableend>(?<=\n)[ \t]*\|\})"
    r"|\[\[|\]\]|\[(?=(?:https?:|ftps?:|mailto:|irc:|news:)?//|mailto:|news:)|\]|<|\{|\}|\n",
    re.IGNORECASE,
)
_SWITCH = re.compile(
    r"__(?:NOTOC|FORCETOC|TOC|NOEDITSECTION|NEWSECTIONLINK|NONEWSECTIONLINK|NOGALLERY|HIDDENCAT|NOCONTENTCONVERT|NOCC|"
    r"NOTITLECONVERT|NOTC|INDEX|NOINDEX|STATICREDIRECT|DISAMBIG|EXPECTUNUSEDCATEGORY)__"
)


def _literal(text: str) -> str:
    """The text with all that could open or close a construct written as character references."""
    return "".join(f"&#{ord(char)};" if char in "<>[]{}|" else char for char in text)


class _Pairing:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.depth: list[int] = []
        self._open: list[tuple[str, int]] = []

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.depth.append(0)

    def open(self, kind: str, text: str, source: str) -> None:
        """Take an opener in; until its partner comes it stands as text."""
        if len(self._open) >= MAX_OPEN:
            self.add(_literal(source))
            return
        self._open.append((kind, len(self.pieces)))
        self.add(text)

    def close(self, kind: str, text: str, source: str) -> None:
        for at in range(len(self._open) - 1, -1, -1):
            opened, index = self._open[at]
            if opened == kind:
                self.drop(at + 1)
                self._open.pop()
                self.depth[index] = 1
                self.add(text)
                self.depth[-1] = -1
                return
            # A cell's contents cannot close what was opened outside of the table.
            if opened == "{|":
                break
        self.add(_literal(source))

    def drop(self, keep: int) -> None:
        """Turn all openers above the first `keep` into text."""
        for _, index in self._open[keep:]:
            self.pieces[index] = _literal(self.pieces[index])
        del self._open[keep:]

    def end_line(self) -> None:
        """External links do not go over the end of a line."""
        for at, (kind, _) in enumerate(self._open):
            if kind == "[":
                self.drop(at)
                return

    def top(self) -> str:
        return self._open[-1][0] if self._open else ""


def logical_lines(text: str) -> list[str]:
    """Cut tamed wikitext into pieces that can each be parsed alone, without the newlines between them."""
    pairing = _Pairing()
    position = 0
    text = _SWITCH.sub("", text)
    for sign in _SIGN.finditer(text):
        if sign.start() > position:
            pairing.add(text[position : sign.start()])
        position = sign.end()
        _take(pairing, sign)
    if position < len(text):
        pairing.add(text[position:])
    pairing.drop(0)
    return _cut(pairing)


def _take(pairing: _Pairing, sign: re.Match[str]) -> None:
    source = sign[0]
    if sign["tag"]:
        _take_tag(pairing, sign["name"].lower(), bool(sign["end"]), sign["rest"], source)
    elif sign["table"]:
        pairing.open("{|", source, source)
    elif sign["tableend"]:
        pairing.close("{|", "|}", source)
    elif source == "\n":
        pairing.end_line()
        pairing.add("\n")
    elif source in ("[[", "["):
        pairing.open(source, source, source)
    elif source == "]]":
        pairing.close("[[", source, source)
    elif source == "]" and pairing.top() == "[":
        pairing.close("[", source, source)
    else:
        pairing.add(_literal(source))


def _take_tag(pairing: _Pairing, name: str, end: bool, rest: str, source: str) -> None:
    if name not in INLINE_TAGS and name not in BLOCK_TAGS and name not in _WIKI_TAGS:
        pairing.add(_literal(source))
    elif name in _VOID:
        pairing.add(f"<{name}{rest.rstrip('/ ')}/>")
    elif end:
        pairing.close(name, f"</{name}>", source)
    elif rest.endswith("/"):
        # MediaWiki keeps `<ref/>` empty; of an HTML tag it drops the slash's meaning, here it stays empty.
        pairing.add(f"<{name}{rest.rstrip('/')}/>" if name in _WIKI_TAGS else f"<{name}{rest.rstrip('/')}></{name}>")
    else:
        if name in _IMPLIED_END and pairing.top() == name:
            pairing.close(name, f"</{name}>", source)
        pairing.open(name, f"<{name}{rest}>", source)


def _cut(pairing: _Pairing) -> list[str]:
    lines: list[str] = []
    current: list[str] = []
    depth = 0
    for piece, change in zip(pairing.pieces, pairing.depth, strict=True):
        depth += change
        if piece == "\n" and depth == 0:
            lines.append("".join(current))
            current.clear()
        else:
            current.append(piece)
    lines.append("".join(current))
    return lines
