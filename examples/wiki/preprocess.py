"""The first reading of wikitext: only `{{calls}}`, `{{{arguments}}}`, comments and verbatim tags, as a small tree.

Calls are expanded as text before anything else is understood, as MediaWiki's preprocessor does, because a template
may yield half a table or the target of a link. The scanner reads each character once, whatever the input: an opener
without its closer is ordinary text, and past `MAX_NESTING` open brackets further openers are ordinary text too.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field

MAX_NESTING = 100
"""Brackets open at once; the same limit as MediaWiki's preprocessor (wgMaxPPExpandDepth)."""

# Tags whose content is not wikitext (https://www.mediawiki.org/wiki/Parser_extension_tags).
_VERBATIM_WORDS = (
    "nowiki pre math chem source syntaxhighlight timeline score hiero graph imagemap inputbox maplink mapframe "
    "templatedata gallery"
)
VERBATIM = frozenset(_VERBATIM_WORDS.split())

_SIGN = re.compile(r"<!--|<[A-Za-z]+(?=[\s/>])[^<>]*>|\{\{+|\}\}+|\[\[|\]\]|\||=")
_TAG_NAME = re.compile(r"<([A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A tag whose content is not wikitext; `content` is None for `<tag/>`."""

    name: str
    attributes: str
    content: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """One `|`-separated part of a call; `name` is what stands before its first `=`, None without one."""

    name: list[Node] | None
    value: list[Node]


@dataclass(frozen=True, slots=True)
class Call:
    """`{{first|part|…}}`."""

    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Argument:
    """`{{{first|default|…}}}`; what follows the default is ignored, as in MediaWiki."""

    parts: list[Part]


Node = str | Verbatim | Call | Argument


@dataclass(slots=True)
class _Open:
    """A bracket that is still open: its parts so far, and for each where its `=` stood in the list of nodes."""

    bracket: str
    parts: list[list[Node]] = field(default_factory=lambda: [[]])
    equals: list[int | None] = field(default_factory=lambda: [None])

    def source(self) -> list[Node]:
        """What the reader wrote, for a bracket that turns out to be no bracket."""
        nodes: list[Node] = [self.bracket]
        for number, (part, equals) in enumerate(zip(self.parts, self.equals, strict=True)):
            if number:
                nodes.append("|")
            if equals is None:
                nodes += part
            else:
                nodes += [*part[:equals], "=", *part[equals:]]
        return nodes


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._closers: dict[str, tuple[list[int], list[int]]] = {}
        self._root: list[Node] = []
        self._stack: list[_Open] = []

    def run(self) -> list[Node]:
        text, position = self._text, 0
        while match := _SIGN.search(text, position):
            if match.start() > position:
                self._emit(text[position : match.start()])
            position = self._take(match[0], match.start(), match.end())
        if position < len(text):
            self._emit(text[position:])
        for still_open in self._stack:
            self._root += still_open.source()
        return self._root

    def _emit(self, node: Node) -> None:
        (self._stack[-1].parts[-1] if self._stack else self._root).append(node)

    def _take(self, sign: str, start: int, end: int) -> int:
        """Take one sign in; returns where reading goes on."""
        top = self._stack[-1] if self._stack else None
        in_call = top is not None and top.bracket[0] == "{"
        if sign == "<!--":
            return self._comment(start)
        if sign[0] == "<":
            return self._tag(sign, end)
        if sign[0] in "{[":
            if len(self._stack) < MAX_NESTING:
                if len(sign) > MAX_NESTING:
                    self._emit(sign[:-MAX_NESTING])
                self._stack.append(_Open(sign[-MAX_NESTING:]))
            else:
                self._emit(sign)
        elif sign[0] == "}":
            self._close(len(sign))
        elif sign == "]]" and top is not None and top.bracket == "[[":
            self._stack.pop()
            for node in top.source():
                self._emit(node)
            self._emit("]]")
        elif sign == "|" and top is not None and in_call:
            top.parts.append([])
            top.equals.append(None)
        elif sign == "=" and top is not None and in_call and len(top.parts) > 1 and top.equals[-1] is None:
            top.equals[-1] = len(top.parts[-1])
        else:
            self._emit(sign)
        return end

    def _comment(self, start: int) -> int:
        """Drop a comment; with its whole line when it is alone there."""
        text = self._text
        end = text.find("-->", start + 4)
        end = len(text) if end < 0 else end + 3
        before, after = start, end
        while before > 0 and text[before - 1] in " \t":
            before -= 1
        while after < len(text) and text[after] in " \t":
            after += 1
        if before == 0 or text[before - 1] != "\n" or text[after : after + 1] != "\n":
            return end
        nodes = self._stack[-1].parts[-1] if self._stack else self._root
        if nodes and isinstance(nodes[-1], str):
            nodes[-1] = nodes[-1].rstrip(" \t")
        return after + 1

    def _tag(self, tag: str, end: int) -> int:
        name = _TAG_NAME.match(tag)
        word = name[1].lower() if name else ""
        if word not in VERBATIM:
            self._emit(tag)
            return end
        attributes = tag[1 + len(word) : -1]
        if attributes.endswith("/"):
            self._emit(Verbatim(word, attributes[:-1], None))
            return end
        starts, ends = self._closing_tags(word)
        close = bisect_left(starts, end)
        if close == len(starts):
            self._emit(tag)
            return end
        self._emit(Verbatim(word, attributes, self._text[end : starts[close]]))
        return ends[close]

    def _closing_tags(self, word: str) -> tuple[list[int], list[int]]:
        """Where the closing tags of a word start and end, found once: else each unclosed opener costs a search."""
        if word not in self._closers:
            found = list(re.finditer(rf"</{word}\s*>", self._text, re.IGNORECASE))
            self._closers[word] = [match.start() for match in found], [match.end() for match in found]
        return self._closers[word]

    def _close(self, count: int) -> None:
        """Match `count` closing braces against the open ones, three at a time where both sides have three."""
        while count >= 2 and self._stack and self._stack[-1].bracket[0] == "{":
            top = self._stack.pop()
            matched = min(3, count, len(top.bracket))
            parts = [
                Part(None, nodes) if at is None else Part(nodes[:at], nodes[at:])
                for nodes, at in zip(top.parts, top.equals, strict=True)
            ]
            node: Node = Argument(parts) if matched == 3 else Call(parts)
            count -= matched
            left = len(top.bracket) - matched
            if left >= 2:
                self._stack.append(_Open("{" * left, [[node]]))
            else:
                if left:
                    self._emit("{")
                self._emit(node)
        if count:
            self._emit("}" * count)


def scan(text: str) -> list[Node]:
    """The tree of a text. Never fails: whatever is not a construct is text."""
    return _Scanner(text).run()
